"""Supervisors whose directory dies under them. Runs under any Python from 3.6 on.

``dead.py SOURCES STATE ERROR FIRST STEP``: from the calls FIRST, FIRST + STEP … on that concern the
job's directory all of them fail with ERROR, until nothing of the job runs, or for good where the
error is one of a directory that is gone. With the error ``removed`` the directory is deleted then.
Prints a line of JSON for each supervisor: from which call on, and what became of it and of its job.
"""

import errno as errnos
import json
import os
import shutil
import signal
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from kept import faulty

AT_ONCE = 12
# Seconds: for a stop to be asked for, and for one that is to end.
SETTLED = 0.3
PATIENCE = 60.0
GONE = ("ESTALE", "ENOTCONN", "ENOENT", "removed")
# What is done by a descriptor, which may be of a file there.
BY_FD = ("write", "ftruncate", "fsync", "fstat", "listdir", "read", "readv", "pread")
FIFOS = ("/wake", "/lease")


class Death(faulty.Faults):
    """As `Faults`: counts the calls from `arm` on that a dead directory would fail."""

    path = ""
    first = 0
    armed = False

    def __init__(self, error: Any) -> None:
        self.readlink = os.readlink
        self.error = error
        super().__init__((), getattr(errnos, error, 0))

    def wrapped(self, name: Any, function: Any) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            if not self.armed or not self.concerns(name, args, named):
                return function(*args, **named)
            self.count += 1
            if not self.first or self.count < self.first or os.path.exists(self.path + ".healed"):
                return function(*args, **named)
            if self.error != "removed":
                raise OSError(self.number, os.strerror(self.number), name)
            self.armed = False
            shutil.rmtree(self.path, ignore_errors=True)
            self.armed = True
            return function(*args, **named)

        return call

    def concerns(self, name: Any, args: Any, named: Any) -> Any:
        if "dir_fd" in named or "src_dir_fd" in named:
            return True
        if name not in BY_FD or not isinstance(args[0], int):
            return False
        try:
            place = self.readlink(f"/proc/self/fd/{args[0]}")
        except OSError:
            return False
        return place.startswith(self.path) and not place.endswith(FIFOS)


def of_job(job_id: Any) -> Any:
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and faulty.runs(pid, job_id)]


class Watched:
    """One of the supervisors."""

    def __init__(self, state: Any, call: Any, death: Any) -> None:
        self.call = call
        self.job_id, self.path, dir_fd = faulty.prepared(state, call)
        death.path, death.first = self.path, call
        self.pid = faulty.begin(self.job_id, dir_fd, "start", death)
        os.close(dir_fd)
        self.began = time.monotonic()
        self.healed = False
        self.healing = death.error not in GONE

    def look(self) -> Any:
        """What became of it, once that is known."""
        ended, status = os.waitpid(self.pid, os.WNOHANG)
        now = time.monotonic()
        if not ended and now < self.began + PATIENCE:
            if now > self.began + SETTLED:
                os.kill(self.pid, signal.SIGTERM)
                if self.healing and not self.healed and not of_job(self.job_id):
                    self.healed = True
                    open(self.path + ".healed", "w").close()
            return None
        if not ended:
            os.kill(self.pid, signal.SIGKILL)
        outcome = faulty.told(self.path, "outcome.json")
        return {
            "call": self.call,
            "status": status if ended else "runs on",
            "outcome": outcome,
            "whole": outcome is not None and outcome["sizes"] == self.sizes(),
            "left": of_job(self.job_id),
            "healed": self.healed,
            "calls": faulty.told(self.path, "calls"),
        }

    def sizes(self) -> Any:
        return {
            name: os.path.getsize(os.path.join(self.path, name)) for name in ("stdout", "stderr")
        }


def main(state: Any, error: Any, first: Any, step: Any) -> Any:
    death = Death(error)
    from remit._agent.kept import barrier, ending
    from remit._jobdir import liveness

    barrier.note_signals()
    liveness.here()
    ending._GONE_PATIENCE = 0.5
    ending._LONGEST_RETRY = barrier._LONGEST_REST = 0.3
    # The first one goes undisturbed, and tells how many calls there are.
    waiting = [0]
    running = []  # type: Any
    while waiting or running:
        while waiting and len(running) < AT_ONCE:
            running.append(Watched(state, waiting.pop(0), death))
        for each in list(running):
            seen = each.look()
            if seen is not None:
                running.remove(each)
                print(json.dumps(seen), flush=True)
                if not each.call:
                    waiting = list(range(first, int(seen["calls"]) + 1, step))
        time.sleep(0.05)


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        exec(file.read())
    main(sys.argv[2], sys.argv[3], *map(int, sys.argv[4:]))
