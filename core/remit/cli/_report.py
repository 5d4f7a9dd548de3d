"""What went wrong, in words on stderr, and as an exit status: the one place for both."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from remit import (
    ConnectError,
    JobFailed,
    JobRefused,
    LinkLost,
    RemitError,
    RemoteProtocolError,
    SessionClosed,
    TargetError,
)
from remit._wire.sanitize import harmless

OK = 0
FAILED = 1  # it did not work
USAGE = 2
NOT_ALLOWED = 126  # what may not be run, as a shell has it
LINK = 255  # the link failed
BROKEN_PIPE = 128 + 13  # as a program that SIGPIPE ends


class UsageError(RemitError):
    """The words of the command line can never be right."""


class ToldElsewhere(RemitError):
    """An error that another process of ours met. ``status`` is its exit status."""

    def __init__(self, message: str, *, status: int, evidence: str = "", hint: str = "") -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.status = status


def say(*lines: str) -> None:
    """Talk, on stderr; each of ``lines`` stays one, whatever it holds. A closed stderr is no
    error."""
    # Nobody may be left to tell.
    with suppress(OSError):
        write_all(2, _shown(lines))


def answer(*lines: str) -> None:
    """Lines of answer, on stdout. Raises BrokenPipeError once nobody reads."""
    write_all(1, _shown(lines))


def _shown(lines: Sequence[str]) -> bytes:
    """What a target wrote into a line neither ends it nor goes back to its beginning."""
    whole = (harmless(line).replace("\n", "\\n").replace("\r", "\\r") for line in lines)
    return "".join(f"{line}\n" for line in whole).encode()


def write_all(fd: int, data: bytes) -> None:
    """Writes it all, and waits for whoever reads slowly."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            # Who shares the file with us made it non-blocking.
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()


def report(error: BaseException) -> int:
    """Says what went wrong, and returns the exit status for it."""
    if isinstance(error, RemitError):
        first, more = error.message, [f"  {line}" for line in error.evidence.splitlines()]
        if error.hint:
            more.append(f"  try     {error.hint}")
        if isinstance(error, JobFailed) and error.traceback:
            more += [f"  {line}" for line in error.traceback.rstrip().split("\n")]
    else:
        first, more = _words(error), []
    say(f"remit: {first}", *more)
    return status_of(error)


def _words(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        what = "" if error.filename is None else f": {os.fsdecode(error.filename)}"
        return error.strerror + what
    return str(error) or type(error).__name__


@contextmanager
def usage() -> Iterator[None]:
    """What remit's functions refuse of the words of the command line, as a UsageError."""
    try:
        yield
    except (ValueError, TypeError) as exc:
        raise UsageError(str(exc)) from exc


def status_of(error: BaseException) -> int:
    """The exit status that tells ``error``."""
    if isinstance(error, ToldElsewhere):
        return error.status
    if isinstance(error, JobRefused):
        return NOT_ALLOWED
    if isinstance(error, (TargetError, UsageError)):
        return USAGE
    if isinstance(error, (ConnectError, LinkLost, RemoteProtocolError, SessionClosed)):
        return LINK
    return FAILED


@contextmanager
def told() -> Iterator[None]:
    """Errors of remit and of the system leave as SystemExit, after they were told.

    Bugs pass through, with their traceback.
    """
    try:
        yield
    except BrokenPipeError:
        _forget_stdout()
        raise SystemExit(BROKEN_PIPE) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (RemitError, OSError) as exc:
        raise SystemExit(report(exc)) from None


def _forget_stdout() -> None:
    # What is still buffered has no reader; the interpreter would complain when it exits.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
