"""``python gate.py MARK COMMAND…``: COMMAND with our stdin and stdout, but that a caller's goodbye
gets no further than here; then the file MARK is made. It ends with the caller, as a program does
that a transport runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from remit._wire.frames import GOODBYE, encode
from remit._wire.msgpack import pack


def main(mark: str, command: list[str]) -> int:
    goodbye = encode(GOODBYE, 0, pack({}))
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert child.stdin is not None
    with child.stdin:
        while data := os.read(0, 1 << 16):
            if data.endswith(goodbye):
                data = data[: -len(goodbye)]
                Path(mark).touch()
            child.stdin.write(data)
            child.stdin.flush()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
