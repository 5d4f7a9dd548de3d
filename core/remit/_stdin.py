"""What a job is given to read: bytes, a file or an async iterable, poured piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable
from typing import Any

import anyio.to_thread

_FILE_PIECE = 1 << 18


def repeatable(source: object) -> bool:
    """Whether it can be given a second time, after a link was lost."""
    return source is None or isinstance(source, (bytes, bytearray, memoryview))


async def pour(source: Any, send: Callable[[bytes | memoryview], Awaitable[None]]) -> None:
    """Gives ``send`` all of ``source``, which is then used up. A file is read in a thread.

    Raises what the source and ``send`` raise, and TypeError for pieces that are no bytes.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        await send(memoryview(source))
    elif isinstance(source, AsyncIterable):
        async for piece in source:
            if not isinstance(piece, (bytes, bytearray, memoryview)):
                raise TypeError(f"stdin gave a {type(piece).__name__}, not bytes")
            await send(memoryview(piece))
    else:
        # A read that blocks for ever (a terminal) is left behind at a cancel.
        while piece := await anyio.to_thread.run_sync(
            source.read, _FILE_PIECE, abandon_on_cancel=True
        ):
            if not isinstance(piece, bytes):
                raise TypeError("stdin is a text file; open it in binary mode")
            await send(piece)
