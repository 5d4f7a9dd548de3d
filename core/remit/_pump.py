"""A connection as a byte stream: what transports are made of that start no program here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from remit._public import named_as_written
from remit.abc import ByteStream, End

# How much of the end of stderr a stream keeps.
TAIL = 8192
# What a connection may be ahead of who receives.
_CAPACITY = 1 << 18
# What tells of a connection that is over.
CUT = (
    OSError,
    EOFError,
    anyio.EndOfStream,
    anyio.IncompleteRead,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
)


class Pumped:
    """What a command on the other side of a connection says: see `open_pump`."""

    def __init__(self) -> None:
        self._stdout = Pipe(_CAPACITY)
        self._tail = bytearray()

    async def stdout(self, data: bytes) -> None:
        """Waits while nobody receives, so that the other side is held up, too."""
        await self._stdout.write(data)

    def stderr(self, data: bytes) -> None:
        """Of which the end is kept."""
        self._tail += data
        del self._tail[:-TAIL]

    def end_of_stdout(self) -> None:
        """The command says no more on stdout, though it may run on."""
        self._stdout.close()


Pump = Callable[[Pumped], Awaitable[int | None]]
Send = Callable[[bytes], Awaitable[object]]


def open_pump(
    pump: Pump, send: Send, *, fileno: int | None = None
) -> AbstractAsyncContextManager[ByteStream]:
    """A byte stream over a connection that you opened, and close after it.

    ``pump(into)`` reads the connection, in a task beside who uses the stream, and hands what it
    finds to ``into``: a `Pumped`. It returns the command's exit status, None where it is not known.
    What it raises is the end of the stream, after what came before: an OSError, or what anyio has
    for it, where the connection was lost. ``send(data)`` is for the command's stdin, and raises
    what your connection raises; the end of the pump cancels it. ``fileno`` is the connection's
    descriptor where bytes that are written to it reach the stdin as they are: see
    `remit.abc.HasFileno`.

    Leaving cancels the pump, and waits for it: do not shield what may take its time.
    """
    return _Stream(pump, send) if fileno is None else _WithFileno(pump, send, fileno)


class _Stream:
    """The stream and its context manager. One task at a time may receive, and one send."""

    _tasks: TaskGroup
    _over: anyio.Event

    def __init__(self, pump: Pump, send: Send) -> None:
        self._pump = pump
        self._send = send
        self._pumped = Pumped()
        self._exit_status: int | None = None
        self._broken: Exception | None = None
        self._sending: anyio.CancelScope | None = None

    async def __aenter__(self) -> Self:
        self._over = anyio.Event()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._tasks.cancel_scope.cancel()
        # Not told of the body's exception, which it would wrap in a group.
        await self._tasks.__aexit__(None, None, None)

    async def _run(self) -> None:
        try:
            self._exit_status = await self._pump(self._pumped)
        except Exception as exc:
            self._broken = exc
        finally:
            self._pumped.end_of_stdout()
            self._over.set()
            if self._sending is not None:
                self._sending.cancel()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._pumped._stdout.read(max_bytes)
        if not data and self._broken is not None:
            raise self._broken
        return data

    async def send(self, data: bytes) -> None:
        if not self._over.is_set():
            with anyio.CancelScope() as self._sending:
                try:
                    await self._send(data)
                except CUT as exc:
                    raise BrokenPipeError(str(exc) or type(exc).__name__) from exc
                return
        await checkpoint()
        raise BrokenPipeError("the command has ended")

    async def wait(self) -> End:
        await self._over.wait()
        return End(self._exit_status, self.stderr_tail)

    @property
    def stderr_tail(self) -> bytes:
        return bytes(self._pumped._tail)


class _WithFileno(_Stream):
    def __init__(self, pump: Pump, send: Send, fileno: int) -> None:
        super().__init__(pump, send)
        self._fileno = fileno

    def fileno(self) -> int:
        return self._fileno


class Pipe:
    """Bytes in order, at most ``capacity`` of them. Either side may close it."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._held = bytearray()
        self._closed = False
        self._changed: anyio.Event | None = None

    async def read(self, max_bytes: int) -> bytes:
        """``b""`` once it is closed and empty. Cancelled, it has taken nothing."""
        await checkpoint()
        while not self._held and not self._closed:
            await self._change()
        data = bytes(self._held[:max_bytes])
        del self._held[:max_bytes]
        self._tell()
        return data

    async def write(self, data: bytes) -> None:
        """Waits for room. Raises BrokenPipeError once it is closed."""
        rest = memoryview(data)
        await checkpoint()
        while rest:
            if self._closed:
                raise BrokenPipeError("the other side is closed")
            room = self._capacity - len(self._held)
            self._held += rest[:room]
            rest = rest[room:]
            self._tell()
            if rest:
                await self._change()

    def close(self) -> None:
        self._closed = True
        self._tell()

    async def _change(self) -> None:
        # Made where there is an event loop: a pipe itself may come to be elsewhere.
        if self._changed is None:
            self._changed = anyio.Event()
        await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()


named_as_written(__name__)
