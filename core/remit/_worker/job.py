"""One function job: from its task to its last record."""

from __future__ import annotations

import io
import logging  # each function job wants it, and a fork is to find it warm
import os
import signal
import struct
import sys
import types
import warnings
from typing import TYPE_CHECKING

from remit._agent.base.environment import VARIABLE, rename
from remit._wire.msgpack import unpack
from remit._wire.records import DONE
from remit._worker import environ, failures, outlet, programs, spawning

if TYPE_CHECKING:
    from typing import Any, BinaryIO

# A task on its pipe: the size of its head, which is packed [cwd or None, {env}, trust, kind,
# size of the program, size of the arguments], then these two.
_SIZE = struct.Struct(">I")
_SHOWN = 200


class Task:
    """What is to be run, as it stands on the pipe."""

    def __init__(self, pipe: BinaryIO) -> None:
        """Reads all of it. Raises EOFError where whoever sends it is gone."""
        head: Any = unpack(exactly(pipe, _SIZE.unpack(exactly(pipe, _SIZE.size))[0]))
        self.cwd, self.env, self.trust, self.kind, program, arguments = head
        self.program = exactly(pipe, program)
        self.arguments = exactly(pipe, arguments)


def exactly(pipe: BinaryIO, size: int) -> bytes:
    """So many bytes. Raises EOFError."""
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data


def run_forked(
    job_id: str, stdin: int, stdout: int, stderr: int, records: int, task_fd: int, report: int
) -> int:
    """The life of a fork of the warm interpreter; its exit status.

    To the socket ``report`` goes ``+`` and the pid once the function can be called, or ``-`` and
    words why it cannot. It is called once the answer is there; without one it never is.
    """
    rename(job_id)
    for to, fd in enumerate((stdin, stdout, stderr)):
        os.dup2(fd, to)
        os.close(fd)
    try:
        with io.open(task_fd, "rb") as pipe:
            task = Task(pipe)
    except EOFError:
        return 1  # whoever wanted it has gone
    if task.cwd is not None:
        try:
            os.chdir(task.cwd)
        except OSError as exc:
            os.write(report, b"-" + _no_directory(task.cwd, exc).encode("utf-8", "replace"))
            return 1
    environ.update(task.env)
    os.environb[VARIABLE] = job_id.encode()
    try:
        os.write(report, b"+%d" % os.getpid())
        if not os.read(report, 1):
            return 1  # it was stopped before it ran
    except OSError:
        return 1
    os.close(report)
    return run(task, records)


def _no_directory(path: bytes, exc: OSError) -> str:
    # Not all of a very long one: a pipe has to hold it.
    shown = path[:_SHOWN].decode("utf-8", "backslashreplace")
    if isinstance(exc, FileNotFoundError):
        return "no such directory: %s" % shown
    return "cannot enter the directory %s: %s" % (shown, exc.strerror)


def run(task: Task, records: int) -> int:
    """Runs the function; all it makes but its output goes to the pipe ``records``."""
    spawning.install()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    out = outlet.current = outlet.Outlet(records, task.trust)
    open_stdio()
    _listen(out)
    return _perform(out, task)


def _perform(out: outlet.Outlet, task: Task) -> int:
    try:
        program = programs.Program(task.kind, task.program)
        _deliver(out, program(task.arguments))
    except SystemExit as exc:
        status = _status_of(exc)
        if not status:
            out.result(None)
        else:
            out.failure(*failures.told(exc))
        return status
    except BaseException as exc:
        out.failure(*failures.told(exc))
        return 1
    return 0


def _deliver(out: outlet.Outlet, value: Any) -> None:
    """Tells what the function gave: a value, or what comes out of a generator, item by item."""
    if isinstance(value, types.GeneratorType):
        try:
            for item in value:
                out.item(item)
        finally:
            value.close()
        out.say(DONE, ())
    elif isinstance(value, types.AsyncGeneratorType):
        _run_async(_deliver_async(out, value))
        out.say(DONE, ())
    elif isinstance(value, types.CoroutineType):
        _deliver(out, _run_async(value))
    else:
        out.result(value)


def plain(value: Any) -> Any:
    """What a call gives: of a coroutine its result, of a generator a list."""
    if isinstance(value, types.CoroutineType):
        return plain(_run_async(value))
    if isinstance(value, types.GeneratorType):
        return list(value)
    if isinstance(value, types.AsyncGeneratorType):
        return _run_async(_collect(value))
    return value


async def _collect(items: Any) -> list[Any]:
    return [item async for item in items]


async def _deliver_async(out: outlet.Outlet, items: Any) -> None:
    try:
        async for item in items:
            out.item(item)
    finally:
        await items.aclose()


def _run_async(coroutine: Any) -> Any:
    import asyncio

    if hasattr(asyncio, "run"):
        return asyncio.run(coroutine)
    loop = asyncio.new_event_loop()  # 3.6
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _status_of(exc: SystemExit) -> int:
    """What a script that ends so exits with."""
    if exc.code is None:
        return 0
    if isinstance(exc.code, int):
        return exc.code & 0xFF
    sys.stderr.write("%s\n" % (exc.code,))
    return 1


def open_stdio() -> None:
    """Text over the pipes: lines as they are written, in UTF-8 whatever the locale says."""
    encoding, errors, at_once = environ.streams()
    sys.stdin = io.open(0, encoding=encoding, errors=errors or "surrogateescape", closefd=False)
    sys.stdout = _text_out(1, encoding, errors or "surrogateescape", at_once)
    sys.stderr = _text_out(2, encoding, "backslashreplace", at_once)
    sys.__stdin__ = sys.stdin  # type: ignore[misc]
    sys.__stdout__ = sys.stdout  # type: ignore[misc]
    sys.__stderr__ = sys.stderr  # type: ignore[misc]


def _text_out(fd: int, encoding: str, errors: str, at_once: bool) -> io.TextIOWrapper:
    file = io.open(fd, "wb", closefd=False)
    return io.TextIOWrapper(file, encoding, errors, line_buffering=True, write_through=at_once)


class _Handler(logging.Handler):
    def __init__(self, out: outlet.Outlet) -> None:
        super().__init__()
        self._out = out

    def emit(self, record: logging.LogRecord) -> None:
        if self._out.is_ours:
            self._out.log(record)
        elif logging.lastResort is not None and record.levelno >= logging.lastResort.level:
            logging.lastResort.handle(record)


def _listen(out: outlet.Outlet) -> None:
    """Log records from INFO on (the function may set the root logger's level) and warnings. Those
    of a child of the function go where plain Python has them."""
    root = logging.getLogger()
    root.handlers[:] = [_Handler(out)]
    root.setLevel(logging.INFO)
    plainly: Any = warnings.showwarning

    def showwarning(*warning: Any) -> None:
        (out.warning if out.is_ours else plainly)(*warning)

    warnings.showwarning = showwarning  # type: ignore[assignment]
    warnings.simplefilter("default")
    environ.filter_warnings()
