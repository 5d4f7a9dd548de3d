"""A transport without processes: a script plays the target's side, in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio

from remit._pump import TAIL, Pipe
from remit.abc import ByteStream, End, Target


class FakePeer:
    """The target's side of one fake stream.

    ``cut_stdin`` and ``cut_stdout`` are the faults: the one makes the caller's sends fail, the
    other ends what the caller receives, while the script goes on.
    """

    def __init__(self, target: Target, argv: list[str], capacity: int) -> None:
        self.target = target
        self.argv = argv
        self._stdin = Pipe(capacity)
        self._stdout = Pipe(capacity)
        self._tail = bytearray()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """What the caller sent; ``b""`` once it has left."""
        return await self._stdin.read(max_bytes)

    async def send(self, data: bytes) -> None:
        """Waits while the caller does not receive. Raises BrokenPipeError once it has left."""
        await self._stdout.write(data)

    def say(self, data: bytes) -> None:
        """Writes to stderr."""
        self._tail += data
        del self._tail[:-TAIL]

    def cut_stdin(self) -> None:
        """The caller's sends raise BrokenPipeError from now on."""
        self._stdin.close()

    def cut_stdout(self) -> None:
        """The caller's next `receive` is the end, after what was sent before."""
        self._stdout.close()


Script = Callable[[FakePeer], Awaitable[int | None]]


class FakeTransport:
    """Runs ``script`` for each stream; what it returns is the exit status, None: not known.

    ``opened`` lists the argv of each stream. A pipe holds ``capacity`` bytes each way, so a side
    that nobody reads from comes to wait, as it would with a process. What the script raises is
    raised on leaving.
    """

    api = 1

    def __init__(self, script: Script, *, scheme: str = "fake", capacity: int = 65536) -> None:
        self.scheme = scheme
        self.opened: list[list[str]] = []
        self._script = script
        self._capacity = capacity

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """A stream that the script plays the other side of. Leaving cancels the script, and raises
        what it raised."""
        peer = FakePeer(target, list(argv), self._capacity)
        self.opened.append(peer.argv)
        return _played(self._script, peer)


@asynccontextmanager
async def _played(script: Script, peer: FakePeer) -> AsyncIterator[ByteStream]:
    stream = _FakeStream(peer)
    broken: list[Exception] = []
    raised: list[Exception] = []

    async def play() -> None:
        status = None
        try:
            status = await script(peer)
        except Exception as exc:
            broken.append(exc)
        finally:
            stream.finish(status)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(play)
        try:
            yield stream
        except Exception as exc:
            # Raised again outside: the task group would make a group of it.
            raised.append(exc)
        finally:
            peer.cut_stdin()
            peer.cut_stdout()
            tasks.cancel_scope.cancel()
    for error in [*raised, *broken]:
        raise error


class _FakeStream:
    def __init__(self, peer: FakePeer) -> None:
        self._peer = peer
        self._over = anyio.Event()
        self._exit_status: int | None = None

    def finish(self, exit_status: int | None) -> None:
        self._exit_status = exit_status
        self._peer.cut_stdin()
        self._peer.cut_stdout()
        self._over.set()

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self._peer._stdout.read(max_bytes)

    async def send(self, data: bytes) -> None:
        await self._peer._stdin.write(data)

    async def wait(self) -> End:
        await self._over.wait()
        return End(self._exit_status, self.stderr_tail)

    @property
    def stderr_tail(self) -> bytes:
        return bytes(self._peer._tail)
