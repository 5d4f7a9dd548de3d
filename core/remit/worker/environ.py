"""The environment of a process that was forked and runs no program of its own."""

from __future__ import annotations

import os

VARIABLE = b"REMIT_JOB"


def rename(job_id: str) -> None:
    """Makes this process, for all who look into /proc, one of that job.

    /proc shows the memory in which the environment was handed over at the last exec, so the id is
    written over the one there, which is as long. Where that cannot be done (no ctypes) its own
    children still are known by the environment that they inherit.
    """
    name = VARIABLE.decode()
    before = os.environ.get(name, "")
    os.environ[name] = job_id
    if len(before) != len(job_id):
        return
    try:
        with open("/proc/self/stat", "rb") as file:
            # env_start, the 50th field: proc(5)
            fields = file.read().rpartition(b")")[2].split()
        start, end = int(fields[47]), int(fields[48])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            block = memory.read(end - start)
            at = (b"\0" + block).find(b"\0" + VARIABLE + b"=" + before.encode() + b"\0")
            if at >= 0:
                memory.seek(start + at + len(VARIABLE) + 1)
                memory.write(job_id.encode())
    except (OSError, IndexError, ValueError):
        pass  # /proc is not there, or not for us
