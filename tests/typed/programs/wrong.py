"""Programs that are wrong; type checkers find each at its line."""

from __future__ import annotations

from datetime import UTC, datetime

import remit

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def add(a: int, b: int) -> int:
    return a + b


async def later(number: int) -> str:
    return str(number)


async def options(session: remit.Session) -> None:
    await session.start(["true"], tiemout=3)  # wrong
    await session.run(["true"], tiemout=3)  # wrong
    await session.run(add, 1, 2, tiemout=3)  # wrong
    await session.start(["true"], full="spil")  # wrong
    await session.start(add, 1, 2, full="spil")  # wrong
    await session.start(["true"], lifetime="forever")  # wrong
    await session.start(["true"], leftovers="kill")  # wrong
    await session.start(["true"], on_max="cut")  # wrong
    await session.start(["true"], timeout="3")  # wrong
    await session.start(["true"], env={"A": 1})  # wrong
    await session.start(["true"], stdin="text")  # wrong
    await session.start(["true"], check=True)  # wrong
    await session.run(["true"], check=True, id=3)  # wrong
    remit.connect("local:", slience=3.0)  # wrong
    remit.start("local:", ["true"], tiemout=3)  # wrong
    remit.start("local:", add, 1, 2, trsut=True)  # wrong


async def arguments(session: remit.Session) -> None:
    await session.call(add, "x")  # wrong
    await session.call(add, "x", "y")  # wrong
    await session.call(add, 1)  # wrong
    await session.call(add, 1, 2, 3)  # wrong
    await session.call(later, "x")  # wrong
    await session.call(["true"])  # wrong
    await session.start(add, "x")  # wrong
    await session.start(add)  # wrong
    await session.run(add, 1)  # wrong
    await session.run(["true"], "x")  # wrong
    await session.start(["true", 1])  # wrong
    await session.start(3)  # wrong
    remit.start("local:", add, "x", 2)  # wrong


async def records(job: remit.Job) -> None:
    async for record in job.receive():
        record.data.decode()  # wrong
        if record.stream == "stdout":
            record.data.decode()  # wrong
            record.data + "text"  # wrong
        if record.stream == "log":
            print(record.data.text)  # wrong
        if record.stream == "progress":
            print(record.data.message)  # wrong
    remit.Record("stdotu", b"", 0, 0, NOON, "j", "here")  # wrong


def follow(job: remit.blocking.Job) -> None:
    for record in job.receive():
        if record.stream == "warning":
            print(record.data.level)  # wrong


async def results(session: remit.Session) -> None:
    text: str = await session.call(add, 1, 2)  # wrong
    number: int = await session.call(later, 1)  # wrong
    done: int = await session.run(["true"])  # wrong
    job: remit.Job[str] = await session.start(add, 1, 2)  # wrong
    (await session.run(["true"])).stdout.encode()  # wrong
    session.call(add, 1, 2) + 1  # wrong
    print(text, number, done, job)


async def fleets(fleet: remit.Fleet) -> None:
    await fleet.run(["true"], tiemout=3)  # wrong
    await fleet.run(add, 1)  # wrong
    await fleet.call(add, "x")  # wrong
    await fleet.start(["true"], throttle="2")  # wrong
    fleet.map(add, ["x"])  # wrong
    remit.connect_many(["local:"], slience=3.0)  # wrong
