"""Helper processes: what would take long is done in a fork, so that the agent's loop never stalls.

A helper sends back one MessagePack value: the result of its function, or why there is none.
"""

from __future__ import annotations

import os
import signal
import struct
from typing import TYPE_CHECKING

from remit._agent.base import fds
from remit._wire.msgpack import UnpackError, pack, unpack
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from remit._agent.base.services import Helpers

    Done = Callable[[Any, "Refused | None"], object]

_SIZE = struct.Struct(">Q")


class EndedEarly(Refused):
    """The process that was to do it was killed before it had answered: what it did by then is not
    known."""


def refusal_of(exc: Exception) -> Refused:
    """What to tell the caller of an exception, whatever it is."""
    if isinstance(exc, Refused):
        return exc
    if isinstance(exc, OSError):
        message = exc.strerror or str(exc)
        if exc.filename is not None:
            message = "%s: %s" % (os.fsdecode(exc.filename), message)
        return Refused("os", message, errno=exc.errno)
    import traceback

    lines = traceback.format_exception(type(exc), exc, exc.__traceback__)
    return Refused("internal", "the agent has a bug: %r" % exc, "".join(lines[-4:]).rstrip())


def _no_process(exc: OSError) -> OSError:
    return OSError(exc.errno, "no process is available on the target to do it: %s" % exc.strerror)


class Helper:
    """A function that runs in a fork. Made by who is `services.Helpers`, and read there."""

    def __init__(
        self, function: Callable[..., object], args: tuple[object, ...], keep_fds: tuple[int, ...]
    ) -> None:
        """Starts it. Of the agent's file descriptors it keeps 0, 1, 2 and ``keep_fds``."""
        try:
            self.fd, writing = os.pipe()
        except OSError as exc:
            raise _no_process(exc) from exc
        try:
            self.pid = os.fork()
        except OSError as exc:
            os.close(self.fd)
            os.close(writing)
            raise _no_process(exc) from exc
        if not self.pid:
            _run(function, args, writing, keep_fds)
        os.close(writing)
        os.set_blocking(self.fd, False)
        self._received = bytearray()

    def read(self) -> bool:
        """Takes what has come; whether that is all of it. To be called when there is something.

        A helper may leave a process behind that holds its pipe, so the end of the pipe is not
        waited for.
        """
        try:
            while True:
                piece = os.read(self.fd, 1 << 18)
                if not piece:
                    return True
                self._received += piece
                if self._whole():
                    return True
        except BlockingIOError:
            return False

    def _whole(self) -> bool:
        if len(self._received) < _SIZE.size:
            return False
        size: int = _SIZE.unpack_from(self._received)[0]
        return len(self._received) - _SIZE.size >= size

    def result(self) -> tuple[Any, Refused | None]:
        """The value, or why there is none."""
        try:
            if not self._whole():
                raise UnpackError("no whole answer")
            answer: Any = unpack(bytes(self._received[_SIZE.size :]))
        except UnpackError as exc:
            return None, EndedEarly(
                "internal",
                "the process that did it was killed",
                str(exc),
            )
        if answer[0]:
            return answer[1], None
        return None, Refused(**answer[1])


def help_twice(
    helpers: Helpers,
    function: Callable[..., object],
    args: tuple[object, ...],
    done: Done,
    again: Callable[..., object] | None = None,
) -> None:
    """Has a helper do what may be done twice: once more where the first one is killed over it, by
    ``again`` where that differs."""

    def ended(value: Any, refused: Refused | None) -> None:
        if isinstance(refused, EndedEarly):
            try:
                helpers.helper(again or function, args, done)
                return
            except OSError:
                pass  # no process can be had
        done(value, refused)

    helpers.helper(function, args, ended)


def _run(
    function: Callable[..., object],
    args: tuple[object, ...],
    writing: int,
    keep_fds: tuple[int, ...],
) -> NoReturn:
    try:
        forget_the_agent({0, 1, 2, writing, *keep_fds})
        try:
            answer = pack([True, function(*args)])
        except Exception as exc:
            answer = pack([False, failed(exc)])
        left = memoryview(_SIZE.pack(len(answer)) + answer)
        while left:
            left = left[os.write(writing, left) :]
    finally:
        # Nothing of the agent's own may run in here: no exit handler, no caller up the stack.
        os._exit(0)


def failed(exc: Exception) -> dict[str, object]:
    """The body of a refusal for ``exc``."""
    refused = refusal_of(exc)
    facts: dict[str, object] = dict(refused.facts)
    facts.update(code=refused.code, message=refused.message)
    facts.update(evidence=refused.evidence, hint=refused.hint)
    return facts


def forget_the_agent(keep: set[int]) -> None:
    """In a fork of the agent: gives up its signal handlers and its file descriptors but those."""
    signal.set_wakeup_fd(-1)
    for signum in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(signum, signal.SIG_DFL)
    fds.close_all(keep)
