"""Many jobs on one computer, so many at a time: ``python batch.py build7``.

Each job ends with its block, whatever happens: Ctrl-C leaves nothing behind.
"""

import sys

import anyio

import remit

COUNT = 200
AT_A_TIME = 16


async def work(session: remit.Session, number: int, limit: anyio.CapacityLimiter) -> int:
    """What the job made of its number."""
    async with limit, await session.start(f"echo $(({number} * {number}))", timeout=60) as job:
        return int((await job.result()).text)


async def main(target: str) -> list[int]:
    limit = anyio.CapacityLimiter(AT_A_TIME)
    squares = [0] * COUNT

    async def one(number: int) -> None:
        squares[number] = await work(session, number, limit)

    async with remit.connect(target) as session, anyio.create_task_group() as tasks:
        for number in range(COUNT):
            tasks.start_soon(one, number)
    return squares


if __name__ == "__main__":
    print(sum(anyio.run(main, sys.argv[1] if len(sys.argv) > 1 else "local:")))
