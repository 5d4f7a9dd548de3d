"""Whatever is asked of a fleet, cancelled at any moment, leaves it as good as it was."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable

import anyio
import pytest

import remit

pytestmark = pytest.mark.anyio


def nap(number: int) -> int:
    time.sleep(0.01)
    return number


async def run(fleet: remit.Fleet) -> None:
    await fleet.run("echo out; sleep 0.05", halt="now")


async def take_some(fleet: remit.Fleet) -> None:
    async for _ in fleet.run("sleep 0.02"):
        break


async def call(fleet: remit.Fleet) -> None:
    await fleet.call(nap, 1, throttle=1)


async def map_all(fleet: remit.Fleet) -> None:
    assert [value async for value in fleet.map(nap, range(12), limit=2)] == list(range(12))


async def follow(fleet: remit.Fleet) -> None:
    async with await fleet.start("echo one; sleep 0.02; echo two", throttle=2) as group:
        records = [record.data async for record in group.receive()]
        assert b"".join(one for one in records if isinstance(one, bytes)).count(b"o") == 6


async def stop(fleet: remit.Fleet) -> None:
    group = await fleet.start(["sleep", "60"])
    try:
        async for state in group.children[0].changes():
            if state is remit.JobState.RUNNING:
                break
    finally:
        with anyio.CancelScope(shield=True):
            await group.stop()
            assert await group.wait() is remit.JobState.STOPPED


WORK: list[Callable[[remit.Fleet], Awaitable[None]]] = [run, take_some, call, map_all, follow, stop]


async def cancelled(work: Callable[[remit.Fleet], Awaitable[None]], fleet: remit.Fleet) -> None:
    with anyio.move_on_after(random.uniform(0, 0.2)):
        await work(fleet)


@pytest.mark.parametrize("seed", range(4))
async def test_a_storm_of_cancels(seed: int) -> None:
    random.seed(seed)
    async with remit.connect_many(["local:"] * 3, workers=2) as fleet:
        for _ in range(6):
            async with anyio.create_task_group() as tasks:
                for work in random.choices(WORK, k=4):
                    tasks.start_soon(cancelled, work, fleet)
        # What was cancelled was taken back, and nothing of it holds a turn or a worker.
        with anyio.fail_after(60):
            for work in WORK:
                await work(fleet)
            for session in fleet.sessions:
                while any(not info.state.finished for info in await session.jobs()):
                    await anyio.sleep(0.05)
