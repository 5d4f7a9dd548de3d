"""Somebody at a terminal: types lines to a program, and reads what it shows."""

from __future__ import annotations

import os
import re
import select
import subprocess
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from remit._wire.sanitize import harmless
from remit.cli._report import answer

_ROWS, _COLUMNS = 24, 200
# Seconds without output after which a shell that has never shown the prompt's mark (remit knows no
# way to put it into fish or csh) is taken to wait for a line.
UNMARKED_QUIET = 5.0


class DemoFailed(Exception):
    """A step did not show what it should."""


class Typist:
    """``with Typist(…) as typist``: a shell runs in a terminal of its own."""

    def __init__(
        self, argv: Sequence[str], env: Mapping[str, str], *, mark: str, limit: float
    ) -> None:
        """``mark`` is what stands in front of each prompt: it tells that a line may be typed.
        ``limit`` seconds is how long each line may take."""
        self._mark = mark.encode()
        self._marked = False  # whether the shell has shown it
        self._limit = limit
        self._shown = bytearray()
        self._typed = 0  # how much had been shown when the last line was typed
        self._told = 0  # how much has been passed on
        self._fd, theirs = os.openpty()
        try:
            termios.tcsetwinsize(theirs, (_ROWS, _COLUMNS))
            self._program = subprocess.Popen(
                argv,
                env=env,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                # A Ctrl-C is for the demo, which then ends it.
                start_new_session=True,
            )
        except BaseException:
            os.close(self._fd)
            raise
        finally:
            os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._program.poll() is None:
            self._program.kill()
            self._program.wait()
        os.close(self._fd)

    def type(self, line: str, *, shows: str = "") -> None:
        """Types it once the shell waits for it. With ``shows`` it also waits for the next prompt,
        and raises DemoFailed unless a line of what came before that matches the pattern.
        """
        self._read_until(self._waits, f"`{line}` could not be typed")
        self._typed = len(self._shown)
        os.write(self._fd, line.encode() + b"\n")
        if shows:
            self._read_until(self._waits, f"`{line}` did not come to its end")
            if re.search(shows, _text(self._shown[self._typed :]), re.MULTILINE) is None:
                raise DemoFailed(f"`{line}` did not show {shows!r}")

    def leave(self) -> int:
        """Waits for the program's end; returns its exit status."""
        self._read_until(_never, "the terminal was not left")
        return self._program.wait()

    def _waits(self) -> bool:
        """Whether the shell has shown a prompt since the last line was typed."""
        new = self._shown[self._typed :]
        self._marked = self._marked or self._mark in new
        if self._marked:
            return self._mark in new
        # A line is begun, which is not the one where we typed, and nothing follows.
        begun = bool(new) and not new.endswith(b"\n") and (not self._typed or b"\n" in new)
        return begun and not self._ready(UNMARKED_QUIET)

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
                raise DemoFailed(f"{trouble}: the program has ended")
            self._shown += data
            self._tell(self._shown.rfind(b"\n") + 1)

    def _tell(self, end: int) -> None:
        if end > self._told:
            answer(*_text(self._shown[self._told : end]).rstrip("\n").split("\n"))
            self._told = end

    def _ready(self, seconds: float) -> bool:
        return bool(select.select([self._fd], [], [], seconds)[0])


def _never() -> bool:
    return False


def _text(data: bytearray) -> str:
    return harmless(data.decode("utf-8", "replace").replace("\r", ""))
