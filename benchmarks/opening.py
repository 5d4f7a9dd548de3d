"""How long it takes until a session has answered for the first time."""

import subprocess
import time

import remit
from benchmarks.place import Place
from benchmarks.table import Row, at_most
from benchmarks.timing import compare, timed


async def measure(place: Place) -> list[Row]:
    if place.ssh is None or place.ssh_target is None:
        return []
    target = place.ssh_target
    plain = [*place.ssh, "python3", "-I", "-S", "-c", "pass"]

    async def ours() -> float:
        begin = time.perf_counter()
        async with remit.connect(target) as session:
            await session.jobs()
            return time.perf_counter() - begin

    def theirs() -> None:
        subprocess.run(plain, stdin=subprocess.DEVNULL, check=True)

    pair = await compare(ours, timed(theirs), place.amount(9))
    what = "open an ssh session, to the first answer"
    return [Row(what, place.loop, pair.time_ratio, at_most(1.3), pair.remark("ssh python3"))]
