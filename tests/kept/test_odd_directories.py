"""Whatever one job's directory holds: the listing stands, says what is wrong with that one, and the
job can be removed. Generated directories, on the interpreters whose JSON scanners differ."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.harness import Refused, Wire, new_id
from remit._link.messages import JobMap, JobPage, PrunedPage
from testbed import pythons

GOOD = new_id()
FACTS: dict[str, dict[str, Any]] = {
    "job.json": {
        "format": 1,
        "id": GOOD,
        "name": "odd",
        "group": None,
        "command": {"argv": ["echo", "x"]},
        "cwd": "/tmp",
        "created": 1e9,
        "placement": "keep",
        "lifetime": "detached",
        "merge": False,
        "limits": {},
    },
    "process.json": {
        "hostname": "h",
        "machine_id": "m",
        "boot_id": "b",
        "pid_namespace": "n",
        "pid": 99999999,
        "start_time": 1,
        "started": 1e9,
        "supervisor": {"pid": 99999999, "start_time": 1},
    },
    "outcome.json": {
        "format": 1,
        "exit_status": 0,
        "signal": None,
        "reason": "exited",
        "error": None,
        "note": None,
        "left_behind": [],
        "started": 1e9,
        "finished": 1e9,
        "sizes": {"stdout": 2, "stderr": 0},
    },
    "marks.json": {"stdout": 0, "stderr": 0, "records": 0, "reader": None},
    "freed.json": {"stdout": 0, "stderr": 0, "index": 0},
    "expires": {"time": 1e9},
}
LINE = b"%17.6f %-8s %20d %15d\n" % (1e9, b"stdout", 0, 2)

odd_values = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([1e300, -1e300, 1e18, -1, 1 << 62, 1 << 63, 1 << 64, 10**40, -(10**40), 255]),
    st.sampled_from(["", "x" * 100_000, "\ud800", "\x1b]0;x\x07", "SIGKILL\n", "é" * 600]),
    st.sampled_from([[], {}, [[]], [""] * 300_000, ["x" * 1000] * 1000, {"b64": "!"}, {"b64": []}]),
    st.sampled_from([{"argv": [""] * 300_000}, {"argv": []}, {"argv": [7]}, {"line": 7}]),
    st.sampled_from([{"function": "f" * 100_000}, {"stdout": 1 << 70}, {"stdout": -1}]),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
)
oddities = st.sampled_from(
    ["missing", "empty", "cut", "nan", "infinite", "deep", "digits", "array", "binary", "zeros",
     "fifo", "directory", "nested", "link", "loop", "zero device", "sparse", "socket", "no access"]
)  # fmt: skip
changes = st.dictionaries(
    st.sampled_from([*FACTS, "index", "stdout", "lock", "wake", "ask", "lease", "records"]),
    oddities | st.tuples(st.integers(0, 20), odd_values),
    max_size=3,
)
modes = st.sampled_from([0o700] * 6 + [0o777, 0o000, 0o500, 0o4755])


@pytest.fixture(
    params=[each for each in pythons.found() if each.minor in (6, 10, 11, 13)],
    ids=lambda interpreter: interpreter.version,
)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


@pytest.fixture
def jobs(state_dir: Path) -> Iterator[Path]:
    path = state_dir / "jobs"
    state_dir.mkdir(mode=0o700, exist_ok=True)
    path.mkdir(mode=0o700)
    make(path / GOOD)
    yield path
    shutil.rmtree(path)


def make(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    for name, values in FACTS.items():
        if name != "expires":
            (directory / name).write_text(json.dumps(values))
    (directory / "index").write_bytes(LINE)
    (directory / "stdout").write_bytes(b"x\n")
    for name in ("stderr", "lock"):
        (directory / name).touch()
    (directory / "ask").mkdir()
    os.mkfifo(directory / "wake")


def spoil(path: Path, oddity: str | tuple[int, object]) -> None:
    """Makes one file of a directory what it should not be."""
    text = path.read_bytes() if path.is_file() else b"{}"
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    if isinstance(oddity, tuple):
        values: dict[str, Any] = FACTS.get(path.name, {"x": 1})
        key = sorted(values)[oddity[0] % len(values)]
        path.write_text(json.dumps(values | {key: oddity[1]}))
        return
    contents = {
        "empty": b"",
        "cut": text[: len(text) // 2],
        "nan": b'{"format": 1, "created": NaN, "exit_status": NaN}',
        "infinite": b'{"format": 1, "created": 1e999, "finished": 1e999, "time": 1e999}',
        "deep": b"[" * 100_000,
        "digits": b'{"format": ' + b"9" * 1_000_000 + b"}",
        "array": b"[1]",
        "binary": bytes(range(256)) * 4,
        "zeros": bytes(4096),
        "no access": text,
    }
    if oddity in contents:
        path.write_bytes(contents[oddity])
    if oddity == "no access":
        path.chmod(0)
    elif oddity == "fifo":
        os.mkfifo(path)
    elif oddity == "directory":
        path.mkdir()
    elif oddity == "nested":
        inner = path
        for _ in range(80):
            inner.mkdir()
            inner = inner / "d"
        path.chmod(0o777)
    elif oddity in ("link", "loop", "zero device"):
        path.symlink_to({"link": "stdout", "loop": path.name, "zero device": "/dev/zero"}[oddity])
    elif oddity == "sparse":
        path.touch()
        os.truncate(path, 1 << 40)
    elif oddity == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path.relative_to(Path.cwd())))


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changed=changes, mode=modes)
def test_the_listing_stands_whatever_one_directory_holds(
    wire: Wire,
    jobs: Path,
    monkeypatch: pytest.MonkeyPatch,
    changed: dict[str, Any],
    mode: int,
) -> None:
    monkeypatch.chdir(jobs)  # names of sockets are short
    odd = jobs / new_id()
    make(odd)
    for name, oddity in changed.items():
        spoil(odd / name, oddity)
    odd.chmod(mode)
    try:
        check(wire, odd, {each.id: each for each in listed(wire)})
    finally:
        if odd.exists():
            odd.chmod(0o700)
            shutil.rmtree(odd)


def listed(wire: Wire) -> list[JobMap]:
    page = msgspec.convert(wire.call("jobs", deadline=60, after=None, limit=10), JobPage)
    assert page.next is None
    good = [each for each in page.jobs if each.id == GOOD]
    assert [(each.state, each.problem) for each in good] == [("COMPLETED", None)]
    for each in page.jobs:
        each.info("here", here=False)  # its times are times
    return page.jobs


def check(wire: Wire, odd: Path, shown: dict[str, JobMap]) -> None:
    view = shown.get(odd.name)
    if view is not None and view.state == "LOST":
        assert view.outcome is not None or view.problem
    if view is not None and view.state == "COMPLETED":
        assert view.outcome is not None
        assert (view.outcome.exit_status, view.outcome.reason) == (0, "exited")
    found = msgspec.convert(wire.call("find", deadline=60, name=odd.name), JobPage).jobs
    assert [each.id for each in found] == ([] if view is None else [odd.name])
    for verb in ("watch", "read"):
        channel = wire.request(verb, 1 << 16, job=odd.name, follow=False)
        with suppress(Refused):
            wire.accepted(channel, 60)
        wire.close_channel(channel)
    pruned = wire.call("prune", deadline=60, older_than=0.0, max_total=None, dry_run=True)
    assert GOOD in [each.id for each in msgspec.convert(pruned, PrunedPage).jobs]
    refusal = removal(wire, odd)
    if refusal is None:
        assert not odd.exists()
    else:
        assert refusal["code"] in ("state", "not-found"), refusal
        assert odd.exists() == (refusal["code"] == "state")
    listed(wire)


def removal(wire: Wire, odd: Path) -> dict[str, Any] | None:
    """What refused it, or None."""
    try:
        assert wire.call("remove", deadline=60, job=odd.name, force=True) == {}
    except Refused as refused:
        return refused.facts
    return None


def test_many_long_commands_by_one_name_are_found_in_one_answer(wire: Wire, jobs: Path) -> None:
    words = {"argv": ["x" * 60_000]}
    made = []
    for _ in range(20):
        made.append(jobs / new_id())
        make(made[-1])
        facts = FACTS["job.json"] | {"id": made[-1].name, "name": "build", "command": words}
        (made[-1] / "job.json").write_text(json.dumps(facts))
    found = msgspec.convert(wire.call("find", deadline=60, name="build"), JobPage).jobs
    assert {each.id for each in found} == {path.name for path in made}
    pages: list[JobPage] = []
    after = None
    while not pages or after is not None:
        page = msgspec.convert(wire.call("jobs", deadline=60, after=after, limit=100), JobPage)
        pages.append(page)
        after = page.next
    assert len(pages) > 1
    assert {each.id for page in pages for each in page.jobs} == {
        GOOD,
        *(path.name for path in made),
    }
