"""``python -m benchmarks.open_sessions LOOP TARGET COUNT``: prints the bytes that a session takes.

A process of its own: one that has measured other things has memory to reuse.
"""

import os
import sys
from contextlib import AsyncExitStack

import anyio

import remit
from benchmarks.sizes import private


async def main(target: str, count: int) -> None:
    """The first session loads what all of them share, so it is not counted."""
    async with AsyncExitStack() as stack:
        await _open(stack, target, 1)
        before = private(os.getpid())
        await _open(stack, target, count)
        print((private(os.getpid()) - before) // count)


async def _open(stack: AsyncExitStack, target: str, count: int) -> None:
    for _ in range(count):
        session = await stack.enter_async_context(remit.connect(target))
        await session.run(["true"])


if __name__ == "__main__":
    loop, target, count = sys.argv[1:]
    anyio.run(main, target, int(count), backend=loop)
