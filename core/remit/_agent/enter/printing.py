"""What `remit` inside prints: the output of jobs, answers, and what went wrong.

Jobs are a table for people, or the fields of JobInfo for programs, as in the caller's command line.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._wire.sanitize import Filter, harmless, one_line
from remit._wire.states import FINISHED

if TYPE_CHECKING:
    from typing import Any

    JobMap = dict[str, Any]  # docs/wire.md


class Unwritable(OSError):
    """What was to be said cannot be written, since the disk is full, or stdout closed."""


class Output:
    """One stream of a job on its way to ours: harmless where a terminal shows it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._filter = Filter() if os.isatty(fd) else None

    def write(self, data: bytes) -> None:
        write(self._fd, data if self._filter is None else self._filter.feed(data))

    def finish(self) -> None:
        if self._filter is not None:
            write(self._fd, self._filter.feed(b"", final=True))


def print_line(line: str) -> None:
    write(1, (line + "\n").encode("utf-8", "backslashreplace"))


def complain(words: str) -> int:
    """Says what went wrong; the exit status for that."""
    complain_as_it_is("remit: %s\n" % words)
    return 1


def complain_as_it_is(words: str) -> None:
    try:
        write(2, harmless(words).encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody is left to tell


def explain(facts: Any) -> str:
    """A refusal in words: what, on what evidence, what to try."""
    lines = [str(facts.get("message"))]
    lines += ["  " + line for line in str(facts.get("evidence") or "").splitlines()]
    lines += ["  " + str(job_id) for job_id in facts.get("ids") or ()]
    if facts.get("hint"):
        lines.append("  try     %s" % facts["hint"])
    return "\n".join(lines)


def write(fd: int, data: bytes) -> None:
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(fd, left) :]
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise Unwritable(exc.errno, exc.strerror) from None


# Where every job of this session runs, as one who is there sees it.
LOCATION = "localhost"
_OUTCOME = ("exit_status", "signal", "reason", "error", "note", "left_behind")
_COLUMNS = ("ID", "NAME", "STATE", "HASMOREDATA", "LOCATION", "COMMAND")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+=:,./-")


def width_of(fd: int) -> int | None:
    """How many columns a line may have; None where no terminal shows it."""
    if not os.isatty(fd):
        return None
    try:
        return os.get_terminal_size(fd).columns or None
    except OSError:
        return None


def table(jobs: list[JobMap], width: int | None) -> list[str]:
    """A line for the columns' names, and one for each job."""
    rows = [_COLUMNS] + [_row(job) for job in jobs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    lines = [
        "  ".join([cell.ljust(size) for cell, size in zip(row, widths)] + [row[-1]]).rstrip()
        for row in rows
    ]
    if width is None:
        return lines
    return [line if len(line) <= width else line[: width - 1] + "…" for line in lines]


def _row(job: JobMap) -> tuple[str, ...]:
    words = command(job)
    cells = (
        job["id"],
        job["name"] or "",
        job["state"].capitalize(),
        str(has_more(job)),
        LOCATION,
        words if isinstance(words, str) else " ".join(map(quoted, words)),
    )
    return tuple(map(one_line, cells))


def ending(job: JobMap) -> str:
    """One line: which job, how it stands, and what its exit status alone does not tell."""
    outcome = job["outcome"] or {}
    words = []
    if outcome.get("reason") not in ("exited", "signalled", "", None):
        words.append(outcome["reason"])
    if outcome.get("signal"):
        words.append(outcome["signal"])
    elif outcome.get("exit_status"):
        words.append("exit status %d" % outcome["exit_status"])
    words += [outcome[key] for key in ("error", "note") if outcome.get(key)]
    cells = (job["id"], job["name"], job["state"].capitalize(), ", ".join(words))
    return one_line("  ".join(filter(None, cells)))


def as_info(job: JobMap) -> dict[str, object]:
    """The job map with the fields of JobInfo, times in ISO 8601."""
    info = {key: job[key] for key in ("id", "name", "state")}
    info["location"] = LOCATION
    info["command"] = command(job)
    for key in ("placement", "lifetime"):
        info[key] = job[key]
    info["has_more_data"] = has_more(job)
    for key in ("created", "started", "finished"):
        info[key] = _moment(job[key])
    for key in ("outcome", "group", "problem"):
        info[key] = job[key]
    if info["outcome"] is not None:
        # The rest is for who reads what a function said.
        info["outcome"] = {key: job["outcome"][key] for key in _OUTCOME if key in job["outcome"]}
    return info


def has_more(job: JobMap) -> bool:
    return bool(job["has_more"]) or job["state"] not in FINISHED


def command(job: JobMap) -> str | list[str]:
    """The words of the command, or its line; ``count()`` for a function."""
    told = job["command"] or {}
    if told.get("function") is not None:
        return "%s()" % told["function"]
    if told.get("argv") is not None:
        return [text(word) for word in told["argv"]]
    return text(told.get("line") or b"")


def quoted(word: str) -> str:
    """As a person would type it; Debian's python3-minimal has no shlex."""
    if word and _PLAIN.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    from datetime import datetime, timezone

    return datetime.fromtimestamp(seconds, timezone.utc).isoformat()
