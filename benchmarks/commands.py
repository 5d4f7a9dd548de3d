"""Short commands over a warm ssh session, against subprocesses here."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import anyio

import remit
from benchmarks import peers
from benchmarks.place import Place
from benchmarks.table import Row, at_least
from benchmarks.timing import compare, timed, timed_async

_IN_FLIGHT = 16
_COMMAND = ["/bin/echo", "hello"]


async def measure(place: Place) -> list[Row]:
    if place.ssh_target is None:
        return []
    count = place.amount(160)

    def local(_: object = None) -> None:
        subprocess.run(_COMMAND, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    def one_by_one() -> None:
        for _ in range(count):
            local()

    def in_flight() -> None:
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            list(pool.map(local, range(count)))

    async with remit.connect(place.ssh_target) as session:

        async def ours_one_by_one() -> None:
            for _ in range(count):
                await session.run(_COMMAND, check=True)

        async def ours_in_flight() -> None:
            left = iter(range(count))

            async def work() -> None:
                for _ in left:
                    await session.run(_COMMAND, check=True)

            async with anyio.create_task_group() as tasks:
                for _ in range(_IN_FLIGHT):
                    tasks.start_soon(work)

        serial = await compare(timed_async(ours_one_by_one), timed(one_by_one), 3)
        parallel = await compare(timed_async(ours_in_flight), timed(in_flight), 3)
        what = f"{_IN_FLIGHT} short commands in flight over ssh"
        rows = [
            Row(
                "short commands one after another over ssh",
                place.loop,
                serial.rate_ratio,
                at_least(0.75),
                f"{count}: {serial.remark('subprocess.run here')}",
            ),
            Row(
                what,
                place.loop,
                parallel.rate_ratio,
                at_least(0.9),
                f"{count}: {parallel.remark('subprocesses here')}",
            ),
        ]
        if peer := peers.asyncssh_in_flight(place, _COMMAND, count, _IN_FLIGHT):
            pair = await compare(timed_async(ours_in_flight), peer, 3)
            rows.append(
                Row(
                    f"{what}, against asyncssh",
                    place.loop,
                    pair.rate_ratio,
                    at_least(2.0),
                    pair.remark("asyncssh"),
                )
            )
    return rows
