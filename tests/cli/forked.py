"""``remit`` as a process of its own, without the time that an interpreter takes to start."""

from __future__ import annotations

import functools
import importlib
import os
import pkgutil
import resource
import select
import signal
import sys
import time
from collections.abc import Callable, Sequence
from typing import IO

import attrs

import remit.cli
from cli.agreeing import Agreeing
from remit._link import agent_payload
from remit._plugins import plugins
from remit._session.farewell import Callers
from remit.cli import _collecting, _demo, _interrupts, _main

LIMIT = 30.0
FOR_EVER = 3600.0


@attrs.frozen
class Done:
    status: int
    """As a shell has it: 128 and the number for a signal."""
    stdout: str
    stderr: str

    @property
    def last(self) -> str:
        return (self.stderr.splitlines() or [""])[-1]


def forked(
    line: Sequence[str],
    *,
    before: Callable[[], object] = int,
    hangs: str = "",
    number: signal.Signals | None = None,
    again: bool = False,
) -> Done:
    """Runs the words. ``before`` is called in the child, and does to its descriptors what it likes;
    with ``number`` that signal is sent once the target ``hangs`` there, ``again`` and again until
    it ends, however long a target has for a goodbye."""
    _load()
    out, told_out = os.pipe()
    err, told_err = os.pipe()
    ready, told_ready = os.pipe()
    pid = os.fork()
    if not pid:
        status = 99
        try:
            for fd, ours in ((1, told_out), (2, told_err)):
                os.dup2(ours, fd)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.closerange(3, told_ready)
            _interrupts._FAREWELL = FOR_EVER if again else 0.1
            status = _child(line, before, Agreeing(hangs, lambda: os.write(told_ready, b"r")))
        finally:
            os._exit(status)
    for fd in (told_out, told_err, told_ready):
        os.close(fd)
    try:
        if number is not None:
            _await(ready, pid)
            os.kill(pid, number)
        status = os.waitstatus_to_exitcode(_wait(pid, number if again else None))
        with open(out, closefd=False) as stdout, open(err, closefd=False) as stderr:
            return Done(status if status >= 0 else 128 - status, stdout.read(), stderr.read())
    finally:
        for fd in (out, err, ready):
            os.close(fd)


@functools.cache
def _load() -> None:
    """All that a command would import and make: once, for all that are forked."""
    for module in pkgutil.walk_packages(remit.cli.__path__, "remit.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    plugins()
    agent_payload.payload(True)


def _child(line: Sequence[str], before: Callable[[], object], target: Agreeing) -> int:
    plugins().transports.clear()
    plugins().transports["fake"] = target
    _demo.PROGRAM[:] = ["true"]

    async def collect(*_: object) -> _collecting.Answer:
        """Another process would know nothing of that target."""
        return _collecting.Answer()

    _collecting.collect = collect  # type: ignore[assignment]
    Callers.farewell = FOR_EVER  # so that it shows who waits for that
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    before()
    sys.argv = ["remit", *line]
    sys.stdin, sys.stdout, sys.stderr = _file(0), _file(1), _file(2)
    try:
        _main.run_words()
    except SystemExit as exc:
        return exc.code if isinstance(exc.code, int) else 0 if exc.code is None else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 98
    return 97  # it always exits


def _file(fd: int) -> IO[str]:
    _main._open_standard_files()
    return open(fd, "r" if not fd else "w", errors="backslashreplace", closefd=False)


def _await(ready: int, pid: int) -> None:
    if not select.select([ready], [], [], LIMIT)[0] or not os.read(ready, 1):
        os.kill(pid, signal.SIGKILL)
        _wait(pid)
        raise AssertionError("the target was not asked")


def _wait(pid: int, number: signal.Signals | None = None) -> int:
    until = time.monotonic() + LIMIT
    while time.monotonic() < until:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return status
        time.sleep(0.005)
        if number is not None:
            os.kill(pid, number)
    os.kill(pid, signal.SIGKILL)
    return os.waitpid(pid, 0)[1]
