"""A bash that is given one command after another and tells what each printed and returned."""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

# Seconds for one command of a page; the demo's takes dozens on a busy machine.
LIMIT = 300.0
# Each command sees the status of the one before in `$?`. NUL bytes tell where its output ends.
_LOOP = r"""
status=0
while IFS= read -r -d '' -u 3 command; do
    eval "(exit $status)"$'\n'"$command" </dev/null 3<&-
    status=$?
    printf '\0%d\0' "$status"
done
"""


class Done(NamedTuple):
    printed: str
    status: int


class Shell:
    """Both of a command's streams are taken together, as a terminal would show them."""

    def __init__(self, directory: Path, env: Mapping[str, str]) -> None:
        theirs, self._ours = os.pipe()
        self._bash = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", f"exec 3<&{theirs} {theirs}<&-\n{_LOOP}"],
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs],
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._ours)
        with suppress(ProcessLookupError):
            os.killpg(self._bash.pid, signal.SIGKILL)
        self._bash.wait()
        assert self._bash.stdout is not None
        self._bash.stdout.close()

    def run(self, command: str) -> Done:
        """Raises TimeoutError where it does not end in time."""
        os.write(self._ours, command.encode() + b"\0")
        printed = self._until_nul()
        status = self._until_nul()
        return Done(printed.decode(errors="replace"), int(status))

    def _until_nul(self) -> bytes:
        assert self._bash.stdout is not None
        got = bytearray()
        deadline = time.monotonic() + LIMIT
        with selectors.DefaultSelector() as selector:
            selector.register(self._bash.stdout, selectors.EVENT_READ)
            while True:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no end in {LIMIT:g} s; so far: {bytes(got)!r}")
                byte = os.read(self._bash.stdout.fileno(), 1)
                if not byte:
                    raise TimeoutError(f"bash has ended; so far: {bytes(got)!r}")
                if byte == b"\0":
                    return bytes(got)
                got += byte
