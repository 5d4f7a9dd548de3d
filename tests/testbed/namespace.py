"""A pid namespace with bystanders in it, whom nothing that remit ends may touch.

Its first process is no systemd. Who comes in from outside, as by nsenter or ``docker exec``, has
session id 0 there, and so have the bystanders. Pids can be used again at will. What is killed by
mistake is killed in here only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from testbed import needs, processes, run, through

_SLEEP = ["sleep", "2000000000"]
_PYTHON = [sys.executable, "-I", "-S", "-c"]
# Where CHLD is ignored the kernel reaps. A shell's trap would not do: it sets none for CHLD.
_FIRST = f"""
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp("sleep", {_SLEEP})
"""
# argv: the pid to take, and what takes it: a "process" or a "leader", who leaves its session to a
# child and ends.
_TAKE = """
import os, sys
wanted = int(sys.argv[1])
for _ in range(1000):
    with open("/proc/sys/kernel/ns_last_pid", "w") as file:
        file.write(str(wanted - 1))
    pid = os.fork()
    if not pid:
        if os.getpid() != wanted:
            os._exit(1)
        os.setsid()
        if sys.argv[2] == "leader":
            child = os.fork()
            if child:
                print(child, flush=True)
                os._exit(0)
        else:
            print(wanted, flush=True)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        os.execve("/bin/sleep", ["sleep", "2000000000"], {})
    if pid == wanted:
        break
    os.waitpid(pid, 0)
else:
    sys.exit("somebody has pid %d" % wanted)
"""


class PidNamespace:
    """Pids are as seen from here, but where they are called inner."""

    def __init__(self, first: int) -> None:
        """``first`` is the pid of its first process."""
        self._namespace = _namespace(first)
        self._enter = [needs.tool("nsenter"), f"--target={first}", "--pid", "--mount", "--"]
        # pid: (since when, who)
        self._watched = dict[int, tuple[str, str]]()
        self._entered = list[subprocess.Popen[bytes]]()
        self._watch(first, "the first process")
        for _ in range(2):
            self.bystander()

    def command(self, *argv: str | Path) -> list[str]:
        """The command line that runs ``argv`` in there, as one that came from outside."""
        return [*self._enter, *map(str, argv)]

    def target(self, python: str | Path | None = None) -> str:
        """A target whose agent runs in there. ``python`` is called python3 by name."""
        return through.target(self._enter, python)

    # -- the bystanders

    def bystander(self, *argv: str) -> int:
        """One more: it came in from outside, so its session id is 0. Returns its pid."""
        popen = subprocess.Popen(self.command(*(argv or _SLEEP)), stdin=subprocess.DEVNULL)
        self._entered.append(popen)
        children = Path(f"/proc/{popen.pid}/task/{popen.pid}/children")
        run.wait_until(lambda: bool(children.read_text()), "a bystander to come in")
        pid = int(children.read_text())
        self._watch(pid, "a bystander of session 0")
        return pid

    def take_pid(self, inner: int) -> int:
        """A bystander with that inner pid, in a session of its own, without environment."""
        return self._take(inner, "process", f"who took the inner pid {inner}")

    def take_session(self, inner: int) -> int:
        """A bystander whose session's leader had that inner pid, and is gone."""
        return self._take(inner, "leader", f"a member of the session {inner}")

    def _take(self, inner: int, how: str, who: str) -> int:
        said = run.command(self.command(*_PYTHON, _TAKE, str(inner), how))
        pid = self.here(int(said))
        assert pid is not None, f"{who} did not stay"
        run.wait_until(lambda: _name(pid) == "sleep", f"{who} to drop its environment")
        self._watch(pid, who)
        return pid

    def harmed(self) -> list[str]:
        """The bystanders that have ended or are stopped, in words; empty where all are well."""
        return [
            f"{who} (pid {pid})"
            for pid, (since, who) in self._watched.items()
            if _begun(pid) != since or _state(pid) in "TZX"
        ]

    def _watch(self, pid: int, who: str) -> None:
        self._watched[pid] = _begun(pid), who

    # -- all who are in there

    def everyone(self) -> list[processes.Process]:
        return [p for p in processes.everyone() if _namespace(p.pid) == self._namespace]

    def others(self) -> list[processes.Process]:
        """All but the first process and the bystanders."""
        return [process for process in self.everyone() if process.pid not in self._watched]

    def here(self, inner: int) -> int | None:
        """The pid of the process that has this one in there."""
        return next((p.pid for p in self.everyone() if self.inner(p.pid) == inner), None)

    def inner(self, pid: int) -> int | None:
        """The pid that it has in there; None once it is gone."""
        return int(pids[-1]) if (pids := _field(pid, "NSpid")) else None

    def close(self) -> None:
        """KILL all that is in there, the bystanders too."""
        for popen in self._entered:
            # nsenter stops with what it runs, and would not reap it.
            popen.send_signal(signal.SIGCONT)
        processes.kill([process.pid for process in self.everyone()])
        for popen in self._entered:
            popen.wait()


@contextmanager
def pid_namespace(log: Path) -> Iterator[PidNamespace]:
    needs.root("a pid namespace")
    # It ignores TERM, and would outlive a run that was killed.
    ends_with_us = [needs.tool("setpriv"), "--pdeathsig", "KILL", "--"]
    unshare = [needs.tool("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
    daemon = run.Daemon([*ends_with_us, *unshare, *_PYTHON, _FIRST], log)
    children = Path(f"/proc/{daemon.pid}/task/{daemon.pid}/children")

    def up() -> bool:
        # It is entered by the namespaces that it has once it is what it is to be.
        pids = children.read_text().split()
        return bool(pids) and _name(int(pids[0])) == "sleep"

    try:
        daemon.wait_ready(up)
        namespace = PidNamespace(int(children.read_text()))
        try:
            yield namespace
        finally:
            namespace.close()
    finally:
        daemon.stop(grace=1.0)


def _namespace(pid: int) -> str | None:
    # Not even root may look at those of a user namespace that is not its own.
    with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        return os.readlink(f"/proc/{pid}/ns/pid")
    return None


def _field(pid: int, name: str) -> Sequence[str]:
    """The words of that line of its status; none once it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith(f"{name}:"):
                return line.split()[1:]
    return []


def _name(pid: int) -> str:
    return " ".join(_field(pid, "Name"))


def _state(pid: int) -> str:
    """One letter: proc_pid_stat(5)."""
    return (*_field(pid, "State"), "X")[0]


def _begun(pid: int) -> str:
    """Its start time, in clock ticks; empty once it is gone."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    return ""
