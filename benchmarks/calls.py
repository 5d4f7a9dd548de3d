"""Function calls over a warm ssh session, against a bare echo through the same ssh and others."""

import operator
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import anyio

import remit
from benchmarks import peers
from benchmarks.place import Place
from benchmarks.table import Row, at_least
from benchmarks.timing import compare, timed, timed_async

_IN_FLIGHT = 200
# Says back what it is told, with nothing in between.
_ECHO = "import os\nwhile True:\n    os.write(1, os.read(0, 65536) or os._exit(0))"


async def measure(place: Place) -> list[Row]:
    if place.ssh_target is None or place.ssh is None:
        return []
    count = place.amount(2000)
    many = place.amount(10000)
    rows: list[Row] = []
    async with remit.connect(place.ssh_target) as session:

        async def one_by_one() -> None:
            for number in range(count):
                assert await session.call(operator.add, number, 1) == number + 1

        async def in_flight() -> None:
            left = iter(range(many))

            async def work() -> None:
                for number in left:
                    assert await session.call(operator.add, number, 1) == number + 1

            async with anyio.create_task_group() as tasks:
                for _ in range(_IN_FLIGHT):
                    tasks.start_soon(work)

        def row(what: str, ratio: float, least: float, remark: str) -> None:
            rows.append(Row(what, place.loop, ratio, at_least(least), remark))

        with _echo(place.ssh) as echo:
            pair = await compare(
                timed_async(one_by_one), timed(lambda: [echo() for _ in range(count)]), 3
            )
        row(
            "calls one after another over ssh, against a bare echo",
            pair.rate_ratio,
            0.65,
            f"{count}: {pair.remark('echo')}",
        )
        with peers.callers(place) as others:
            for other in others:
                pair = await compare(
                    timed_async(one_by_one), timed(partial(other.one_by_one, count)), 3
                )
                row(
                    f"calls one after another over ssh, against {other.name}",
                    pair.rate_ratio,
                    1.2,
                    f"{count}: {pair.remark(other.name)}",
                )
                if not other.is_floor_in_flight:
                    continue
                pair = await compare(
                    timed_async(in_flight), timed(partial(other.in_flight, many, _IN_FLIGHT)), 3
                )
                row(
                    f"{_IN_FLIGHT} calls in flight over ssh, against {other.name}",
                    pair.rate_ratio,
                    2.0,
                    f"{many}: {pair.remark(other.name)}",
                )
    return rows


@contextmanager
def _echo(ssh: tuple[str, ...]) -> "Iterator[peers.Echo]":
    with subprocess.Popen(
        [*ssh, f"python3 -I -S -c '{_ECHO}'"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        there, back = process.stdin.fileno(), process.stdout.fileno()
        # About what a call says and what its answer is.
        said = b"x" * 64

        def echo() -> None:
            os.write(there, said)
            got = 0
            while got < len(said):
                got += len(os.read(back, 65536))

        echo()
        yield echo
        process.stdin.close()
