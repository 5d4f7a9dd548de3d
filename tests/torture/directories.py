"""Whether the directories of finished jobs are as docs/job-directory.md says."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_FILES = {
    *("job.json", "process.json", "stdout", "stderr", "records", "index", "marks.json"),
    *("outcome.json", "expires", "lock", "ask", "wake", "lease", "freed.json", "supervisor.log"),
}
_PROCESS = {
    *("hostname", "machine_id", "boot_id", "pid_namespace", "pid", "start_time"),
    *("started", "supervisor"),
}
_OUTCOME = {
    *("format", "exit_status", "signal", "reason", "error", "note", "left_behind", "started"),
    *("finished", "sizes"),
}
_LINE = 64


def complaints(state: Path) -> list[str]:
    found = []
    for directory in sorted(state.glob("jobs/*")):
        found += [f"{directory.name}: {complaint}" for complaint in _job(directory)]
        if (state / "gone" / directory.name).exists():
            found.append(f"{directory.name}: it is there and in gone/")
    return found


def _job(directory: Path) -> Iterator[str]:
    if _mode(directory) != 0o700:
        yield f"mode {_mode(directory):o}"
    names = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    if names - _FILES:
        yield f"holds {names - _FILES}"
    for name in names - {"ask"}:
        if _mode(directory / name) != 0o600:
            yield f"{name} has mode {_mode(directory / name):o}"
    if "job.json" not in names:
        yield "there is no job.json"
        return
    job = _read(directory / "job.json")
    if job.get("format") != 1 or job.get("id") != directory.name:
        yield f"job.json says {job}"
    sizes = {name: (directory / name).stat().st_size for name in ("stdout", "stderr")}
    yield from _index((directory / "index").read_bytes(), sizes, "outcome.json" in names)
    if "outcome.json" in names:
        yield from _outcome(_read(directory / "outcome.json"), sizes)
        left = [path.name for path in (directory / "ask").iterdir() if path.name[0] != "."]
        if any(not name.startswith("answer-") for name in left):
            yield f"requests were not answered: {left}"
    if "process.json" in names:
        missing = _PROCESS - _read(directory / "process.json").keys()
        if missing:
            yield f"process.json lacks {missing}"
    if "marks.json" in names:
        marks = _read(directory / "marks.json")
        if any(not 0 <= marks[stream] <= size for stream, size in sizes.items()):
            yield f"marks.json says {marks}, there are {sizes}"


def _outcome(outcome: dict[str, Any], sizes: dict[str, int]) -> Iterator[str]:
    if _OUTCOME - outcome.keys():
        yield f"outcome.json lacks {_OUTCOME - outcome.keys()}"
    elif outcome["sizes"] != sizes:
        yield f"outcome.json says {outcome['sizes']}, there are {sizes}"


def _index(index: bytes, sizes: dict[str, int], ended: bool) -> Iterator[str]:
    at = dict.fromkeys(sizes, 0)
    for begin in range(0, len(index) - len(index) % _LINE, _LINE):
        line = index[begin : begin + _LINE]
        words = line.split()
        if len(words) != 4 or not line.endswith(b"\n"):
            yield f"the index has a line {line!r}"
            return
        stream, offset, size = words[1].decode(), int(words[2]), int(words[3])
        if at.get(stream) != offset:
            yield f"the index goes on at {stream} {offset}, not {at.get(stream)}"
            return
        at[stream] += size
    # Output is written before its line: a supervisor that was killed, or a full disk, leaves more.
    if any(at[stream] > size for stream, size in sizes.items()):
        yield f"the index tells of {at}, there are {sizes}"
    if ended and len(index) % _LINE:
        yield f"the index has {len(index)} bytes"


def _read(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_bytes())
    return value


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)
