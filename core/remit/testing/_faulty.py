"""A transport whose connections fail as a test wants it, around one that works."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager

import anyio
import anyio.lowlevel

from remit._plugins import plugins
from remit.abc import ByteStream, End, Target, Transport

# Seconds that each piece takes under DELAY.
_DELAY = 0.02


class Fault(enum.Enum):
    """What becomes of a connection."""

    CUT = "cut"  # the end comes in the middle of a message; nobody reads any more
    HALF_CLOSE = "half-close"  # the end comes, and what is sent still arrives
    RESET = "reset"  # both directions fail
    DEAF = "deaf"  # what is sent fails, and what the agent says still arrives
    SILENCE = "silence"  # nothing arrives, either way, and nothing tells of it
    DELAY = "delay"  # all arrives, late


class FaultyTransport:
    """``transport`` to ``target``, as a transport of its own.

    Within `there` remit reaches it by a target of that scheme. `fail` is for the connections that
    are open then; later ones are sound.
    """

    api = 1

    def __init__(self, transport: Transport, target: Target, scheme: str = "faulty") -> None:
        self.scheme = scheme
        self._transport = transport
        self._target = target
        self._open: set[_Stream] = set()

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """A connection of the transport and to the target within: ``target`` is ignored."""
        return self._opened(argv)

    @asynccontextmanager
    async def _opened(self, argv: Sequence[str]) -> AsyncIterator[ByteStream]:
        async with self._transport.open(self._target, argv) as inner:
            stream = _Stream(inner)
            self._open.add(stream)
            try:
                yield stream
            finally:
                self._open.discard(stream)

    def fail(self, fault: Fault) -> None:
        """Breaks the connections that are open now. A second fault takes the place of the first."""
        for stream in self._open:
            stream.fail(fault)

    @contextmanager
    def there(self) -> Iterator[str]:
        """The target by which remit reaches it."""
        known = plugins().transports
        known[self.scheme] = self
        try:
            yield f"{self.scheme}:"
        finally:
            del known[self.scheme]


class _Stream:
    """Has no ``fileno``: what went past `send` could not fail."""

    def __init__(self, inner: ByteStream) -> None:
        self._inner = inner
        self._fault: Fault | None = None
        self._cut = False  # half of a message was given
        self._receiving = anyio.CancelScope()

    def fail(self, fault: Fault) -> None:
        self._fault = fault
        self._receiving.cancel()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._fault is None:
            with anyio.CancelScope() as self._receiving:
                return await self._inner.receive(max_bytes)
        await anyio.lowlevel.checkpoint()
        match self._fault:
            case Fault.CUT if not self._cut:
                self._cut = True
                return await self._inner.receive(1)
            case Fault.CUT | Fault.HALF_CLOSE:
                return b""
            case Fault.RESET:
                raise ConnectionResetError("the connection was reset by a test")
            case Fault.SILENCE:
                await anyio.sleep_forever()
            case Fault.DELAY:
                await anyio.sleep(_DELAY)
        return await self._inner.receive(max_bytes)

    async def send(self, data: bytes) -> None:
        match self._fault:
            case Fault.CUT | Fault.RESET | Fault.DEAF:
                await anyio.lowlevel.checkpoint()
                raise BrokenPipeError("the connection was broken by a test")
            case Fault.SILENCE:
                await anyio.lowlevel.checkpoint()
                return
            case Fault.DELAY:
                await anyio.sleep(_DELAY)
        await self._inner.send(data)

    async def wait(self) -> End:
        return await self._inner.wait()

    @property
    def stderr_tail(self) -> bytes:
        return self._inner.stderr_tail
