"""A storm of cancels over starts of functions, for a pid namespace of its own.

Run by `test_cancelled_starts`. On stdout goes one object in JSON: which bystanders are gone, which
cancelled functions came to their end, what else went wrong, and the longest time that the end of a
session took, in seconds. Everything here has the session id 0, as what comes into a namespace from
outside has.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import anyio

import remit

DELAYS = [step * 0.01 for step in range(36)]
AT_ONCE = 6
RUNS = 2.0  # longer than a busy computer takes to stop it


def work(path: str, seconds: float) -> None:
    import time

    open(path + ".begun", "w").close()
    time.sleep(seconds)
    open(path + ".done", "w").close()


class Storm:
    def __init__(self, directory: str) -> None:
        self._directory = directory
        self.cancelled: list[str] = []
        self.slowest_end = 0.0

    async def start_and_cancel(self, session: remit.Session, name: str, delay: float) -> None:
        path = os.path.join(self._directory, name)
        with anyio.move_on_after(delay) as scope:
            job = await session.start(work, path, RUNS)
            await job.stop(grace=0.1)
            return
        if scope.cancelled_caught:
            self.cancelled.append(path)

    async def in_fresh_sessions(self, delays: list[float]) -> None:
        for delay in delays:
            async with remit.connect("local:") as session:
                await self.start_and_cancel(session, f"fresh-{delay}", delay)
                began = time.monotonic()
            self.slowest_end = max(self.slowest_end, time.monotonic() - began)

    async def in_a_warm_session(self) -> None:
        async with remit.connect("local:") as session:
            await session.call(len, "warm")
            for delay in DELAYS:
                # Shorter ones, too: here a start takes some milliseconds.
                await self.start_and_cancel(session, f"warm-{delay}", delay / 20)
            began = time.monotonic()
        self.slowest_end = max(self.slowest_end, time.monotonic() - began)


async def main(directory: str) -> dict[str, Any]:
    bystanders = [subprocess.Popen(["sleep", "1000"]) for _ in range(3)]
    assert os.getsid(bystanders[0].pid) == 0
    storm = Storm(directory)
    async with anyio.create_task_group() as group:
        for first in range(AT_ONCE):
            group.start_soon(storm.in_fresh_sessions, DELAYS[first::AT_ONCE])
    await storm.in_a_warm_session()
    await anyio.sleep(2 * RUNS)
    gone = [one.pid for one in bystanders if one.poll() is not None]
    for one in bystanders:
        one.kill()
    return {
        "gone": gone,
        "cancelled": len(storm.cancelled),
        "done": [path for path in storm.cancelled if Path(path + ".done").exists()],
        "slowest_end": storm.slowest_end,
    }


if __name__ == "__main__":
    print(json.dumps(anyio.run(main, sys.argv[2], backend=sys.argv[1])))
