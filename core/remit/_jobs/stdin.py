"""What a job is given to read: bytes, a file or an async iterable, poured piece by piece."""

from __future__ import annotations

import io
import math
import os
import select
import stat
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread

from remit._errors import JobStateError, RemitError
from remit._jobs.channel import JobChannel
from remit._types import JobState
from remit._wire.streams import TASK

_FILE_PIECE: Final = 1 << 18
# Seconds that an async generator may take to clean up once nobody reads it any more.
_CLEAN_UP: Final = 5.0

Send = Callable[[bytes | memoryview], Awaitable[None]]


class JobStdin:
    """What one job reads, over its channel, for as long as it does."""

    def __init__(self, job_id: str, channel: JobChannel, *, piped: bool) -> None:
        """``piped``: whether it is users who send."""
        self.piped = piped
        self._job_id = job_id
        self._channel = channel
        self._eof_sent = False
        self._over: JobState | None = None  # what the job was, or is, when it reads no more
        self._scope: anyio.CancelScope | None = None  # of the task that pours it

    def over(self, state: JobState) -> None:
        """The job, which is ``state``, reads no more of it."""
        self._over = state
        self._channel.shut(self._unread(state))
        if self._scope is not None:
            self._scope.cancel()

    async def pour(self, task: bytes, source: Any) -> None:
        """The rest of its task, then its stdin, if any; not for longer than it reads, which is its
        own affair, as in a shell's pipeline. Raises what ``source`` raises."""

        async def send(data: bytes | memoryview, stream: int = 0) -> None:
            try:
                await self._channel.send(data, stream)
            except RemitError:
                scope.cancel()  # what ``source`` raises is something else
            await anyio.lowlevel.checkpoint()

        with anyio.CancelScope() as scope:
            self._scope = scope
            await send(task, TASK)
            if source is not None and not self.piped:
                await pour(source, send)
                self._channel.send_eof()
        self._scope = None

    async def send(self, data: bytes | memoryview) -> None:
        if self._eof_sent:
            raise self._closed()
        if self._over is not None:
            raise self._unread(self._over)
        await self._channel.send(data)
        await anyio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._eof_sent = True
        self._channel.send_eof()
        self._channel.shut(self._closed())

    def _closed(self) -> JobStateError:
        return JobStateError(f"the stdin of job {self._job_id} was closed by send_eof")

    def _unread(self, state: JobState) -> JobStateError:
        return JobStateError(f"job {self._job_id} no longer reads its stdin ({state})")


def repeatable(source: object) -> bool:
    """Whether it can be given a second time, after a link was lost."""
    return source is None or isinstance(source, (bytes, bytearray, memoryview))


async def pour(source: Any, send: Send) -> None:
    """Gives ``send`` all of ``source``, which is then used up.

    What gives bytes at its own pace (a pipe, a socket, a terminal) is read when there is something,
    other files in a thread. Raises what the source and ``send`` raise, and TypeError for pieces
    that are no bytes.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        await send(memoryview(source))
    elif isinstance(source, AsyncIterable):
        await _pour_pieces(source, send)
    elif _has_pace(source):
        await _pour_pipe(source, send)
    else:
        await _pour_file(source.read, send)


async def _pour_pieces(source: AsyncIterable[bytes], send: Send) -> None:
    try:
        async for piece in source:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"stdin gave a {type(piece).__name__}, not bytes")
            await send(memoryview(piece))
    finally:
        if isinstance(source, AsyncGenerator):
            with anyio.move_on_after(_CLEAN_UP, shield=True):
                await source.aclose()


async def _pour_file(read: Callable[[int], Any], send: Send) -> None:
    # Threads of our own: a read that blocks takes none from the application. One that blocks for
    # ever is left behind at a cancel.
    threads = anyio.CapacityLimiter(math.inf)
    while piece := await anyio.to_thread.run_sync(
        read, _FILE_PIECE, abandon_on_cancel=True, limiter=threads
    ):
        if not isinstance(piece, bytes):
            raise TypeError("stdin is a text file; open it in binary mode")
        await send(piece)


async def _pour_pipe(source: io.FileIO | io.BufferedReader, send: Send) -> None:
    # A descriptor of our own: the event loop knows each once, and several may read this one.
    fd = os.dup(source.fileno())
    try:
        if (first := _read_ahead(source)) is not None:
            await send(first)
        while True:
            try:
                await anyio.wait_readable(fd)
            except PermissionError:  # a device, such as /dev/zero, that is not waited for
                await _pour_file(source.read, send)
                return
            if not _readable(fd):
                continue  # another reader was faster
            piece = os.read(fd, _FILE_PIECE)
            if not piece:
                return
            await send(piece)
    finally:
        os.close(fd)


def _readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


def _has_pace(source: object) -> bool:
    """Whether it is a file of the system that gives bytes when there are some."""
    raw = source.raw if type(source) is io.BufferedReader else source
    if type(raw) is not io.FileIO:
        return False
    return not stat.S_ISREG(os.fstat(raw.fileno()).st_mode)


def _read_ahead(source: io.FileIO | io.BufferedReader) -> bytes | None:
    """What Python has read of it already."""
    if not isinstance(source, io.BufferedReader):
        return None
    fd = source.fileno()
    blocking = os.get_blocking(fd)
    # Otherwise a look into the buffer would wait where it is empty.
    os.set_blocking(fd, False)
    try:
        return source.read1(len(source.peek())) or None
    finally:
        os.set_blocking(fd, blocking)
