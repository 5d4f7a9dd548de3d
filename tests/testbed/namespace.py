"""A pid namespace with bystanders in it, whom nothing that remit ends may touch.

Its first process is no systemd. Who comes in from outside, as by nsenter or ``docker exec``, has
session id 0 there, and so have the bystanders. Pids can be used again at will. What is killed by
mistake is killed in here only.
"""

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from testbed import needs, processes, run, through

_LIBC = ctypes.CDLL(None, use_errno=True)
_SLEEP = ["sleep", "2000000000"]
_PYTHON = [sys.executable, "-I", "-S", "-c"]
# Where CHLD is ignored the kernel reaps. A shell's trap would not do: it sets none for CHLD.
_FIRST = f"""
import os, signal
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp("sleep", {_SLEEP})
"""
# argv: the pid to take, what takes it (a "process" or a "leader", who leaves its session to a child
# and ends), and the uid to have.
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
        os.setuid(int(sys.argv[3]))
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


class Bystanders:
    """Processes of nobody's jobs, and whether they are well. Pids are as seen from here, but where
    they are called inner: those are as seen in the pid namespace where the bystanders are."""

    def __init__(self, first: int, *, mounts: bool = True, uid: int = 0) -> None:
        """In the pid namespace of the process ``first``, and with its view of the files if
        ``mounts``. Who comes in from another namespace has session id 0."""
        self._first = first
        self._mounts = mounts
        self._uid = uid
        self._namespace = _namespace(first)
        # pid: (since when, who)
        self._watched = dict[int, tuple[str, str]]()
        self._started = list[subprocess.Popen[bytes]]()

    def popen(self, argv: Sequence[str | Path], **options: Any) -> subprocess.Popen[bytes]:
        """Starts it in there, as a child of ours all the same."""
        with ExitStack() as stack:
            opened = []
            for name in ("pid", "mnt"):
                fd = os.open(f"/proc/{self._first}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
                stack.callback(os.close, fd)
                opened.append(fd)
            enter = functools.partial(_setns, opened[1]) if self._mounts else None
            # It is the children that get into a pid namespace.
            with _children_in(opened[0]):
                return subprocess.Popen(argv, preexec_fn=enter, **options)

    def bystander(self) -> int:
        """One more: it came in from outside, so its session id is 0. Returns its pid."""
        popen = self.popen(_SLEEP, stdin=subprocess.DEVNULL, user=self._uid)
        self._started.append(popen)
        self.watch(popen.pid, "a bystander of session 0")
        return popen.pid

    def take_pid(self, inner: int) -> int:
        """A bystander with that inner pid, in a session of its own, without environment.

        Raises RuntimeError where somebody has it."""
        return self._take(inner, "process", f"who took the inner pid {inner}")

    def take_session(self, inner: int) -> int:
        """A bystander whose session's leader had that inner pid, and is gone. Raises as above."""
        return self._take(inner, "leader", f"a member of the session {inner}")

    def _take(self, inner: int, how: str, who: str) -> int:
        argv = [*_PYTHON, _TAKE, str(inner), how, str(self._uid)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(argv, stdin=subprocess.DEVNULL, **pipes) as popen:
            said, complaint = popen.communicate(timeout=run.COMMAND_TIMEOUT)
        if popen.returncode:
            raise RuntimeError(complaint.decode())
        pid = self.here(int(said))
        assert pid is not None, f"{who} did not stay"
        run.wait_until(lambda: _name(pid) == "sleep", f"{who} to drop its environment")
        self.watch(pid, who)
        return pid

    def watch(self, pid: int, who: str) -> None:
        """Any process is one from now on."""
        self._watched[pid] = _begun(pid), who

    def harmed(self) -> list[str]:
        """Those that have ended or are stopped, in words; empty where all are well."""
        return [
            f"{who} (pid {pid})"
            for pid, (since, who) in self._watched.items()
            if _begun(pid) != since or _state(pid) in "TZX"
        ]

    def everyone(self) -> list[processes.Process]:
        """All that are in there."""
        return [p for p in processes.everyone() if _namespace(p.pid) == self._namespace]

    def others(self) -> list[processes.Process]:
        """All but the bystanders."""
        return [process for process in self.everyone() if process.pid not in self._watched]

    def here(self, inner: int) -> int | None:
        """The pid of the process that has this one in there."""
        return next((p.pid for p in self.everyone() if self.inner(p.pid) == inner), None)

    def inner(self, pid: int) -> int | None:
        """The pid that it has in there; None once it is gone."""
        return int(pids[-1]) if (pids := _field(pid, "NSpid")) else None

    def dismiss(self) -> None:
        """KILL them, but for the first process, and watch nobody any more."""
        watched = self._watched.items()
        ours = [pid for pid, (since, _) in watched if _begun(pid) == since and pid != self._first]
        processes.kill(ours)
        self._watched.clear()
        for popen in self._started:
            popen.wait()


class PidNamespace(Bystanders):
    """Its first process and two others are bystanders."""

    def __init__(self, first: int) -> None:
        super().__init__(first)
        self.first = first
        self.enter = [needs.tool("nsenter"), f"--target={first}", "--pid", "--mount", "--"]
        """The beginning of a command that runs in there, as one that came from outside."""
        self.watch(first, "the first process")
        for _ in range(2):
            self.bystander()

    def command(self, *argv: str | Path) -> list[str]:
        return [*self.enter, *map(str, argv)]

    def target(self, python: str | Path | None = None) -> str:
        """A target whose agent runs in there. ``python`` is called python3 by name."""
        return through.target(self.enter, python)

    def close(self) -> None:
        """KILL all that is in there, the bystanders too."""
        processes.kill([p.pid for p in self.everyone() if p.pid != self.first])
        self.dismiss()
        # It ends only once all others are reaped, and reaps those that were left to it.
        processes.kill([self.first])


@contextmanager
def _children_in(namespace: int) -> Iterator[None]:
    """What this thread forks is in that pid namespace meanwhile; this process itself stays."""
    own = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(namespace)
        try:
            yield
        finally:
            _setns(own)
    finally:
        os.close(own)


def _setns(namespace: int) -> None:
    if _LIBC.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


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
