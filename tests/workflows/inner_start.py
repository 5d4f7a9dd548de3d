"""Starts a job that is kept and detached, from within another job; prints its id and goes on."""

from __future__ import annotations

import sys
import time

import anyio

import remit


async def main(seconds: float) -> None:
    async with remit.connect("local:") as session:
        job = await session.start(["sleep", "1000"], placement="keep", lifetime="detached")
        print(job.id, flush=True)
        await anyio.sleep(seconds)


if __name__ == "__main__":
    anyio.run(main, float(sys.argv[1]))
    time.sleep(float(sys.argv[2]))
