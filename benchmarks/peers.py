"""Other libraries that do a part of the same, where they are installed."""

import importlib
import importlib.util
import shlex
import time
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.to_thread

from benchmarks.place import Place
from benchmarks.timing import Theirs

NAMES = ("asyncssh",)


def missing() -> list[str]:
    return [name for name in NAMES if importlib.util.find_spec(name) is None]


def asyncssh_in_flight(
    place: Place, argv: Sequence[str], count: int, in_flight: int
) -> Theirs | None:
    """``count`` commands, so many at a time, over one connection; None where it is not there.

    It needs asyncio, so it has a thread and a loop of its own.
    """
    if place.ssh is None or "asyncssh" in missing():
        return None
    asyncssh: Any = importlib.import_module("asyncssh")
    words = shlex.join(argv)
    host, config = place.ssh[-1], place.ssh[place.ssh.index("-F") + 1]

    async def commands() -> float:
        async with asyncssh.connect(host, config=[config]) as connection:
            left = iter(range(count))

            async def work() -> None:
                for _ in left:
                    await connection.run(words, check=True)

            begin = time.perf_counter()
            async with anyio.create_task_group() as tasks:
                for _ in range(in_flight):
                    tasks.start_soon(work)
            return time.perf_counter() - begin

    async def run() -> float:
        return await anyio.to_thread.run_sync(anyio.run, commands)

    return run
