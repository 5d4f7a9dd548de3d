"""Supervisors in whose way each system call fails in turn. Runs under any Python from 3.6 on.

``faulty.py SOURCES STATE STAGE ERRNO TIMES FIRST STEP``: the calls FIRST, FIRST + STEP … of STAGE
(``start`` or ``run``) fail with ERRNO, and so do those TIMES - 1 that follow each. Prints a line of
JSON for each supervisor: which call failed, and what became of it and of its job.
"""

import errno as errnos
import json
import os
import sys
import time
from typing import Any

AT_ONCE = 8
PATIENCE = 40.0
# What a supervisor calls that may fail; to fail close(2) closes all the same.
NAMES = (
    *("open", "close", "read", "readv", "write", "pipe", "fsync", "ftruncate", "rename", "unlink"),
    *("listdir", "stat", "fstat", "readlink", "waitid", "wait4", "waitpid", "kill", "fork"),
    *("set_blocking", "mkdir", "chdir", "dup2", "setsid", "getppid", "execve", "rmdir", "pread"),
)
# Of each run its own: supervisors find what is their job's by its id, wherever that was started.
PREFIX = "j" + "".join(chr(97 + byte % 26) for byte in os.urandom(9))
LINE = b"echo up; echo oops >&2; while :; do sleep 0.01; done"


class Faults:
    """Counts the calls from `arm` on, here and in forks; those whose number is in ``bad`` fail."""

    def __init__(self, bad: Any, number: Any) -> None:
        self.count = 0
        self.armed = False
        self.in_process = False
        self.bad = bad
        self.number = number
        for name in NAMES:
            setattr(os, name, self.wrapped(name, getattr(os, name)))

    def wrapped(self, name: Any, function: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            if not self.armed or self.is_of_a_process(name, args):
                return function(*args, **named)
            self.count += 1
            if self.count not in self.bad:
                return function(*args, **named)
            if name == "close":
                function(*args)
            raise OSError(self.number, os.strerror(self.number), name)

        return call

    def is_of_a_process(self, name: Any, args: Any) -> Any:
        """Looks at other processes depend on how many there are here, and may fail anyway."""
        if name == "open" and str(args[0]).startswith("/proc/"):
            self.in_process = True
            return True
        if name in ("read", "close") and self.in_process:
            self.in_process = name == "read"
            return True
        self.in_process = False
        return name == "readlink" or str(args[:1]).startswith("('/proc/")


def prepared(state: Any, number: Any) -> Any:
    from remit._jobdir import files

    job_id = PREFIX + "".join(chr(97 + int(digit)) for digit in str(1000 + number)[1:])
    path = os.path.join(state, "jobs", job_id)
    os.makedirs(path, 0o700)
    dir_fd = os.open(path, os.O_RDONLY)
    files.prepare(dir_fd)
    files.write_json(dir_fd, files.JOB, {"format": 1, "id": job_id})
    return job_id, path, dir_fd


def begin(job_id: Any, dir_fd: Any, stage: Any, faults: Any) -> Any:
    """A supervisor in a fork, as the forkserver makes them; its pid."""
    from remit._agent.kept import supervisor
    from remit._wire.msgpack import pack

    pid = os.fork()
    if pid:
        return pid
    status = 9
    try:
        os.setsid()
        work = supervisor.Work(job_id.encode(), None, None, None, False, False, False)
        given = supervisor.Given(pack([{"line": LINE}, b"/", {}]), b"", b"some input")
        newborn = supervisor.Supervisor()
        status = 7  # it could not take its place
        if stage == "start":
            faults.armed = True
        newborn.start(work, given, dir_fd, None)
        status = 8  # it ended before its time
        if stage == "run":
            faults.armed = True
        newborn.run()
        status = 0
    finally:
        faults.armed = False
        try:
            with open(os.path.join("/proc/self/fd", str(dir_fd), "calls"), "w") as file:
                file.write(str(faults.count))
        finally:
            os._exit(status)


def ask(path: Any) -> Any:
    """Garbage, then a stop: what a job or a person may put there."""
    directory = os.path.join(path, "ask")
    if not os.path.exists(os.path.join(directory, "stop-1")):
        os.makedirs(os.path.join(directory, "stop-odd", "deeper"), exist_ok=True)
        for name, data in (("stop-cut", "{"), ("suspend-1", "{}"), ("what-1", "[]")):
            with open(os.path.join(directory, name), "w") as file:
                file.write(data)
        with open(os.path.join(directory, ".stop-1"), "w") as file:
            file.write('{"grace": 0.3, "reason": "stopped"}')
        os.rename(os.path.join(directory, ".stop-1"), os.path.join(directory, "stop-1"))
    try:
        fd = os.open(os.path.join(path, "wake"), os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, b"w")
        os.close(fd)
    except OSError:
        pass  # it has ended


def told(path: Any, name: Any) -> Any:
    try:
        with open(os.path.join(path, name)) as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def watched(job_id: Any, path: Any, pid: Any, status: Any) -> Any:
    """What became of one that has ended."""
    process = told(path, "process.json") or {}
    outcome = told(path, "outcome.json")
    sizes = {name: os.path.getsize(os.path.join(path, name)) for name in ("stdout", "stderr")}
    return {
        "status": status,
        "outcome": outcome,
        "whole": outcome is not None and outcome["sizes"] == sizes,
        "left": [each for each in (process.get("pid"),) if each and runs(each, job_id)],
        "calls": told(path, "calls"),
        "log": os.path.exists(os.path.join(path, "supervisor.log"))
        and open(os.path.join(path, "supervisor.log")).read()[-500:],
    }


def runs(pid: Any, job_id: Any) -> Any:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return ("REMIT_JOB=" + job_id).encode() in file.read().split(b"\0")
    except OSError:
        return False


def main(state: Any, stage: Any, number: Any, times: Any, first: Any, step: Any) -> Any:
    faults = Faults((), number)
    from remit._agent.kept import barrier
    from remit._jobdir import liveness

    barrier.note_signals()
    liveness.here()
    # The first one goes undisturbed, and tells how many calls there are.
    waiting = [0]
    running = {}  # type: Any
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            at = waiting.pop(0)
            job_id, path, dir_fd = prepared(state, at)
            faults.bad = range(at, at + times) if at else ()
            pid = begin(job_id, dir_fd, stage, faults)
            os.close(dir_fd)
            running[pid] = at, job_id, path, time.monotonic() + PATIENCE
        for pid, (call, job_id, path, until) in list(running.items()):
            ask(path)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended or time.monotonic() > until:
                del running[pid]
                seen = watched(job_id, path, pid, status if ended else "runs on")
                print(json.dumps(dict(seen, call=call)), flush=True)
                if not call:
                    waiting = list(range(first, int(seen["calls"]) + 1, step))
        time.sleep(0.02)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        exec(file.read())
    main(sys.argv[2], sys.argv[3], getattr(errnos, sys.argv[4]), *map(int, sys.argv[5:]))
