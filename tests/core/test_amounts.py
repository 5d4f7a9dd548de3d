"""Every number that a user can give is checked, by name, before anything else happens."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import Any

import attrs
import pytest

import remit
import remit.abc
from remit._jobs.options import StartSettings
from remit._session.settings import Settings
from remit._types import new_group_id

from .conftest import Play
from .fake_agent import agent_script

pytestmark = pytest.mark.anyio

NAN, INF = float("nan"), float("inf")
HUGE = 10**5000


class Odd:
    """What has a repr that nobody can have, and is no number."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


# What is no number of seconds, and what no whole number, whatever the bounds.
NO_SECONDS = ["5", b"5", True, False, 5j, [5.0], Odd(), object(), NAN, Decimal("nan")]
NO_COUNT = ["5", b"5", True, False, 5j, [5], Odd(), object(), 5.0, 5.5, NAN, INF, Decimal(5)]
# ``kind`` and what is out of bounds.
FINITE = ("seconds", [-1, -1e-9, INF, -INF, HUGE, -HUGE, Decimal("inf")])
POSITIVE = ("seconds", [*FINITE[1], 0, 0.0, -0.0])
WAITING = ("seconds", [-1, -1e-9, -INF, -HUGE])  # for ever is allowed
COUNT = ("count", [-1, HUGE, -HUGE, 1 << 62])
SOME = ("count", [*COUNT[1], 0])

# (callable, parameter): what it may not be.
GIVEN: dict[tuple[str, str], tuple[str, list[Any]]] = {
    ("Settings", "connect_timeout"): ("seconds", [*WAITING[1], 0]),
    ("Settings", "silence"): ("seconds", [*POSITIVE[1], 86400.1]),
    ("Settings", "reconnect"): WAITING,
    ("Settings", "workers"): ("count", [*SOME[1], (1 << 16) + 1]),
    ("Settings", "calls_per_worker"): SOME,
    ("Executor", "workers"): ("count", [*SOME[1], (1 << 16) + 1]),
    ("Session.start", "timeout"): POSITIVE,
    ("Session.start", "buffer_limit"): SOME,
    ("Session.start", "max_output"): SOME,
    ("Session.map", "limit"): SOME,
    ("Session.prune", "older_than"): ("seconds", [*FINITE[1], 1e11]),
    ("Session.prune", "max_total"): COUNT,
    ("Job.stop", "grace"): ("seconds", [*FINITE[1], 3600.1]),
    ("JobGroup.stop", "grace"): ("seconds", [*FINITE[1], 3600.1]),
    ("connect_many", "throttle"): SOME,
    ("connect_many", "retries"): COUNT,
    ("Fleet.start", "throttle"): SOME,
    ("Fleet.run", "throttle"): SOME,
    ("Fleet.call", "throttle"): SOME,
    ("Fleet.map", "limit"): SOME,
    ("Fleet.map", "retries"): COUNT,
    ("lease", "seconds"): POSITIVE,
    ("Lease", "seconds"): POSITIVE,
    ("RecordDecoder", "offset"): COUNT,
    ("Limits", "depth"): SOME,
    ("Limits", "count"): COUNT,
    ("Limits", "size"): SOME,
    ("Limits", "memory"): COUNT,
}
# Numbers that remit itself gives, or that are nobody's to misuse.
TOLD = {
    # What is made of these is handed on to `Settings`.
    *("connect", "Hub.connect", "Hub.session"),
    *("Fleet", "Session"),  # made by `connect_many` and `connect`
    "KeepsConnections.keep",  # called by remit
    # What was heard of a job, a record or a program: made by remit, and by stores and transports.
    *(
        "Gap",
        "JobInfo",
        "LogRecord",
        "Outcome",
        "Progress",
        "Pruned",
        "Record",
        "WarningRecord",
        "End",
    ),
    *("CommandResult", "DecodedRecord", "Target", "Channel.grant", "ByteStream.receive"),
    "progress",  # a message for people
    "open_pump",  # a descriptor
    *("Job.signal", "JobGroup.signal"),  # a number that is a name: tests/core/test_signals.py
}


def _public() -> Iterator[tuple[str, Callable[..., Any]]]:
    for module in (remit, remit.abc):
        for name in module.__all__:
            thing = getattr(module, name)
            if isinstance(thing, type) and issubclass(thing, BaseException):
                continue  # what they tell is told by remit
            if not inspect.isclass(thing):
                if callable(thing):
                    yield name, thing
                continue
            yield name, thing
            for attribute, method in inspect.getmembers(thing, callable):
                if not attribute.startswith("_") and attribute in vars(thing):
                    yield f"{name}.{attribute}", method
    yield "Settings", Settings


def _numbers(function: Callable[..., Any]) -> set[str]:
    """Which of its parameters are numbers, by their annotations."""
    if isinstance(function, type) and attrs.has(function):
        # What a converter takes says nothing.
        told = {field.name: str(field.type) for field in attrs.fields(function)}
    else:
        try:
            parameters = inspect.signature(function).parameters.values()
        except ValueError:
            return set()  # none in Python
        told = {each.name: str(each.annotation) for each in parameters}
    return {name for name, words in told.items() if re.search(r"\b(int|float)\b", words)}


def test_the_table_has_every_number_of_every_public_signature() -> None:
    found = {(name, number) for name, function in _public() for number in _numbers(function)}
    missing = {pair for pair in found if pair[0] not in TOLD} - set(GIVEN)
    assert missing == set(), "give it a check of remit._amounts, and a line in the table"
    assert set(GIVEN) <= found
    # And each way to the same settings has the same numbers.
    for function in (remit.connect, remit.Hub.connect):
        assert _numbers(function) == _numbers(Settings)
    assert _numbers(StartSettings) == _numbers(remit.Session.start)


def _wrong() -> Iterator[tuple[str, str, Any]]:
    for (name, number), (kind, out_of_bounds) in GIVEN.items():
        for value in [*(NO_SECONDS if kind == "seconds" else NO_COUNT), *out_of_bounds]:
            yield name, number, value


class Uses:
    """Each public callable with one number given."""

    def __init__(self, session: remit.Session, job: remit.Job, fleet: remit.Fleet) -> None:
        self._session = session
        self._job = job
        self._fleet = fleet

    async def use(self, name: str, **given: Any) -> None:
        if name == "Settings":
            await remit.open_hub().connect("fake:", **given)
        elif name == "Session.start":
            for placement in ("return", "keep"):
                with pytest.raises((TypeError, ValueError)):
                    await self._session.start(["true"], placement=placement, **given)
            await self._session.start(["true"], placement="keep", **given)
        elif name == "Executor":
            remit.Executor("fake:", **given)
        elif name == "Session.map":
            self._session.map(abs, [1], **given)
        elif name == "Session.prune":
            await self._session.prune(**given)
        elif name == "Job.stop":
            await self._job.stop(**given)
        elif name == "JobGroup.stop":
            await remit.JobGroup(new_group_id(), [self._job]).stop(**given)
        elif name == "connect_many":
            remit.connect_many(["fake:"], **given)
        elif name == "Fleet.start":
            await self._fleet.start(["true"], **given)
        elif name == "Fleet.run":
            await self._fleet.run(["true"], **given)
        elif name in ("Fleet.call", "Fleet.map"):
            getattr(self._fleet, name.partition(".")[2])(abs, [1], **given)
        else:
            getattr(remit if hasattr(remit, name) else remit.abc, name)(**given)


async def test_each_is_refused_by_its_name_with_what_was_given(play: Play) -> None:
    asked: list[str] = []

    async def serve(agent: Any) -> None:
        async for _channel, verb, _arguments in agent.requests():
            asked.append(verb)

    play(agent_script(serve))
    async with remit.connect("fake:") as session, remit.connect_many(["fake:"]) as fleet:
        uses = Uses(session, _a_job(session), fleet)
        for name, number, value in _wrong():
            with pytest.raises((TypeError, ValueError)) as refused:
                await uses.use(name, **{number: value})
            words = str(refused.value)
            assert number in words, (name, number, value)
            if isinstance(value, (str, float)) and not isinstance(value, bool):
                assert repr(value) in words, (name, number, value)
            assert len(words) < 200, (name, number)
    assert asked == []


def _a_job(session: remit.Session) -> remit.Job:
    from remit._jobs.return_job import EndedJob

    info = remit.JobInfo(
        id=remit.new_job_id(),
        name=None,
        state=remit.JobState.COMPLETED,
        location="fake",
        command=("true",),
        placement="return",
        lifetime="session",
        has_more_data=False,
    )
    return remit.Job(EndedJob(session._connection, info))


@pytest.mark.parametrize("number", [5, 5.0, Decimal(5), Fraction(5)])
def test_whatever_is_a_number_of_seconds_becomes_one(number: Any) -> None:
    settings = Settings(connect_timeout=number, silence=number, reconnect=number)
    told = (settings.connect_timeout, settings.silence, settings.reconnect)
    assert [(type(each), each) for each in told] == [(float, 5.0)] * 3
    lease = remit.lease(number)
    assert (type(lease.seconds), lease.seconds) == (float, 5.0)
