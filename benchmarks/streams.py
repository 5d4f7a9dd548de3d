"""How fast a job's output comes, against the same bytes without remit."""

import os
import subprocess
from collections.abc import Sequence

import remit
from benchmarks.place import Place
from benchmarks.table import Row, at_least
from benchmarks.timing import Pair, compare, timed, timed_async

_MIB = 1 << 20


async def measure(place: Place) -> list[Row]:
    size = place.amount(512) * _MIB
    pair = await _against(place.local_target("streams"), [], size)
    rows = [_row("stdout of one local job", place, pair, 0.7, size, "a raw pipe")]
    if place.ssh is not None and place.ssh_target is not None:
        size //= 2
        pair = await _against(place.ssh_target, place.ssh, size)
        rows.append(_row("stdout of one job over ssh", place, pair, 0.95, size, "ssh"))
    return rows


async def _against(target: str, prefix: Sequence[str], size: int) -> Pair:
    argv = ["head", "-c", str(size), "/dev/zero"]
    async with remit.connect(target) as session:

        async def ours() -> None:
            job = await session.start(argv)
            got = 0
            async for record in job.receive():
                got = record.end
            assert got == size
            await job.remove()

        return await compare(timed_async(ours), timed(lambda: _read([*prefix, *argv], size)), 3)


def _read(argv: Sequence[str], size: int) -> None:
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        got = 0
        while data := os.read(process.stdout.fileno(), 1 << 18):
            got += len(data)
    assert got == size


def _row(what: str, place: Place, pair: Pair, floor: float, size: int, theirs: str) -> Row:
    ours, other = size / pair.ours / 1e6, size / pair.theirs / 1e6
    remark = f"{ours:.0f} MB/s, {theirs} {other:.0f} MB/s"
    return Row(what, place.loop, pair.rate_ratio, at_least(floor), remark)
