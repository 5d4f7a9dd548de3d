"""What `remit` inside prints: the output of jobs, answers, and what went wrong. Python 3.6."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._wire.sanitize import Filter, harmless

if TYPE_CHECKING:
    from typing import Any


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
