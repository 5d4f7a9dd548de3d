"""systemd-logind: where the end of a login session kills what the account leaves running.

Told from the files that logind itself reads: logind.conf(5), KillUserProcesses. What is to live on
there is started with ``systemd-run --user --scope``, outside of the session. Standard library only,
Python 3.6.
"""

from __future__ import annotations

import os
import pwd
import signal
import time
from typing import TYPE_CHECKING

from remit._agent.base.environment import given

if TYPE_CHECKING:
    from collections.abc import Iterator

# In front of every path that is looked at here.
ROOT = "/"

# The directories of configuration, the foremost wins: systemd.unit(5) has the same order.
_CONFIGURATIONS = ("etc", "run", "usr/local/lib", "usr/lib")
_TRUE = ("1", "yes", "y", "true", "t", "on")
# Seconds that the user's manager may take to make a scope.
_PATIENCE = 5.0
_POLL = 0.01
_ENABLE_LINGER = "`loginctl enable-linger` there lets it outlive them"


def warning(pid: int) -> str | None:
    """What a caller has to know of a process that is to outlive this login session, if anything."""
    if not ends_with_session("self"):
        return None
    if ends_with_session(pid):
        return (
            "the job will be killed at the end of the login session there (KillUserProcesses=yes in"
            " logind.conf, and systemd-run --user --scope does not work)"
        )
    if not _lingers():
        return (
            "the job will be killed at the end of the last login session there "
            "(KillUserProcesses=yes in logind.conf, no lingering); " + _ENABLE_LINGER
        )
    return None


def ends_with_session(pid: int | str) -> bool:
    """Whether the end of its login session would kill that process."""
    return _in_session(pid) and _kills_processes(_user())


def _in_session(pid: int | str) -> bool:
    path = _read("proc/%s/cgroup" % pid) or ""
    return any(
        part.startswith("session-") and part.endswith(".scope")
        for part in path.replace("\n", "/").split("/")
    )


def _kills_processes(user: str) -> bool:
    """logind's own rule: `manager_shall_kill` in its logind-core.c."""
    settings = _settings()
    if settings.get("KillUserProcesses", "").lower() not in _TRUE:
        return False
    if user in settings.get("KillExcludeUsers", "root").split():
        return False
    only = settings.get("KillOnlyUsers", "").split()
    return not only or user in only


def _settings() -> dict[str, str]:
    settings: dict[str, str] = {}
    for name in _CONFIGURATIONS:
        main = _read(name + "/systemd/logind.conf")
        if main is not None:
            # Distributions ship it with what was compiled in, as comments.
            settings.update(_assignments(main, "#KillUserProcesses="))
            settings.update(_assignments(main))
            break
    drop_ins: dict[str, str] = {}
    for name in _CONFIGURATIONS:
        directory = name + "/systemd/logind.conf.d"
        for file in _listed(directory):
            if file.endswith(".conf"):
                drop_ins.setdefault(file, directory)
    for file, directory in sorted(drop_ins.items()):
        settings.update(_assignments(_read("%s/%s" % (directory, file)) or ""))
    return settings


def _assignments(text: str, beginning: str = "") -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and line.strip().startswith(beginning) and (beginning or key[:1] not in "#;"):
            yield key.strip().lstrip("#"), value.strip()


def _lingers() -> bool:
    return os.path.exists(os.path.join(ROOT, "var/lib/systemd/linger", _user()))


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def _read(path: str) -> str | None:
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8", errors="replace") as file:
            return file.read(1 << 20)
    except OSError:
        return None


def _listed(path: str) -> list[str]:
    try:
        return os.listdir(os.path.join(ROOT, path))
    except OSError:
        return []


# -- the way out


def leave_session(orders: int, program: bytes) -> None:
    """Goes on as a process that is in no session: becomes ``program``, Python source, in a scope of
    the user's manager. Returns where that does not work.

    The program has ``orders`` as descriptor 1. For a fork of the agent: it may take seconds.
    """
    runner = _find("systemd-run")
    if runner is None:
        return
    scoped = [runner, "--user", "--scope", "--quiet", "--"]
    if not _works([*scoped, "/bin/sh", "-c", ":"]):
        return
    with open("/proc/self/cmdline", "rb") as file:
        # The agent's own words, which tell the janitor that this is one of ours, and which read
        # a line of source from descriptor 0. systemd-run puts its own path in front; sh does not.
        own = file.read().rstrip(b"\0").split(b"\0")
    null = os.open(os.devnull, os.O_RDWR)
    for fd, at in ((_sent(_READ_ALL + program), 0), (orders, 1), (null, 2)):
        os.dup2(fd, at)
    words = [*scoped, "/bin/sh", "-c", 'exec "$@"', "remit"]
    os.execve(runner, [os.fsencode(word) for word in words] + own, given())


def _sent(data: bytes) -> int:
    """A pipe from which it can be read, however long it is; nobody's child writes it."""
    source, sending = os.pipe()
    between = os.fork()
    if not between:
        try:
            os.close(source)
            if not os.fork():
                left = memoryview(data)
                while left:
                    left = left[os.write(sending, left) :]
        finally:
            os._exit(0)
    os.close(sending)
    os.waitpid(between, 0)
    return source


_READ_ALL = b"import os; exec(bytes().join(iter(lambda: os.read(0, 65536), bytes())))\n"


def _find(name: str) -> str | None:
    for directory in os.get_exec_path():
        path = os.path.join(directory, name)
        if os.access(path, os.X_OK) and not os.path.isdir(path):
            return path
    return None


def _works(words: list[str]) -> bool:
    pid = os.fork()
    if not pid:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for fd in range(3):
                os.dup2(null, fd)
            os.execv(words[0], words)
        finally:
            os._exit(127)
    deadline = time.monotonic() + _PATIENCE
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status == 0
        time.sleep(_POLL)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False
