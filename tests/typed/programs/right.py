"""Programs that are right; what type checkers make of their parts stands beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Unpack, reveal_type

import attrs

import remit


def add(a: int, b: int) -> int:
    return a + b


def greet(name: str, greeting: str = "hello", *, mark: str = "!") -> str:
    return f"{greeting} {name}{mark}"


def many(*numbers: int) -> int:
    return len(numbers)


async def later(number: int) -> str:
    return str(number)


def count(end: int) -> Iterator[float]:
    yield float(end)


async def tick(end: int) -> AsyncIterator[bytes]:
    yield b"tick" * end


def nothing() -> None: ...


def anything(value: Any) -> Any:
    return value


async def calls(session: remit.Session) -> None:
    reveal_type(await session.call(add, 1, 2))  # int
    reveal_type(await session.call(greet, "you"))  # str
    reveal_type(await session.call(greet, "you", "hi"))  # str
    reveal_type(await session.call(partial(greet, mark="?"), "you"))  # str
    reveal_type(await session.call(many, 1, 2, 3))  # int
    reveal_type(await session.call(later, 1))  # str
    reveal_type(await session.call(count, 1))  # list[float]
    reveal_type(await session.call(tick, 1))  # list[bytes]
    reveal_type(await session.call(anything, 1))  # Any
    reveal_type(await session.call(len, "abc", python="/usr/bin/python3"))  # int
    reveal_type(await session.call(lambda: 1.5))  # float


async def runs(session: remit.Session) -> None:
    reveal_type(await session.run(["true"], check=True))  # CommandResult
    reveal_type(await session.run("true", timeout=3.0, env={"A": "1"}))  # CommandResult
    reveal_type(await session.run([b"true", "x"], cwd="/"))  # CommandResult
    reveal_type(await session.run(add, 1, 2, timeout=3))  # int
    reveal_type(await session.run(later, 1))  # str
    reveal_type(await session.run(count, 1, placement="keep"))  # list[float]


async def starts(session: remit.Session) -> None:
    reveal_type(await session.start(["true"]))  # Job[CommandResult]
    reveal_type(await (await session.start("true")).result())  # CommandResult
    reveal_type(await session.start(add, 1, 2, full="drop", buffer_limit=1000))  # Job[int]
    reveal_type(await session.start(later, 1, lifetime=remit.lease(60)))  # Job[str]
    reveal_type(await session.start(count, 1))  # Job[list[float]]
    reveal_type(await (await session.start(tick, 1)).result())  # list[bytes]
    reveal_type(await session.job("name"))  # Job[Any]
    await session.start(["true"], placement="of-a-plugin", stdin=remit.PIPE, leftovers="stop")
    await session.start(["true"], lifetime="detached", placement="keep", max_output=1 << 20)


async def alone() -> None:
    async with remit.start("local:", add, 1, 2, trust=True, timeout=5) as job:
        reveal_type(job)  # Job[int]
    async with remit.start("local:", ["true"], merge=True, silence=5) as command:
        reveal_type(await command.result())  # CommandResult


async def wrapped(
    session: remit.Session, work: remit.Work, **options: Unpack[remit.StartOptions]
) -> remit.Job:
    """What any program can be given is handed on as it is."""
    return await session.start(work, **options)


async def words(session: remit.Session, word: remit.Word, stdin: remit.Stdin) -> None:
    await session.run(["cat", word], stdin=stdin)


def of_any(job: remit.Job[object]) -> remit.Job:
    return job


async def records(session: remit.Session) -> None:
    job = await session.start(count, 3)
    async for record in job.receive():
        if record.stream == "stdout":
            reveal_type(record.data)  # bytes | Gap
            if isinstance(record.data, bytes):
                print(record.data.decode())
            else:
                reveal_type(record.data)  # Gap
        elif record.stream == "stderr":
            reveal_type(record.data)  # bytes | Gap
        elif record.stream == "value":
            reveal_type(record.data)  # Any
        elif record.stream == "log":
            reveal_type(record.data)  # LogRecord
        elif record.stream == "warning":
            reveal_type(record.data)  # WarningRecord
        else:
            reveal_type(record.data)  # Progress
            reveal_type(record.end)  # int
    async for record in (await session.job("name")).receive():
        match record.stream:
            case "progress":
                reveal_type(record.data)  # Progress
            case "log":
                reveal_type(record.data)  # LogRecord
    reveal_type(await anext(job.lines("stderr")))  # str


def follow(job: remit.blocking.Job) -> None:
    for record in job.receive():
        if record.stream == "log":
            reveal_type(record.data)  # LogRecord


class Stored:
    """A store's author needs not to say of which stream a record is."""

    def __init__(self) -> None:
        self.records: list[remit.Record] = []

    def append(self, record: remit.Record) -> None:
        reveal_type(record.data)  # Any
        self.records.append(record)

    def say(self, stream: remit.Stream, data: bytes, offset: int, when: datetime) -> None:
        self.append(remit.Record(stream, data, offset, 0, when, "j", "here"))
        self.append(remit.Record("stdout", remit.Gap(3), offset, 0, when, "j", "here"))

    def rest(self, record: remit.Record, at: int) -> remit.Record:
        return attrs.evolve(record, data=record.data[at:], offset=record.offset + at)


async def shown(job: remit.Job, show: Callable[[remit.AnyRecord], None]) -> None:
    async for record in job.receive(keep=True):
        show(record)
    everything: list[remit.Record] = [record async for record in job.receive(keep=True)]
    print(everything[-1].data.whatever)


async def wider(session: remit.Session) -> None:
    of_any(await session.start(add, 1, 2))


async def fleets(fleet: remit.Fleet) -> None:
    reveal_type(await fleet.run(["true"], check=True))  # list[TargetResult[CommandResult]]
    reveal_type(await fleet.run(add, 1, 2))  # list[TargetResult[int]]
    reveal_type(await fleet.call(later, 1))  # list[TargetResult[str]]
    reveal_type(await (await fleet.start("true", halt="soon")).result())  # list[CommandResult]
    reveal_type(await (await fleet.start(count, 1, throttle=2)).result())  # list[list[float]]
    async for one in fleet.call(count, 1):
        reveal_type(one.result)  # list[float] | None
    async for value in fleet.map(str, [1, 2]):
        reveal_type(value)  # str
