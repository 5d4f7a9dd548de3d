"""A program on this computer as a byte stream: what most transports are made of."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from remit._errors import ConnectError
from remit._public import named_as_written
from remit._pump import TAIL
from remit.abc import ByteStream, End

# Seconds for the program to leave by itself once its stdin is closed, and again after TERM.
GRACE = 2.0
# Larger pipes mean fewer wake-ups; measured, a MiB adds nothing to this. An account whose pipes
# come to 64 MiB gets tiny ones from then on, in all its programs: pipe(7), pipe-user-pages-soft.
_PIPE_SIZE = 1 << 18
# How many times in a row a pipe may be ready at once before the other tasks get a turn.
_STREAK = 8
# Seconds between looks at the process where the kernel has no pidfd (Linux before 5.3).
_LOOK = 0.02


def open_process(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, new_session: bool = True
) -> AbstractAsyncContextManager[ByteStream]:
    """Runs ``argv`` here, its stdin and stdout as a byte stream, its stderr as the stream's tail.

    ``env`` replaces the environment. The program gets a session of its own, out of reach of the
    terminal and its Ctrl-C; with ``new_session=False`` it may ask its user there. Entering raises
    ConnectError where the program cannot be started. Leaving closes stdin and stdout; what has not
    ended 2 s later gets TERM and after 2 s more KILL, with the whole of its process group where
    the session is its own. What the program put into sessions of their own runs on.
    """
    return _Process(list(argv), env, new_session)


class _Process:
    """The stream and its context manager. One task at a time may receive, and one send."""

    _stdin: _PipeEnd
    _stdout: _PipeEnd
    _stderr: _PipeEnd
    _child: subprocess.Popen[bytes]
    _tasks: TaskGroup
    _scopes: list[anyio.CancelScope]
    _over: anyio.Event

    def __init__(self, argv: list[str], env: Mapping[str, str] | None, new_session: bool) -> None:
        self._argv = argv
        self._env = env
        self._new_session = new_session
        self._tail = bytearray()
        self._exit_status: int | None = None

    async def __aenter__(self) -> Self:
        self._over = anyio.Event()
        self._tasks = anyio.create_task_group()
        # Shielded: who leaves because of a cancel has to see the program's end too.
        self._scopes = [anyio.CancelScope(shield=True) for _ in range(2)]
        await self._tasks.__aenter__()
        try:
            self._start()
        except BaseException:
            await self._tasks.__aexit__(None, None, None)
            raise
        # No await from here on: a started program always gets to `__aexit__`.
        for function, scope in zip((self._drain, self._watch), self._scopes, strict=True):
            self._tasks.start_soon(_within, scope, function)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stdin.close()
        self._stdout.close()
        try:
            with anyio.CancelScope(shield=True):
                await self._end()
        finally:
            if not self._over.is_set():  # asyncio's own Task.cancel() gets through the shield
                self._signal(signal.SIGKILL)
            for scope in self._scopes:
                scope.cancel()
            try:
                # Not told of the body's exception, which it would wrap in a group.
                await self._tasks.__aexit__(None, None, None)
            finally:
                self._stderr.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._child.wait(1.0)  # it has ended: this only reaps it

    # -- the stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._stdout.read(max_bytes)

    async def send(self, data: bytes) -> None:
        await self._stdin.write(data)

    async def wait(self) -> End:
        await self._over.wait()
        return End(self._exit_status, self.stderr_tail)

    @property
    def stderr_tail(self) -> bytes:
        return bytes(self._tail)

    def fileno(self) -> int:
        return self._stdin.descriptor

    # -- its life

    def _start(self) -> None:
        program = self._argv[0]
        with contextlib.ExitStack() as undo:
            try:
                theirs_in, ours_in = _pipe(undo, _PIPE_SIZE)
                ours_out, theirs_out = _pipe(undo, _PIPE_SIZE)
                ours_err, theirs_err = _pipe(undo)
                self._child = subprocess.Popen(
                    self._argv,
                    stdin=theirs_in,
                    stdout=theirs_out,
                    stderr=theirs_err,
                    env=self._env,
                    start_new_session=self._new_session,
                )
            except FileNotFoundError as exc:
                raise ConnectError(
                    f"no such program: {program}",
                    hint=f"install {program!r}, or have the directory it is in on PATH",
                ) from exc
            except OSError as exc:
                raise ConnectError(
                    f"{program} cannot be started: {exc.strerror}",
                    hint=_START_HINTS.get(exc.errno or 0, ""),
                ) from exc
            undo.pop_all()
        for descriptor in (theirs_in, theirs_out, theirs_err):
            os.close(descriptor)
        self._stdin = _PipeEnd(ours_in)
        self._stdout = _PipeEnd(ours_out)
        self._stderr = _PipeEnd(ours_err)

    async def _drain(self) -> None:
        while data := await self._stderr.read(65536):
            self._note(data)

    def _note(self, data: bytes) -> None:
        self._tail += data
        del self._tail[:-TAIL]

    async def _watch(self) -> None:
        self._exit_status = await _exit_status(self._child.pid)
        # All that the program said is in the pipe by now. The pipe's own end is not waited for: a
        # process that the program left behind may hold it open for ever.
        self._note(self._stderr.read_now())
        self._over.set()

    async def _end(self) -> None:
        if await self._over_within(GRACE):
            return
        self._signal(signal.SIGTERM)
        await self._over_within(GRACE)
        # Also where it is over: others of its group may not have heeded TERM.
        self._signal(signal.SIGKILL)
        await self._over_within(GRACE)

    async def _over_within(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return self._over.is_set()

    def _signal(self, number: int) -> None:
        # It is reaped last of all, so its number cannot have become another's meanwhile.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self._new_session:
                os.killpg(self._child.pid, number)
            else:
                os.kill(self._child.pid, number)


async def _within(scope: anyio.CancelScope, function: Callable[[], Awaitable[None]]) -> None:
    with scope:
        await function()


_START_HINTS = {
    errno.EACCES: "is it a file, and executable?",
    errno.EMFILE: "`ulimit -n` says how many files this process may have open",
}


class _PipeEnd:
    """Our end of one pipe."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._streak = 0
        self._drained = False

    @property
    def descriptor(self) -> int:
        """Raises ClosedResourceError once it is closed: the number may be another file's by now."""
        if self._descriptor < 0:
            raise anyio.ClosedResourceError
        return self._descriptor

    async def read(self, max_bytes: int) -> bytes:
        if not self._drained:
            await self._take_turn()
        while True:
            if self._drained:
                self._streak = 0
                await anyio.wait_readable(self.descriptor)
            # Nothing is awaited after a read that got something, so that no cancel can lose it.
            try:
                data = os.read(self.descriptor, max_bytes)
            except BlockingIOError:
                self._drained = True
                continue
            # What it gives less than it could is all there was.
            self._drained = 0 < len(data) < max_bytes
            return data

    def read_now(self) -> bytes:
        """What is in the pipe now: at most what fits into it, whoever goes on writing."""
        data = bytearray()
        room = fcntl.fcntl(self.descriptor, fcntl.F_GETPIPE_SZ)
        with contextlib.suppress(BlockingIOError):
            while len(data) < room and (piece := os.read(self.descriptor, room - len(data))):
                data += piece
        return bytes(data)

    async def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            await self._take_turn()
            try:
                rest = rest[os.write(self.descriptor, rest) :]
            except BlockingIOError:
                self._streak = 0
                await anyio.wait_writable(self._descriptor)

    def close(self) -> None:
        """Whoever waits for the pipe gets ClosedResourceError. Twice is quiet."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            anyio.notify_closing(descriptor)
            os.close(descriptor)

    async def _take_turn(self) -> None:
        # A whole turn of the loop for each piece would halve what a fast program can send.
        self._streak += 1
        if self._streak < _STREAK:
            await checkpoint_if_cancelled()
        else:
            self._streak = 0
            await checkpoint()


def _pipe(undo: contextlib.ExitStack, size: int = 0) -> tuple[int, int]:
    """A new pipe, its reading end first; both ends are closed by ``undo``."""
    reading, writing = os.pipe()
    undo.callback(os.close, reading)
    undo.callback(os.close, writing)
    if size:
        # Refused once the account has its share; the pipe is then of the usual 64 KiB.
        with contextlib.suppress(OSError):
            fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, size)
    return reading, writing


async def _exit_status(pid: int) -> int | None:
    """Waits for the end of a child and leaves it to be reaped. Negative: a signal."""
    with contextlib.ExitStack() as stack:
        try:
            watch = os.pidfd_open(pid)
        except OSError:
            while not _has_ended(pid):  # noqa: ASYNC110 - there is nothing to wait for
                await anyio.sleep(_LOOK)
        else:
            stack.callback(os.close, watch)
            stack.callback(anyio.notify_closing, watch)
            await anyio.wait_readable(watch)
    try:
        # At once, since it has ended.
        end = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222
    except ChildProcessError:
        return None  # reaped by another: the caller's program ignores SIGCHLD, or waits for all
    assert end is not None, "only WNOHANG gives None"
    return end.si_status if end.si_code == os.CLD_EXITED else -end.si_status


def _has_ended(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    except ChildProcessError:
        return True


named_as_written(__name__)
