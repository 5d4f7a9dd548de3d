"""A kept function: an interpreter of its own, which its supervisor has started for it."""

from __future__ import annotations

import os
import struct
import sys
from typing import TYPE_CHECKING

from remit._agent.base.environment import restore
from remit._worker import job, programs

if TYPE_CHECKING:
    from typing import BinaryIO

# Where the supervisor expects what the function says beside its output.
_RECORDS = 4
_SIZE = struct.Struct(">Q")


def main(script: BinaryIO) -> None:
    """Runs what ``script`` goes on to say: packages, each after its size; 0; the task."""
    restore()
    os.set_inheritable(_RECORDS, False)
    try:
        while True:
            size = _SIZE.unpack(job.exactly(script, _SIZE.size))[0]
            if not size:
                break
            programs.install(job.exactly(script, size))
        task = job.Task(script)
    except EOFError:
        sys.exit(1)  # the supervisor was killed
    script.close()
    sys.exit(job.run(task, _RECORDS))
