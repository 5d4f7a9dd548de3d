"""Whether memory stays level over many jobs and calls in one session: ``python -m torture.level``.

It prints what caller and agent hold after each tenth, and fails where either grew after the first
one by more than noise. ``--count 10000`` is for before a release; the tests do a few hundred.
"""

from __future__ import annotations

import argparse
import functools
import gc
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

import remit

# What allocators keep or give back as they please.
NOISE = 1 << 20
_TENTHS = 10
_AT_ONCE = 200


def doubled(number: int) -> int:
    return 2 * number


async def jobs(session: remit.Session, first: int, count: int) -> None:
    for number in range(first, first + count):
        job = await session.start(["echo", str(number)])
        done = await job.result()
        assert done.stdout == b"%d\n" % number
        await job.remove()


async def calls(session: remit.Session, first: int, count: int) -> None:
    for number in range(first, first + count):
        assert await session.call(doubled, number) == 2 * number


async def functions(session: remit.Session, first: int, count: int) -> None:
    """A different one each time, many at a time."""

    async def one(number: int) -> None:
        assert await session.call(_adding(number), 1) == number + 1

    for begin in range(first, first + count, _AT_ONCE):
        async with anyio.create_task_group() as tasks:
            for number in range(begin, min(begin + _AT_ONCE, first + count)):
                tasks.start_soon(one, number)


def _adding(number: int) -> Callable[[int], int]:
    namespace: dict[str, Callable[[int], int]] = {}
    exec(f"def add(other):\n    return {number} + other\n", namespace)
    return namespace["add"]


WORK: dict[str, Callable[[remit.Session, int, int], Awaitable[None]]] = {
    "jobs": jobs,
    "calls": calls,
    "functions": functions,
}


async def level(name: str, count: int, workers: int | None) -> list[tuple[int, int]]:
    """The bytes that caller and agent hold after each tenth of the work."""
    held = []
    async with remit.connect("local:", workers=workers) as session:
        assert session._hello is not None
        for tenth in range(_TENTHS):
            await WORK[name](session, tenth * count // _TENTHS, count // _TENTHS)
            gc.collect()
            held.append((private("self"), private(session._hello.pid)))
    return held


def private(pid: int | str) -> int:
    """The bytes that are this process's alone."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in rollup if line.startswith("Private"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="torture.level", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORK)}")
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--loop", choices=["asyncio", "trio"], default="asyncio")
    options = parser.parse_args()
    grew = False
    for name in options.names or WORK:
        workers = 1 if name == "functions" else None
        work = functools.partial(level, name, options.count, workers)
        held = anyio.run(work, backend=options.loop)
        for who, sizes in zip(("caller", "agent"), zip(*held, strict=True), strict=True):
            kib = " ".join(f"{size >> 10}" for size in sizes)
            print(f"{name} x {options.count}, {options.loop}: {who} holds {kib} KiB", flush=True)
            grew |= max(sizes[-2:]) > sizes[0] + NOISE
    return 1 if grew else 0


if __name__ == "__main__":
    sys.exit(main())
