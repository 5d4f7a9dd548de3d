"""Starts a job's first process.

Where the interpreter has posix_spawn (3.8 and later) and nothing is to be done in the new process
before, that is what starts it: a fork of the whole agent takes three times as long. The caller
stands still until the program runs, so that is done for the system's own programs alone. Another
directory, and a program of somebody's own, may be on a file system that hangs: a fork goes there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from typing import TYPE_CHECKING

from remit._agent.base.environment import account, change
from remit._agent.base.fds import AsTheirs, give_back, theirs
from remit._jobdir import statedir
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn


def _start_directory() -> bytes:
    """Where the agent was started, which is the account's home on most computers and the
    container's own directory in a container. A sudo may have left it where its account cannot be
    again: then its home, to which the agent goes, too."""
    for choose in (os.getcwdb, statedir.home):
        try:
            directory = choose()
            os.chdir(directory)
            return directory
        except (OSError, Refused):
            pass
    return b"/"


# Where a job starts that names no directory.
START = _start_directory()

# The signals that can be given their default meaning. Some are the C library's own, which ones is
# its affair: glibc has two, musl three. Python before 3.8 cannot tell.
_FIXED = (signal.SIGKILL, signal.SIGSTOP, 32, 33)
_VALID = signal.valid_signals() if hasattr(signal, "valid_signals") else range(1, signal.NSIG)
_RESETTABLE = [int(signum) for signum in sorted(_VALID) if signum not in _FIXED]
# What is shown of a name in a message, and the most of a message that goes through a pipe: the
# new process would wait for us where it did not fit, and we for it.
_SHOWN = 200
_MOST_REPORT = 4096


class SpawnError(Exception):
    """The command could not be run, for want of ``what``: ``"program"`` or ``"directory"``, or
    ``"beforehand"`` where what was to be done before failed."""

    def __init__(self, what: str, number: int, message: str) -> None:
        super().__init__(message)
        self.what = what
        self.errno = number
        self.message = message


# Where the system's own programs are; were these to hang, nothing would run.
_SYSTEM = (b"/usr/", b"/bin/", b"/sbin/")


def spawn_soon(
    job_id: bytes,
    command: dict[str, Any],
    cwd: bytes | None,
    env: dict[bytes, bytes],
    stdin_fd: int,
    stdout_fd: int,
    stderr_fd: int,
) -> tuple[int, int]:
    """As `spawn`, without waiting for a file system: its pid, and a descriptor on which a `failure`
    is told, or nothing once the program runs; -1 where it runs already. Raises as `spawn`."""
    start = _start(job_id, command, cwd, env, stdin_fd, stdout_fd, stderr_fd)
    if start.is_quick and _has_posix_spawn(stdin_fd, stdout_fd, stderr_fd):
        try:
            return start.by_posix_spawn(), -1
        except NotImplementedError:
            pass  # a libc that cannot start a session so
    pid, report = _forked(lambda: start)
    os.set_blocking(report, False)
    return pid, report


def failure(report: bytes) -> SpawnError:
    """What a report says that is not empty."""
    what, number, message = report.split(b" ", 2)
    return SpawnError(what.decode(), int(number), message.decode("utf-8", "replace"))


def spawn(
    job_id: bytes,
    command: dict[str, Any],
    cwd: bytes | None,
    env: dict[bytes, bytes],
    stdin_fd: int,
    stdout_fd: int,
    stderr_fd: int,
) -> int:
    """Starts ``{"argv": [bytes]}`` or ``{"line": bytes}`` in a session of its own. Its pid.

    ``env`` adds to the account's environment. Raises SpawnError where the directory or the program
    cannot be had, and OSError where the system has no room for a process.
    """
    start = _start(job_id, command, cwd, env, stdin_fd, stdout_fd, stderr_fd)
    if start.stays and _has_posix_spawn(stdin_fd, stdout_fd, stderr_fd):
        try:
            return start.by_posix_spawn()
        except NotImplementedError:
            pass  # a libc that cannot start a session so
    return _fork(lambda: start)


def _has_posix_spawn(*fds: int) -> bool:
    limits = theirs()
    # glibc takes no descriptor that the limit of that moment would not allow to be opened.
    return hasattr(os, "posix_spawn") and (limits is None or max(fds) < limits[0])


def spawn_prepared(prepare: Callable[[], tuple[Any, ...]]) -> int:
    """As `spawn`, with the arguments that ``prepare`` gives, which is called in the new process:
    what it does and touches is not the caller's. An OSError of it is a SpawnError here. Descriptors
    beyond stderr become 3, 4 … there."""
    return _fork(lambda: _start(*prepare()))


def spawn_in_terminal(argv: list[bytes], env: dict[bytes, bytes], terminal_fd: int) -> int:
    """Starts ``argv`` where the agent was started, in a session whose terminal that is. Its pid.

    ``env`` is the whole environment. Raises as `spawn`.
    """
    start = _Start(argv, None, env, (terminal_fd, terminal_fd, terminal_fd), in_terminal=True)
    return _fork(lambda: start)


def _start(
    job_id: bytes,
    command: dict[str, Any],
    cwd: bytes | None,
    env: dict[bytes, bytes],
    *fds: int,
) -> _Start:
    line, program = command.get("line"), None
    if command.get("login"):
        from remit._agent.base import login  # few jobs are started so

        program = login.shell()
        argv = login.words(program, command["line"])
    else:
        argv = list(command["argv"]) if line is None else [b"/bin/sh", b"-c", line]
    manner: dict[str, Any] = command.get("manner") or {}
    environment = {} if manner.get("whole") else account()
    change(environment, env)
    environment[b"REMIT_JOB"] = job_id
    return _Start(argv, cwd, environment, fds, manner=manner, program=program)


def _fork(make: Callable[[], _Start]) -> int:
    pid, report_fd = _forked(make)
    # It may run by now, so nothing that fails here may pass for a failed start.
    report = _read_report(report_fd)
    _quietly(os.close, report_fd)
    if not report:
        return pid
    _quietly(os.waitpid, pid, 0)
    raise failure(report)


def _forked(make: Callable[[], _Start]) -> tuple[int, int]:
    """The pid of a process that goes its way, and what it will report on."""
    report_fd, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(report_fd)
        os.close(writing)
        raise
    if not pid:
        _become(make, writing)
    _quietly(os.close, writing)
    return pid, report_fd


def _quietly(function: Callable[..., object], *args: object) -> None:
    try:
        function(*args)
    except OSError:
        pass


def _read_report(fd: int) -> bytes:
    """Why it does not become its program; nothing where it did."""
    report = b""
    try:
        while True:
            piece = os.read(fd, _MOST_REPORT)
            if not piece:
                break
            report += piece
    except OSError:
        pass  # then its exit status tells
    return report


def reset_signals() -> None:
    """Gives every signal its default meaning, each for itself, and blocks none."""
    for signum in _RESETTABLE:
        try:
            signal.signal(signum, signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # the C library keeps it to itself
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _become(make: Callable[[], _Start], writing: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        reset_signals()
        os.setsid()
        try:
            start = make()
        except OSError as exc:
            words = exc.strerror or str(exc)
            raise SpawnError("beforehand", exc.errno or 0, words) from exc
        start.in_this_process()
    except SpawnError as exc:
        _report(writing, exc.what, exc.errno, exc.message)
    except OSError as exc:
        _report(writing, "program", exc.errno or 0, exc.strerror or str(exc))
    except Exception as exc:
        _report(writing, "program", 0, "it cannot be started: %r" % exc)
    finally:
        os._exit(127)


def _report(writing: int, what: str, number: int, message: str) -> None:
    words = "%s %d %s" % (what, number, message)
    os.write(writing, words.encode("utf-8", "replace")[:_MOST_REPORT])


class _Start:
    def __init__(
        self,
        argv: list[bytes],
        cwd: bytes | None,
        env: dict[bytes, bytes],
        stdio: tuple[int, ...],
        in_terminal: bool = False,
        manner: dict[str, Any] | None = None,
        program: bytes | None = None,
    ) -> None:
        self._argv = argv
        self._program = argv[0] if program is None else program
        self._cwd = START if cwd is None else cwd
        self._env = env
        self._stdio = stdio
        self._in_terminal = in_terminal
        self._manner = manner

    @property
    def stays(self) -> bool:
        """Whether it starts where the agent was started, and is: to go anywhere else might take as
        long as a file system does."""
        return self._cwd == START and _is_at_start()

    @property
    def is_quick(self) -> bool:
        """Whether nothing but the system's own file system is touched on the way to its program."""
        if not self.stays:
            return False
        name = self._program
        if b"/" in name:
            return name.startswith(_SYSTEM)
        for directory in self._path():
            if not (directory + b"/").startswith(_SYSTEM):
                return False
            if name and os.path.exists(os.path.join(directory, name)):
                return True
        return True  # there is no such program

    def _path(self) -> list[bytes]:
        return self._env.get(b"PATH", os.defpath.encode()).split(b":")

    def by_posix_spawn(self) -> int:
        with AsTheirs():
            return self._each(self._posix_spawn)

    def _posix_spawn(self, path: bytes) -> int:
        return os.posix_spawn(
            path,
            self._argv,
            self._env,
            # All others are closed by exec: Python opens none that a program would inherit.
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for to, fd in enumerate(self._stdio)],
            setsid=True,
            setsigmask=(),
            setsigdef=_RESETTABLE,
        )

    def in_this_process(self) -> None:
        """Never returns. Raises SpawnError and OSError."""
        # None of them may be overwritten before it is where it is to be.
        safe = [fcntl.fcntl(fd, fcntl.F_DUPFD, len(self._stdio)) for fd in self._stdio]
        for to, fd in enumerate(safe):
            os.dup2(fd, to)
            os.close(fd)
        if self._in_terminal:
            from remit._agent.base import pty

            pty.take_control(0)
        self._enter()
        give_back()
        if self._manner:
            from remit._agent.base.manner import adopt  # few jobs are started so

            adopt(self._manner)
        self._each(self._exec)

    def _exec(self, path: bytes) -> int:
        os.execve(path, self._argv, self._env)
        raise AssertionError("not reached")

    def _enter(self) -> None:
        try:
            os.chdir(self._cwd)
        except OSError as exc:
            raise _no_directory(self._cwd, exc) from None

    def _each(self, run: Callable[[bytes], int]) -> int:
        """Runs the first program of that name on the job's own PATH."""
        name = self._program
        if not name:
            raise SpawnError("program", errno.ENOENT, "no such program: the name is empty")
        if b"/" in name:
            candidates = [name]
        else:
            candidates = [os.path.join(directory, name) for directory in self._path()]
        refusal = None
        for candidate in candidates:
            if len(candidates) > 1 and not os.path.exists(candidate):
                continue  # cheaper than a process that finds it out
            try:
                return run(candidate)
            except OSError as exc:
                if exc.errno in (errno.EAGAIN, errno.ENOMEM):
                    raise
                # As execvp(3): one that may not be run does not hide a later one.
                refusal = refusal or _cannot_run(name, candidate, exc)
        raise refusal or _cannot_run(name, name, FileNotFoundError(errno.ENOENT, "not found"))


def _is_at_start() -> bool:
    try:
        return os.getcwdb() == START
    except OSError:
        return False  # it was removed


def _no_directory(path: bytes, exc: OSError) -> SpawnError:
    shown = _shown(path)
    if exc.errno == errno.ENOENT:
        return SpawnError("directory", exc.errno, "no such directory: " + shown)
    return SpawnError(
        "directory", exc.errno or 0, "cannot enter the directory %s: %s" % (shown, exc.strerror)
    )


def _cannot_run(name: bytes, path: bytes, exc: OSError) -> SpawnError:
    shown = _shown(name)
    if exc.errno != errno.ENOENT:
        message = "cannot run %s: %s" % (shown, exc.strerror)
    elif os.path.exists(path):
        message = "cannot run %s: the interpreter that its first line names is missing" % shown
    else:
        message = "no such program: " + shown
    return SpawnError("program", exc.errno or 0, message)


def _shown(name: bytes) -> str:
    """For a message: the beginning of a very long one."""
    shown = name[:_SHOWN].decode("utf-8", "backslashreplace")
    return shown if len(name) <= _SHOWN else "%s… (%d bytes)" % (shown, len(name))
