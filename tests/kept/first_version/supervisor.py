"""A supervisor of the first version: what docs/job-directory.md said at the first release.

``supervisor.py STATE ID NAME WORD…`` starts the job, says ``up`` on its stdout, and looks after it
until it has ended. Nothing of remit is used here, and nothing is to be changed along with it: jobs
that were started by the first version are to be served by every later one.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import sys
import time
from contextlib import suppress
from typing import NoReturn

FORMAT = 1
DRAIN = 2.0


def write_json(directory: str, name: str, value: object) -> None:
    """Whole under another name, then renamed."""
    fresh = os.path.join(directory, "." + name)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(fresh, os.path.join(directory, name))


def word(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def start_time(pid: int) -> int:
    """Clock ticks since boot: the 22nd field, counted from behind the name."""
    with open(f"/proc/{pid}/stat") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def descendants(root: int) -> list[int]:
    """Of those that have not ended: the pids of ``root`` and of what descends from it."""
    parents: dict[int, int] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as file:
                    state, parent = file.read().rpartition(")")[2].split()[:2]
            except OSError:
                continue
            if state != "Z":
                parents[int(entry)] = int(parent)
    found = [root] if root in parents else []
    for pid in found:
        found.extend(child for child, parent in parents.items() if parent == pid)
    return found


class Supervisor:
    def __init__(self, state: str, job_id: str, name: str, argv: list[str]) -> None:
        self.id = job_id
        self.directory = os.path.join(state, "jobs", job_id)
        self.ask = os.path.join(self.directory, "ask")
        self.sizes = {"stdout": 0, "stderr": 0}
        self.files: dict[str, int] = {}
        self.sources: dict[int, str] = {}
        self.status: int | None = None
        self.reason: str | None = None
        self.kill_at: float | None = None
        self.to_answer: list[str] = []
        self.claim(os.path.join(state, "jobs"), name, argv)
        self.begin(argv)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def claim(self, jobs: str, name: str, argv: list[str]) -> None:
        os.makedirs(jobs, mode=0o700, exist_ok=True)
        os.mkdir(self.directory, 0o700)
        self.claimed = os.open(self.directory, os.O_RDONLY)
        fcntl.flock(self.claimed, fcntl.LOCK_EX)
        os.mkdir(self.ask, 0o700)
        os.mkfifo(self.path("wake"), 0o600)
        for each in ("stdout", "stderr", "index", "lock"):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND
            self.files[each] = os.open(self.path(each), flags, 0o600)
        job = {
            "format": FORMAT,
            "id": self.id,
            "name": name,
            "group": None,
            "command": {"argv": argv},
            "cwd": None,
            "created": time.time(),
            "placement": "keep",
            "lifetime": "detached",
            "merge": False,
            "limits": {},
        }
        write_json(self.directory, "job.json", job)
        fcntl.lockf(self.files["lock"], fcntl.LOCK_EX)
        self.wake = os.open(self.path("wake"), os.O_RDWR | os.O_NONBLOCK)

    def begin(self, argv: list[str]) -> None:
        self.started = time.time()
        pipes = {stream: os.pipe() for stream in self.sizes}
        self.pid = os.fork()
        if not self.pid:
            self.become(argv, pipes)
        for stream, (reader, writer) in pipes.items():
            os.close(writer)
            self.sources[reader] = stream
        # The first process gives back the directory's flock, which it shares with us.

    def become(self, argv: list[str], pipes: dict[str, tuple[int, int]]) -> NoReturn:
        os.setsid()
        here = {
            "hostname": os.uname().nodename,
            "machine_id": word("/etc/machine-id"),
            "boot_id": word("/proc/sys/kernel/random/boot_id"),
            "pid_namespace": os.readlink("/proc/self/ns/pid"),
            "pid": os.getpid(),
            "start_time": start_time(os.getpid()),
            "started": self.started,
            "supervisor": {"pid": os.getppid(), "start_time": start_time(os.getppid())},
        }
        write_json(self.directory, "process.json", here)
        fcntl.flock(self.claimed, fcntl.LOCK_UN)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(pipes["stdout"][1], 1)
        os.dup2(pipes["stderr"][1], 2)
        os.closerange(3, 256)
        os.execvpe(argv[0], argv, dict(os.environ, REMIT_JOB=self.id))

    def run(self) -> None:
        drained = 0.0
        while True:
            ready = select.select([self.wake, *self.sources], [], [], 0.02)[0]
            for fd in ready:
                if fd == self.wake:
                    if b"s" in os.read(fd, 4096):
                        self.stop("stopped", 5.0)
                    self.look()
                else:
                    self.take(fd)
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self.send(signal.SIGKILL)
            if self.status is None:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    self.status = status
                    drained = time.monotonic() + DRAIN
            elif not self.sources or time.monotonic() > drained:
                break
        self.record()

    def take(self, fd: int) -> None:
        data = os.read(fd, 1 << 16)
        stream = self.sources[fd]
        if not data:
            del self.sources[fd]
            os.close(fd)
            return
        os.write(self.files[stream], data)
        line = f"{time.time():17.6f} {stream:8} {self.sizes[stream]:020} {len(data):015}\n"
        os.write(self.files["index"], line.encode())
        self.sizes[stream] += len(data)

    def look(self) -> None:
        for name in sorted(os.listdir(self.ask)):
            if name.startswith((".", "answer-")) or name in self.to_answer:
                continue
            with open(os.path.join(self.ask, name)) as file:
                request = json.load(file)
            what = name.split("-")[0]
            if what == "stop":
                self.to_answer.append(name)
                self.stop(request.get("reason", "stopped"), request["grace"])
            elif what in ("suspend", "resume"):
                self.send(signal.SIGSTOP if what == "suspend" else signal.SIGCONT)
                self.answer(name, {})
            else:
                self.answer(name, {"error": f"{what} is no request that I know"})

    def answer(self, name: str, answer: dict[str, object]) -> None:
        write_json(self.ask, "answer-" + name, answer)
        os.unlink(os.path.join(self.ask, name))

    def stop(self, reason: str, grace: float) -> None:
        self.reason = self.reason or reason
        self.kill_at = time.monotonic() + grace
        self.send(signal.SIGTERM)
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        for pid in descendants(self.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def record(self) -> None:
        assert self.status is not None
        exited = os.WIFEXITED(self.status)
        outcome: dict[str, object] = {
            "format": FORMAT,
            "exit_status": os.WEXITSTATUS(self.status) if exited else None,
            "signal": None if exited else signal.Signals(os.WTERMSIG(self.status)).name,
            "reason": self.reason or ("exited" if exited else "signalled"),
            "error": None,
            "note": None,
            "left_behind": [],
            "core": False,
            "rusage": None,
            "started": self.started,
            "finished": time.time(),
            "sizes": self.sizes,
        }
        write_json(self.directory, "outcome.json", outcome)
        for name in self.to_answer:
            self.answer(name, {"survivors": []})


if __name__ == "__main__":
    os.umask(0o077)
    supervisor = Supervisor(sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:])
    print("up", flush=True)
    supervisor.run()
