"""Functions that give much: little memory where it streams, hardly a copy where it is one value.

Each runs in a caller of its own, whose memory is its own, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import remit
from testbed import processes

pytestmark = pytest.mark.real

MIB = 1 << 20
# What Python, remit and numpy take before anything is sent.
BASE = 90 * MIB


def count(most: int) -> Iterator[int]:
    yield from range(most)


def peak(pid: int | str) -> int:
    """The most bytes of memory that a process has had."""
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))


def doubles(size: int) -> Any:
    import numpy as np

    return np.arange(size // 8, dtype="<f8")


async def stream(most: int, full: Any) -> dict[str, int]:
    """Reads ten values, waits, then reads the rest slowly; the peaks."""
    async with remit.connect("local:") as session:
        assert session._hello is not None
        agent = session._hello.pid
        job = await session.start(count, most, full=full)
        values = 0
        async for record in job.receive():
            assert record.data == values
            values += 1
            if values == 10:
                break
        values -= 1  # the one in hand comes again
        if full == "block":
            async for state in job.changes():
                if state is remit.JobState.BLOCKED:
                    break
        else:
            await job.wait()
        worker = 0
        for process in processes.descendants([agent]):
            worker = max(worker, peak(process.pid))
        async for record in job.receive():
            assert record.data == values
            values += 1
            if not values % 10_000:  # slowly: the others have their turn
                await anyio.lowlevel.checkpoint()
        assert values == most
        return {"caller": peak("self"), "agent": peak(agent), "there": worker}


async def one_value(size: int, how: str) -> dict[str, int]:
    """The peaks of an array of so many bytes that comes back."""
    import numpy as np

    async with remit.connect("local:", workers=1) as session:
        assert session._hello is not None
        agent = session._hello.pid
        there = 0
        over = anyio.Event()

        async def look() -> None:
            nonlocal there
            while not over.is_set():
                for process in processes.descendants([agent]):
                    try:
                        there = max(there, peak(process.pid))
                    except (OSError, StopIteration):
                        continue
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look)
            if how == "call":
                value = await session.call(doubles, size, python=sys.executable)
            else:
                job = await session.start(doubles, size, python=sys.executable)
                value = await job.result()
            over.set()
        assert (value.dtype.str, value.nbytes) == ("<f8", size)
        for start in range(0, len(value), 1 << 20):
            part = value[start : start + (1 << 20)]
            assert np.array_equal(part, np.arange(start, start + len(part), dtype="<f8"))
        return {"caller": peak("self"), "agent": peak(agent), "there": there}


def measured(function: str, backend: str, *arguments: object) -> dict[str, int]:
    words = [sys.executable, "-m", __name__, function, backend, *map(str, arguments)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(place for place in sys.path if place)}
    done = subprocess.run(words, stdout=subprocess.PIPE, timeout=120, check=True, env=env)
    peaks: dict[str, int] = json.loads(done.stdout)
    return peaks


@pytest.mark.parametrize("full", ["spill", "block"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_generator_takes_little_memory(backend: str, full: str) -> None:
    peaks = measured("stream", backend, 40_000, full)
    assert peaks["caller"] < 120 * MIB
    assert peaks["agent"] < 60 * MIB
    assert peaks["there"] < 60 * MIB


@pytest.mark.parametrize(("backend", "how"), [("asyncio", "start"), ("trio", "call")])
def test_an_array_takes_hardly_more_than_its_size(backend: str, how: str) -> None:
    size = 128 * MIB
    peaks = measured("one_value", backend, size, how)
    assert peaks["caller"] < 2.2 * size + BASE
    assert peaks["there"] < 2.2 * size + BASE
    assert peaks["agent"] < 60 * MIB


def main(function: str, backend: str, amount: str, how: str) -> None:
    run = {"stream": stream, "one_value": one_value}[function]
    print(json.dumps(anyio.run(run, int(amount), how, backend=backend)))


if __name__ == "__main__":
    main(*sys.argv[1:])
