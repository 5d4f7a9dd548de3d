"""Asking a supervisor: requests are files put into ``ask/`` by rename, and a byte on ``wake``.

Both sides of it: the helper that asks and waits for the answer, and the supervisor that reads and
answers. A request's name begins with what is asked, so that readers see a stop coming. Standard
library only, Python 3.6.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from remit._jobdir import files, liveness

if TYPE_CHECKING:
    from collections.abc import Set
    from typing import Any, Callable

# What stands on the FIFO: that there is something to read in ask/, or, where a full disk lets
# nobody put anything there, the one request that has to get through.
LOOK = b"w"
STOP = b"s"

_ANSWER = b"answer-"
_POLL = 0.01
# Seconds beyond the grace that a stop may take of which no answer may come.
_UNHEARD = 3.0
# Requests that the supervisor reads in one turn.
_MOST_AT_ONCE = 64
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unanswered(Exception):
    """There is no supervisor to answer, or it ended without doing so.

    ``was_asked``: whether the request got as far as one.
    """

    def __init__(self, words: str, was_asked: bool = True) -> None:
        super().__init__(words)
        self.was_asked = was_asked


def ask(
    dir_fd: int,
    what: str,
    request: dict[str, Any],
    patience: float,
    look_after: Callable[[], bool] = lambda: True,
) -> dict[str, Any]:
    """The supervisor's answer to ``what``. Blocks; raises Unanswered.

    ``{}`` is the answer of a supervisor that did it and had no space to say more. ``look_after`` is
    called while it is waited for, and says whether that is still of use.
    """
    wake = _open_wake(dir_fd)
    try:
        try:
            ask_fd = os.open(files.ASK, _DIRECTORY, dir_fd=dir_fd)
        except OSError as exc:
            raise Unanswered("%s: %s" % (files.ASK.decode(), exc.strerror), False) from exc
        try:
            name: bytes | None = b"%s-%s" % (what.encode(), os.urandom(6).hex().encode())
            try:
                files.write_json(ask_fd, name, request, durable=False)  # type: ignore[arg-type]
            except OSError as exc:
                if what != "stop":
                    raise Unanswered("no request can be left: %s" % exc.strerror, False) from exc
                # A full disk, or one that takes nothing more: most likely no answer either.
                name = None
                patience = min(patience, float(request.get("grace", 0.0)) + _UNHEARD)
            _ring(wake, LOOK if name else STOP)
            return _await_answer(dir_fd, ask_fd, name, time.monotonic() + patience, look_after)
        finally:
            os.close(ask_fd)
    finally:
        os.close(wake)


def _open_wake(dir_fd: int) -> int:
    try:
        fd = os.open(
            files.WAKE, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd
        )
    except OSError as exc:
        # ENXIO: nobody reads the FIFO, so there is no supervisor on this computer.
        words = "nobody reads %s: %s" % (files.WAKE.decode(), exc.strerror)
        raise Unanswered(words, False) from exc
    if not stat.S_ISFIFO(os.fstat(fd).st_mode):
        os.close(fd)
        raise Unanswered("%s is no FIFO" % files.WAKE.decode(), False)
    return fd


def _ring(wake: int, byte: bytes) -> None:
    try:
        os.write(wake, byte)
    except BlockingIOError:
        pass  # so many rang before us that it will look anyway
    except BrokenPipeError as exc:
        raise Unanswered("the supervisor ended as it was asked", False) from exc
    except OSError as exc:
        raise Unanswered("%s: %s" % (files.WAKE.decode(), exc.strerror), False) from exc


def _await_answer(
    dir_fd: int, ask_fd: int, name: bytes | None, until: float, look_after: Callable[[], bool]
) -> dict[str, Any]:
    while True:
        alive = _may_answer(dir_fd)
        # In this order: an answer is there before the request goes, and before the lock goes.
        asked = name is not None and _exists(ask_fd, name)
        answer = None if name is None else _take_answer(ask_fd, _ANSWER + name)
        if answer is not None:
            return answer
        if name is not None and not asked:
            return {}
        if name is None and _exists(dir_fd, files.OUTCOME):
            return {}
        if not alive:
            if name is not None:
                _drop(ask_fd, name)
            raise Unanswered("the supervisor ended without an answer")
        if not look_after():
            raise Unanswered("the supervisor is stopped again and again (SIGSTOP)")
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
        answer = files.read_json(ask_fd, name)
    except (FileNotFoundError, files.Unreadable):
        return None
    _drop(ask_fd, name)
    return answer


def _drop(ask_fd: int, name: bytes) -> None:
    try:
        files.unlink(ask_fd, name)
    except OSError:
        pass  # a disk that takes nothing more; it does no harm there


class Mailbox:
    """The supervisor's side: the FIFO it reads, and the requests that wait."""

    def __init__(self, dir_fd: int) -> None:
        # For writing too: a FIFO that the last writer closed is readable for ever.
        self.fd = os.open(
            files.WAKE, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd
        )
        self._ask_fd = os.open(files.ASK, _DIRECTORY, dir_fd=dir_fd)
        self.look_again = False
        self._rung = b""
        self._stuck: set[bytes] = set()  # what is no request, and cannot be taken away

    def read(
        self, known: Set[bytes] = frozenset()
    ) -> tuple[list[tuple[bytes, dict[str, Any]]], bool]:
        """The requests that wait beside the ``known``, by their names, and whether a plain stop
        was rung for.

        Whatever else somebody put there is answered with what is wrong about it, and taken away.
        What cannot be read just now is left for later, when ``look_again`` says so.
        """
        try:
            self._rung += os.read(self.fd, 4096)
        except BlockingIOError:
            pass
        requests = []
        self.look_again = False
        try:
            names = self._new_names(known)
        except OSError:
            _ring(self.fd, LOOK)  # it is not forgotten
            raise
        for name in names:
            try:
                requests.append((name, files.read_json(self._ask_fd, name)))
            except FileNotFoundError:
                pass  # the asker gave up
            except (OSError, files.Unavailable):
                self.look_again = True
            except Exception as exc:
                self.answer(name, {"error": "%s: %s" % (type(exc).__name__, exc)})
        rung, self._rung = self._rung, b""
        return requests, STOP in rung

    def _new_names(self, known: Set[bytes]) -> list[bytes]:
        every = sorted(map(os.fsencode, os.listdir(self._ask_fd)))
        new = [
            name
            for name in every
            if not name.startswith((b".", _ANSWER)) and name not in known | self._stuck
        ]
        if len(new) > _MOST_AT_ONCE:
            _ring(self.fd, LOOK)  # the rest has its turn next
        return new[:_MOST_AT_ONCE]

    def answer(self, name: bytes, answer: dict[str, Any]) -> None:
        try:
            files.write_json(self._ask_fd, _ANSWER + name, answer, durable=False)
        except OSError:
            pass  # a full disk; that the request is gone says that it was done
        try:
            files.unlink(self._ask_fd, name)
        except OSError:
            self._put_aside(name)

    def _put_aside(self, name: bytes) -> None:
        """For what cannot be unlinked, such as a directory: it is no request under another name."""
        try:
            aside = b".aside-%s" % os.urandom(6).hex().encode()
            os.rename(name, aside, src_dir_fd=self._ask_fd, dst_dir_fd=self._ask_fd)
        except OSError:
            self._stuck.add(name)
