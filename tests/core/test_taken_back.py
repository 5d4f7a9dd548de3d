"""A kept start that is given up never runs again: not at any moment of the cancel, however slow
the target is, over whichever link."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from itertools import product
from typing import Any, NoReturn

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

import remit
from remit._jobs.tasks import Tasks
from remit._session import backoff
from remit._session import seals as seals_module
from remit._wire import frames

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio


class Target:
    """What a target has of jobs, over all links. Each answer takes so many turns of the loop as
    ``delays`` says of its verb, and others come in between."""

    def __init__(self, **delays: int) -> None:
        self.runs: list[str] = []
        self.alive: set[str] = set()
        self.sealed: set[str] = set()
        self._delays = delays

    async def serve(self, agent: FakeAgent) -> None:
        given_up: set[int] = set()
        async with anyio.create_task_group() as tasks:
            while True:
                while not agent.events:
                    data = await agent.peer.receive()
                    if not data:
                        tasks.cancel_scope.cancel()
                        return
                    agent.events += agent.conversation.receive(data)
                event = agent.events.pop(0)
                if event.kind == frames.GOODBYE:
                    agent.conversation.goodbye(pack({}))
                    await agent.flush()
                    tasks.cancel_scope.cancel()
                    return
                if event.kind == frames.CLOSE:
                    given_up.add(event.channel)
                if event.kind == frames.REQUEST:
                    tasks.start_soon(self._answer, agent, event.channel, event.body, given_up)

    async def _answer(
        self, agent: FakeAgent, channel: int, body: bytes, given_up: set[int]
    ) -> None:
        verb, arguments = agent.unpack(body)
        for _ in range(self._delays.get(verb, 0)):
            await anyio.lowlevel.checkpoint()
        say, job = agent.conversation, str(arguments.get("job") or arguments.get("id"))
        if verb == "start":
            self._start(job, channel in given_up)
            if job in self.alive:
                say.accept(channel, pack(job_map(job, placement="keep")))
            else:
                say.refuse(
                    channel, pack({"code": "gone", "message": "its id cannot be used again"})
                )
        elif verb == "seal":
            self.sealed.add(job)
            say.reply(channel, pack({"ran": job in self.alive}))
        elif verb == "remove":
            self.alive.discard(job)
            say.reply(channel, pack({}))
        else:
            assert verb == "stop"
            gone = job_map(job, "STOPPED", placement="keep", outcome={"reason": "stopped"})
            self.alive.discard(job)
            say.reply(channel, pack({"survivors": [], "job": gone}))
        await agent.flush()

    def _start(self, job: str, given_up: bool) -> None:
        if job not in self.sealed and job not in self.alive:
            self.runs.append(job)
            self.alive.add(job)
        if given_up:
            self.alive.discard(job)
            self.sealed.add(job)


async def _after(turns: int, then: Callable[[], object]) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    then()


async def _cancelled(session: remit.Session, job_id: str, turns: int) -> bool:
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(_after, turns, scope.cancel)
            await session.start(["sleep", "1000"], placement="keep", id=job_id)
        tasks.cancel_scope.cancel()
    return scope.cancelled_caught


@pytest.mark.parametrize("seal", [0, 6, 25])
@pytest.mark.parametrize("start", [0, 6, 25])
async def test_its_id_is_used_up_once_the_start_has_returned(
    play: Play, start: int, seal: int
) -> None:
    target = Target(start=start, seal=seal)
    play(agent_script(target.serve))
    given_up = 0
    async with remit.connect("fake:") as session, remit.connect("fake:") as another:
        for turns in range(45):
            job_id = remit.new_job_id()
            with anyio.fail_after(30):
                if not await _cancelled(session, job_id, turns):
                    break
                given_up += 1
                for each in (session, another):
                    with pytest.raises(remit.JobStateError, match="its id cannot be used again"):
                        await each.start(["sleep", "1000"], placement="keep", id=job_id)
            assert job_id not in target.alive, turns
            assert job_id in target.sealed, turns
    assert given_up > 1
    assert len(set(target.runs)) == len(target.runs)


async def test_while_the_link_is_lost_the_session_knows_it(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "wait_before", lambda attempt, jitter: 0.0)
    target = Target()
    may_return = anyio.Event()
    links = 0

    async def serve(agent: FakeAgent) -> None:
        nonlocal links
        links += 1
        if links == 1:
            await agent.request()  # and the link is lost over it
        else:
            await may_return.wait()
            await target.serve(agent)

    play(agent_script(serve))
    job_id = remit.new_job_id()
    async with remit.connect("fake:") as session:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancelled, session, job_id, 10_000)
            while session.state is not remit.SessionState.RECONNECTING:
                await anyio.lowlevel.checkpoint()
            tasks.cancel_scope.cancel()
        with pytest.raises(remit.JobStateError, match=job_id):
            await session.start(["sleep", "1000"], placement="keep", id=job_id)
        assert target.sealed == set()
        may_return.set()
        with anyio.fail_after(30):
            while job_id not in target.sealed:
                await anyio.lowlevel.checkpoint()
            with pytest.raises(remit.JobStateError, match="its id cannot be used again"):
                await session.start(["sleep", "1000"], placement="keep", id=job_id)
    assert target.runs == []


async def _unreadable() -> AsyncIterator[bytes]:
    yield b"x"
    raise LookupError("the end of this input cannot be had")


LOCK = threading.Lock()


def _holding_a_lock() -> bool:
    return LOCK.locked()


@pytest.mark.parametrize(
    ("work", "options"),
    [
        (["true"], {"stdin": _unreadable}),
        (_holding_a_lock, {}),
        (print, {"python": "/no/such/python"}),
    ],
    ids=["input", "function", "refused"],
)
@pytest.mark.parametrize("runs", [True, False])
async def test_a_start_that_fails_leaves_an_earlier_one_alone(
    work: Any, options: dict[str, Any], runs: bool
) -> None:
    """Who asks again under an id, since its first caller was killed, must not lose its job."""
    job_id = remit.new_job_id()
    async with remit.connect("local:") as session, remit.connect("local:") as another:
        line = "echo one; sleep 1000" if runs else "echo one"
        job = await session.start(line, placement="keep", id=job_id)
        if not runs:
            await job.wait()
        if "stdin" in options:
            options = {"stdin": options["stdin"]()}
        with pytest.raises((remit.RemitError, LookupError)):
            await another.start(work, placement="keep", id=job_id, **options)
        # Nobody's start is refused for it, either.
        again = await another.start(["true"], placement="keep", id=job_id)
        assert again.state is (remit.JobState.RUNNING if runs else remit.JobState.COMPLETED)
        assert (await anext(again.receive(keep=True))).data == b"one\n"
        await again.remove(force=True)


async def test_an_id_of_which_nothing_ran_is_used_up_by_a_start_that_fails() -> None:
    job_id = remit.new_job_id()
    async with remit.connect("local:") as session:
        with pytest.raises(LookupError):
            await session.start(["true"], placement="keep", id=job_id, stdin=_unreadable())
        with pytest.raises(remit.JobStateError, match="cannot be used again"):
            await session.start(["true"], placement="keep", id=job_id)


# What may become of a request for a seal or a removal, beside its answer.
FATES = ("cut", "done and cut", "refused")
REFUSAL = {"code": "internal", "message": "no"}


class Unlucky(Target):
    """A target that has such fates in store for what takes a start back, one after another. Its
    first link goes over the start itself, which runs or does not."""

    def __init__(self, fates: tuple[str, ...], runs: bool) -> None:
        super().__init__()
        self._fates = list(fates)
        self._runs = runs
        self._begun = False

    async def serve(self, agent: FakeAgent) -> None:
        async with aclosing(agent.requests()) as requests:
            async for channel, verb, arguments in requests:
                job = str(arguments.get("job") or arguments.get("id"))
                if not self._begun:
                    self._begun = True
                    if self._runs:
                        self._start(job, False)
                    return
                fate = self._fates.pop(0) if self._fates else None
                if fate == "cut":
                    return
                if fate == "refused":
                    agent.conversation.refuse(channel, pack(REFUSAL))
                    continue
                answer = self._do(verb, job)
                if fate == "done and cut":
                    return
                agent.conversation.reply(channel, pack(answer))

    def _do(self, verb: str, job: str) -> dict[str, object]:
        if verb == "seal":
            self.sealed.add(job)
            return {"ran": job in self.alive}
        if verb == "remove":
            self.alive.discard(job)
        return {}


@pytest.mark.parametrize("runs", [True, False])
async def test_it_is_sealed_whatever_becomes_of_the_first_tries(
    play: Play, runs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "wait_before", lambda attempt, jitter: 0.0)
    monkeypatch.setattr(seals_module, "PAUSES", (0.0,) * 3)
    for fates in (fates for size in range(4) for fates in product(FATES, repeat=size)):
        target = Unlucky(fates, runs)
        play(agent_script(target.serve))
        async with remit.connect("fake:") as session:
            job_id = remit.new_job_id()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancelled, session, job_id, 10_000)
                while session.state is not remit.SessionState.RECONNECTING:
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            with anyio.fail_after(30):
                while session._connection.seals:
                    await anyio.lowlevel.checkpoint()
            assert job_id in target.sealed, fates
            assert not target.alive, fates
            assert not target._fates, fates


async def test_what_cannot_be_sealed_is_tried_over_the_next_link(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A target that refuses for long is let be for a while, and holds up no close."""
    monkeypatch.setattr(backoff, "wait_before", lambda attempt, jitter: 0.0)
    monkeypatch.setattr(seals_module, "PAUSES", (0.0,) * 3)
    sealed, refused, links = list[str](), list[str](), 0

    async def serve(agent: FakeAgent) -> None:
        nonlocal links
        links += 1
        async with aclosing(agent.requests()) as requests:
            async for channel, verb, arguments in requests:
                if verb == "cut":
                    return
                if verb == "seal" and links > 1:
                    sealed.append(arguments["job"])
                    agent.conversation.reply(channel, pack({"ran": False}))
                    continue
                if verb == "seal":
                    refused.append(arguments["job"])
                agent.conversation.refuse(channel, pack(REFUSAL))

    play(agent_script(serve))
    async with remit.connect("fake:") as session:
        ids = [remit.new_job_id() for _ in range(3)]
        with anyio.fail_after(30):
            for job_id in ids:
                await session._connection.give_up(job_id)
            while session._connection.seals._insisting is not None or len(refused) < 4 * len(ids):
                await anyio.lowlevel.checkpoint()
            assert not sealed
            with suppress(remit.LinkLost):
                await (await session._connection.ready()).ask("cut", {}, dict)
            while session._connection.seals:
                await anyio.lowlevel.checkpoint()
    assert sorted(sealed) == sorted(ids)


def test_ids_that_are_still_to_be_sealed_are_bounded() -> None:
    async def no_link() -> NoReturn:
        raise AssertionError

    seals = seals_module.Seals(Tasks(lambda exc: None), no_link)
    ids = [remit.new_job_id() for _ in range(seals_module.MOST + 5)]
    for job_id in ids:
        seals.owe(job_id, spare=False)
    assert [job_id in seals for job_id in ids] == [False] * 5 + [True] * seals_module.MOST


@pytest.mark.parametrize("cuts", range(3))
async def test_a_removal_whose_answer_was_lost_is_none_that_failed(
    play: Play, cuts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "wait_before", lambda attempt, jitter: 0.0)
    removed, tries = set[str](), 0

    async def serve(agent: FakeAgent) -> None:
        nonlocal tries
        async with aclosing(agent.requests()) as requests:
            async for channel, verb, arguments in requests:
                job = str(arguments.get("job") or arguments.get("id"))
                if verb != "remove":
                    agent.conversation.accept(channel, pack(job_map(job, placement="keep")))
                    continue
                tries += 1
                is_new = job not in removed
                removed.add(job)
                if tries <= cuts:
                    return
                if is_new:
                    agent.conversation.reply(channel, pack({}))
                else:
                    gone = {"code": "not-found", "message": "no such job", "gone": True}
                    agent.conversation.refuse(channel, pack(gone))

    play(agent_script(serve))
    with anyio.fail_after(30):
        async with remit.connect("fake:") as session:
            job = await session.start(["true"], placement="keep")
            await job.remove()
            with pytest.raises(remit.JobNotFound):
                await job.remove()
    assert removed == {job.id}
