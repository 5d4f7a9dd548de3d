"""A person at a terminal, for tests: a program in a real one, what is typed and what is shown."""

from __future__ import annotations

import fcntl
import os
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 10.0
# What a terminal is told beside text: colours, titles, modes. A person sees none of it.
_ORDERS = re.compile(
    rb"\x1b\[[0-9;?>=]*[a-zA-Z@]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[=>()][0B]?|[\x07\x0f]"
)


class Screen:
    """``argv`` in a terminal of its own.

    ``prompt`` is the pattern of what a shell shows where a line may be typed, see `command`. Used
    as a context manager it leaves no process behind.
    """

    def __init__(
        self,
        argv: Sequence[str | Path],
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        size: tuple[int, int] = (24, 200),
        prompt: str = "[$#%>] $",
    ) -> None:
        self._prompt = prompt
        self._ours, theirs = os.openpty()
        self.resize(*size)
        self.modes = termios.tcgetattr(theirs)
        self._theirs = theirs  # held open, so that its modes can be looked at afterwards
        self._seen = bytearray()
        self._read = 0  # how much of what was seen was waited for already
        # Makes the terminal that is its stdin the controlling one, then becomes the program.
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", **(os.environ if env is None else env)},
            cwd=cwd,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # The kernel hangs up. A signal alone does not end a bash that is about to wait for a key.
        os.close(self._ours)
        os.close(self._theirs)
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    @property
    def raw(self) -> bytes:
        """All that was shown, with what a terminal is told beside text."""
        return bytes(self._seen)

    @property
    def text(self) -> str:
        """All that was shown, without what only a terminal reads; a return begins a new line."""
        seen = _ORDERS.sub(b"", bytes(self._seen)).decode(errors="replace")
        return seen.replace("\r\n", "\n").replace("\r", "\n")

    def wait_for(self, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """Waits until what was shown since the last wait has ``pattern``. Raises TimeoutError."""
        until = time.monotonic() + deadline
        while True:
            found = re.compile(pattern, re.MULTILINE).search(self.text, self._read)
            if found:
                self._read = found.end()
                return found
            if not self._look(until):
                raise TimeoutError(f"no {pattern!r} in {self.text[self._read :]!r}")

    def command(self, line: str, pattern: str, deadline: float = DEADLINE) -> re.Match[str]:
        """Types a line at the next prompt and waits for ``pattern`` in what comes after its echo.

        The line must be short enough to be echoed without a break.
        """
        # What is typed ahead is echoed wherever the cursor is, and again behind the prompt.
        self.wait_for(self._prompt)
        self.type(line + "\r")
        self.wait_for(re.escape(line), deadline)
        return self.wait_for(pattern, deadline)

    def wait_exit(self, deadline: float = DEADLINE) -> int:
        """The exit status, once the program is over. Takes what it shows until then."""
        until = time.monotonic() + deadline
        while self.process.poll() is None:
            self._look(min(until, time.monotonic() + 0.05))
            if time.monotonic() > until:
                raise TimeoutError(f"still running; shown: {self.text[-2000:]!r}")
        while self._look(time.monotonic()):
            pass
        return self.process.returncode

    def modes_now(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    @property
    def front(self) -> int:
        """The process group that has the terminal."""
        return os.tcgetpgrp(self._ours)

    def _look(self, until: float) -> bool:
        """Takes what comes until then; whether anything came."""
        if not select.select([self._ours], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        self._seen += os.read(self._ours, 1 << 16)
        return True
