"""A person at a terminal: types a line when the prompt is there, and reads what follows."""

import fcntl
import os
import pty
import re
import selectors
import signal
import struct
import termios
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

LIMIT = 60.0
_SIZE = (50, 200)
# Control sequences and titles, as terminals know them (ECMA-48); carriage returns.
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\].*?(?:\x07|\x1b\\)|\x1b[=>]|\r")


class Terminal:
    """A bash whose prompt is ``$ ``, in a terminal of its own."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        self._pid, self._fd = pty.fork()
        if not self._pid:
            # Before the shell looks: at a change of it, it would draw its prompt once more.
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", *_SIZE, 0, 0))
            os.chdir(directory)
            words = ["bash", "--noprofile", "--norc", "-i"]
            os.execvpe("bash", words, {**env, "TERM": "dumb", "PS1": "$ ", "HISTFILE": ""})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._fd)

    def type(self, line: str) -> None:
        os.write(self._fd, line.encode() + b"\n")

    def read_until(self, prompt: str) -> str:
        """What is shown up to a last line that is a prompt like ``prompt``; without that line.

        A place in brackets must be the same, what follows it may be any prompt with ``$``.
        Raises TimeoutError.
        """
        place, bracket, _ = prompt.rpartition("] ")
        pattern = re.compile(re.escape(place + bracket) + (r"\S*\$ " if bracket else r"\$ "))
        shown = ""
        got = bytearray()
        deadline = time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(self._fd, selectors.EVENT_READ)
            while True:
                before, _, last = shown.rpartition("\n")
                if pattern.fullmatch(last):
                    return before
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no prompt like {prompt!r}; so far: {shown!r}")
                got += os.read(self._fd, 65536)
                shown = _CONTROL.sub("", got.decode(errors="replace"))
