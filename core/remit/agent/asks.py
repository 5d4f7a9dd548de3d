"""Asking a supervisor: requests are files put into ``ask/`` by rename, and a byte on ``wake``.

Both sides of it: the helper that asks and waits for the answer, and the supervisor that reads and
answers. A request's name begins with what is asked, so that readers see a stop coming. Standard
library only, Python 3.6.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from remit.agent import jobdir, liveness

if TYPE_CHECKING:
    from typing import Any

# What stands on the FIFO: that there is something to read in ask/, or, where a full disk lets
# nobody put anything there, the one request that has to get through.
LOOK = b"w"
STOP = b"s"

_ANSWER = b"answer-"
_POLL = 0.01
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unanswered(Exception):
    """There is no supervisor to answer, or it ended without doing so."""


def ask(dir_fd: int, what: str, request: dict[str, Any], patience: float) -> dict[str, Any]:
    """The supervisor's answer to ``what``. Blocks; raises Unanswered.

    ``{}`` is the answer of a supervisor that did it and had no space to say more.
    """
    try:
        return _ask(dir_fd, what, request, patience)
    except OSError as exc:
        # A job may do to its own directory what it likes.
        raise Unanswered("it cannot be asked: %s" % exc) from exc


def _ask(dir_fd: int, what: str, request: dict[str, Any], patience: float) -> dict[str, Any]:
    wake = _open_wake(dir_fd)
    try:
        ask_fd = os.open(jobdir.ASK, _DIRECTORY, dir_fd=dir_fd)
        try:
            name = b"%s-%s" % (what.encode(), os.urandom(6).hex().encode())
            try:
                jobdir.write_json(ask_fd, name, request, durable=False)
            except OSError as exc:
                if what != "stop" or exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                _ring(wake, STOP)
                name = None  # type: ignore[assignment]
            else:
                _ring(wake, LOOK)
            return _await_answer(dir_fd, ask_fd, name, time.monotonic() + patience)
        finally:
            os.close(ask_fd)
    finally:
        os.close(wake)


def _open_wake(dir_fd: int) -> int:
    try:
        wake = os.open(
            jobdir.WAKE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd
        )
    except OSError as exc:
        # ENXIO: nobody reads the FIFO, so there is no supervisor on this computer.
        raise Unanswered("nobody reads %s: %s" % (jobdir.WAKE.decode(), exc.strerror)) from exc
    if not stat.S_ISFIFO(os.fstat(wake).st_mode):
        os.close(wake)
        raise Unanswered("nobody reads %s: it is no FIFO" % jobdir.WAKE.decode())
    return wake


def _ring(wake: int, byte: bytes) -> None:
    try:
        os.write(wake, byte)
    except BlockingIOError:
        pass  # so many rang before us that it will look anyway
    except BrokenPipeError as exc:
        raise Unanswered("the supervisor ended as it was asked") from exc


def _await_answer(dir_fd: int, ask_fd: int, name: bytes | None, until: float) -> dict[str, Any]:
    while True:
        alive = _may_answer(dir_fd)
        # In this order: an answer is there before the request goes, and before the lock goes.
        asked = name is not None and _exists(ask_fd, name)
        answer = None if name is None else _take_answer(ask_fd, _ANSWER + name)
        if answer is not None:
            return answer
        if name is not None and not asked:
            return {}
        if name is None and _exists(dir_fd, jobdir.OUTCOME):
            return {}
        if not alive:
            if name is not None:
                jobdir.unlink(ask_fd, name)
            raise Unanswered("the supervisor ended without an answer")
        if time.monotonic() > until:
            raise Unanswered("the supervisor gave no answer")
        time.sleep(_POLL)


def _may_answer(dir_fd: int) -> bool:
    try:
        return liveness.alive(dir_fd)
    except OSError:
        return True  # nobody knows; the patience is limited anyway


def _exists(dir_fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def _take_answer(ask_fd: int, name: bytes) -> dict[str, Any] | None:
    try:
        answer = jobdir.read_json(ask_fd, name)
    except (FileNotFoundError, jobdir.Unreadable):
        return None
    jobdir.unlink(ask_fd, name)
    return answer


class Inbox:
    """The supervisor's side: the FIFO it reads, and the requests that wait."""

    def __init__(self, dir_fd: int) -> None:
        # For writing too: a FIFO that the last writer closed is readable for ever.
        self.fd = os.open(
            jobdir.WAKE, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd
        )
        self._ask_fd = os.open(jobdir.ASK, _DIRECTORY, dir_fd=dir_fd)

    def read(self) -> tuple[list[tuple[bytes, dict[str, Any]]], bool]:
        """The requests that wait, by their names, and whether a plain stop was rung for.

        A request comes again at each `read` until it is answered.
        """
        try:
            rung = os.read(self.fd, 4096)
        except BlockingIOError:
            rung = b""
        requests = []
        for name in sorted(map(os.fsencode, os.listdir(self._ask_fd))):
            if name.startswith((b".", _ANSWER)):
                continue
            try:
                requests.append((name, jobdir.read_json(self._ask_fd, name)))
            except FileNotFoundError:
                pass  # the asker gave up
            except jobdir.Unreadable as exc:
                self.answer(name, {"error": str(exc)})
        return requests, STOP in rung

    def answer(self, name: bytes, answer: dict[str, Any]) -> None:
        try:
            jobdir.write_json(self._ask_fd, _ANSWER + name, answer, durable=False)
        except OSError:
            pass  # a full disk; that the request is gone says that it was done
        jobdir.unlink(self._ask_fd, name)
