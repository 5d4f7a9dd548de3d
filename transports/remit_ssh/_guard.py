"""A command over a connection that was there before, and may be dead: then over one of its own."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

import anyio
import anyio.abc

import remit
from remit.abc import ByteStream, End, HasFileno


class Guarded:
    """As `remit.open_process` of ``shared``. Where nothing is heard of that for ``patience``
    seconds, and ``is_alive`` does not hold either, it becomes that of ``alone``; ``dead`` is called
    before. A stream and its context manager."""

    def __init__(
        self,
        shared: Sequence[str],
        alone: Sequence[str],
        *,
        patience: float,
        is_alive: Callable[[], Awaitable[bool]],
        dead: Callable[[], object],
    ) -> None:
        self._shared = remit.open_process(shared)
        self._alone = remit.open_process(alone)
        self._patience = patience
        self._is_alive = is_alive
        self._dead = dead
        self._waiting: set[anyio.CancelScope] = set()

    async def __aenter__(self) -> Self:
        self._spoke, self._leave = anyio.Event(), anyio.Event()
        self._stream: ByteStream = await self._shared.__aenter__()
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.start_soon(self._guard)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._spoke.set()
        self._leave.set()
        try:
            # Not told of the body's exception, which it would wrap in a group.
            await self._tasks.__aexit__(None, None, None)
        finally:
            await self._shared.__aexit__(kind, error, traceback)

    async def _guard(self) -> None:
        with anyio.move_on_after(self._patience):
            await self._spoke.wait()
        if self._spoke.is_set() or await self._is_alive() or self._spoke.is_set():
            return
        self._dead()
        try:
            async with self._alone as alone:
                if self._spoke.is_set():
                    return
                self._stream = alone
                for scope in self._waiting:
                    scope.cancel()
                await self._leave.wait()
        except remit.ConnectError:
            pass  # the end of the other says what there is to say

    # -- the stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """As `remit.abc.ByteStream.receive`."""
        while True:
            with anyio.CancelScope() as scope:
                self._waiting.add(scope)
                stream = self._stream
                try:
                    data = await stream.receive(max_bytes)
                    if stream is self._stream:
                        self._spoke.set()
                        return data
                finally:
                    self._waiting.discard(scope)

    async def send(self, data: bytes) -> None:
        """As `remit.abc.ByteStream.send`."""
        await self._stream.send(data)

    async def wait(self) -> End:
        """As `remit.abc.ByteStream.wait`."""
        while True:
            with anyio.CancelScope() as scope:
                self._waiting.add(scope)
                try:
                    return await self._stream.wait()
                finally:
                    self._waiting.discard(scope)

    @property
    def stderr_tail(self) -> bytes:
        """As `remit.abc.ByteStream.stderr_tail`."""
        return self._stream.stderr_tail

    def fileno(self) -> int:
        """As `remit.abc.HasFileno.fileno`."""
        assert isinstance(self._stream, HasFileno)
        return self._stream.fileno()


async def answers(argv: Sequence[str], patience: float) -> bool:
    """Whether that program comes to its end in so many seconds."""
    with anyio.move_on_after(patience):
        async with remit.open_process(argv) as probe:
            await probe.wait()
            return True
    return False


def unlink(path: str) -> None:
    """Twice is quiet."""
    with suppress(OSError):
        os.unlink(path)
