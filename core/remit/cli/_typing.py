"""Somebody at a terminal: types lines to a program, and reads what it shows."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from fcntl import ioctl
from types import TracebackType
from typing import Self

from remit.agent.harmless import harmless
from remit.cli._report import answer

_ROWS, _COLUMNS = 24, 200
# Seconds without output after which a program that wants the next line is taken to wait for it.
_QUIET = 0.4


class DemoFailed(Exception):
    """A step did not show what it should."""


class Typist:
    """``with Typist(…) as typist``: the program runs in a terminal of its own."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], limit: float) -> None:
        """``limit`` seconds is how long each line may take."""
        self._limit = limit
        self._shown = b""
        self._told = 0  # how much of it has been passed on
        self._pid, self._fd = pty.fork()
        if not self._pid:
            try:
                os.execve(argv[0], list(argv), dict(env))
            finally:
                os._exit(127)
        ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("4H", _ROWS, _COLUMNS, 0, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def type(self, line: str, *, shows: str = "") -> None:
        """Types it once the program waits for it, and reads until a line of what comes matches.

        Raises DemoFailed where none does in time.
        """
        self._read_until(self._waits, f"`{line}` could not be typed")
        begin = len(self._shown)
        os.write(self._fd, line.encode() + b"\n")
        if shows:
            pattern = re.compile(shows, re.MULTILINE)
            trouble = f"`{line}` did not show {shows!r}"

            def over() -> bool:
                """Whether it came, or the next line is waited for without it."""
                new = self._shown[begin:]
                return pattern.search(_text(new)) is not None or (b"\n" in new and self._waits())

            self._read_until(over, trouble)
            if pattern.search(_text(self._shown[begin:])) is None:
                raise DemoFailed(trouble)

    def leave(self) -> int:
        """Waits for the program's end; returns its exit status."""
        self._read_until(_never, "the terminal was not left")
        pid, self._pid = self._pid, 0
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status)

    def _waits(self) -> bool:
        """Whether it has shown a prompt: a line that it began, and then nothing more."""
        return bool(self._shown) and not self._shown.endswith(b"\n") and not self._ready(_QUIET)

    def _read_until(self, done: Callable[[], bool], trouble: str) -> None:
        """Reads until ``done``, or to the end of the output where ``done`` never is."""
        deadline = time.monotonic() + self._limit
        while not done():
            if not self._ready(max(0.0, deadline - time.monotonic())):
                raise DemoFailed(f"{trouble} in {self._limit:g} s")
            try:
                data = os.read(self._fd, 65536)
            except OSError:  # EIO: nobody has the terminal open any more
                data = b""
            if not data:
                self._tell(len(self._shown))
                if done is _never:
                    return
                raise DemoFailed(f"{trouble}: the program ended")
            self._shown += data
            self._tell(self._shown.rfind(b"\n") + 1)

    def _tell(self, end: int) -> None:
        if end > self._told:
            answer(_text(self._shown[self._told : end]).rstrip("\n"))
            self._told = end

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], seconds)[0])


def _never() -> bool:
    return False


def _text(data: bytes) -> str:
    return harmless(data.decode("utf-8", "replace").replace("\r", ""))
