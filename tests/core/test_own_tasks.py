"""A session's tasks are out of reach of its user's cancels; a session is used in its own loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

import remit
from remit._wire import frames

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio


class Book:
    """What a sound agent has of jobs, in memory: nothing in it takes time but turns of the loop."""

    def __init__(self) -> None:
        self.alive: set[str] = set()
        self.ever: set[str] = set()
        self.goodbyes = 0

    async def serve(self, agent: FakeAgent) -> None:
        starts: dict[int, str] = {}
        while True:
            while not agent.events:
                data = await agent.peer.receive()
                if not data:
                    return
                agent.events += agent.conversation.receive(data)
            event = agent.events.pop(0)
            if event.kind == frames.GOODBYE:
                self.goodbyes += 1
                self.alive -= set(starts.values())
                agent.conversation.goodbye(pack({}))
                await agent.flush()
                return
            if event.kind == frames.CLOSE and event.channel in starts:
                self.alive.discard(starts.pop(event.channel))
            if event.kind == frames.REQUEST:
                # A turn of the loop between what is asked and its answer, as with a real one.
                await anyio.lowlevel.checkpoint()
                self.answer(agent, event.channel, event.body, starts)
                await agent.flush()

    def answer(self, agent: FakeAgent, channel: int, body: bytes, starts: dict[int, str]) -> None:
        verb, arguments = agent.unpack(body)
        say = agent.conversation
        job = str(arguments.get("job") or arguments.get("id"))
        gone = job_map(job, "STOPPED", placement="keep", outcome={"reason": "stopped"})
        if verb == "start":
            starts[channel] = job
            self.alive.add(job)
            self.ever.add(job)
            say.accept(channel, pack(job_map(job, placement=arguments["placement"])))
            if arguments["placement"] == "keep":
                del starts[channel]
        elif verb == "stop":
            self.alive.discard(job)
            say.reply(channel, pack({"survivors": [], "job": gone}))
        elif verb == "seal":
            say.reply(channel, pack({"ran": job in self.ever}))
        elif verb == "read":
            say.accept(channel, pack({"position": {}}))
        else:
            self.alive.discard(job)
            say.reply(channel, pack({}))


async def _run_return() -> None:
    async with remit.connect("fake:") as session:
        await session.run(["sleep", "1000"])


async def _run_keep() -> None:
    async with remit.connect("fake:") as session:
        await session.run(["sleep", "1000"], placement="keep")


async def _start_keep() -> None:
    async with remit.connect("fake:") as session:
        job = await session.start(["sleep", "1000"], placement="keep")
        try:
            await job.wait()
        finally:
            # The clean-up of a user who knows how: it still has the session.
            with anyio.CancelScope(shield=True):
                await job.remove(force=True)


async def _from_a_hub() -> None:
    async with remit.open_hub() as hub:
        session = await hub.connect("fake:")
        await session.run(["sleep", "1000"], placement="keep")


async def _short_form() -> None:
    async with remit.start("fake:", ["sleep", "1000"]) as job:
        await job.wait()


USES = [_run_return, _run_keep, _start_keep, _from_a_hub, _short_form]


async def _after(turns: int, then: Callable[[], object]) -> None:
    for _ in range(turns):
        await anyio.lowlevel.checkpoint()
    then()


async def _stormed(use: Callable[[], Awaitable[None]], turns: int) -> None:
    """A scope around all of it is cancelled after so many turns of the loop."""
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(_after, turns, scope.cancel)
            await use()
    assert scope.cancelled_caught


async def _stormed_by_asyncio(use: Callable[[], Awaitable[None]], turns: int, times: int) -> None:
    """As `asyncio.timeout` and `wait_for` do it: shields do not hold this."""

    async def body() -> None:
        await use()

    task = asyncio.ensure_future(body())
    for _ in range(times):
        await _after(turns, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert task.cancelled(), "another exception took the place of the cancel"


@pytest.mark.parametrize("use", USES)
async def test_a_cancel_of_all_at_any_moment_takes_back_what_was_begun(
    play: Play, use: Callable[[], Awaitable[None]]
) -> None:
    book = Book()
    play(agent_script(book.serve))
    begun = 0
    for turns in range(120):
        with anyio.fail_after(30):
            await _stormed(use, turns)
        assert book.alive == set(), turns
        begun = max(begun, len(book.ever))
    assert begun, "no cancel came late enough to meet a job"
    assert book.goodbyes, "no session came to an orderly end"


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("use", USES)
async def test_so_do_cancels_of_asyncios_own_one_after_another(
    play: Play, use: Callable[[], Awaitable[None]], times: int, anyio_backend_name: str
) -> None:
    if anyio_backend_name != "asyncio":
        return  # trio knows no other cancel than a scope's
    book = Book()
    play(agent_script(book.serve))
    for turns in range(0, 120, times):
        with anyio.fail_after(30):
            # Nobody's clean-up but remit's own stands repeated cancels.
            await _stormed_by_asyncio(use, turns, 1 if use is _start_keep else times)
        assert book.alive == set(), turns


async def test_a_hub_is_entered_once() -> None:
    hub = remit.open_hub()
    async with hub:
        with pytest.raises(RuntimeError, match="entered once"):
            async with hub:
                raise AssertionError
        session = await hub.connect("local:")
        assert (await session.run(["true"])).exit_status == 0
    with pytest.raises(RuntimeError, match="entered once"):
        async with hub:
            raise AssertionError
    with pytest.raises(RuntimeError, match="not open"):
        await hub.connect("local:")
    with pytest.raises(RuntimeError, match="not open"):
        await remit.open_hub().connect("local:")


async def test_a_hub_is_opened_and_closed_in_any_task() -> None:
    hubs: list[remit.Hub] = []

    async def open_one() -> None:
        hubs.append(await remit.Hub.open())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(open_one)
    session = await hubs[0].connect("local:")
    assert (await session.run(["true"])).exit_status == 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(hubs[0].aclose)
        tasks.start_soon(hubs[0].aclose)
    await hubs[0].aclose()
    assert session.state is remit.SessionState.CLOSED


ELSEWHERE: dict[str, Callable[[remit.Hub, remit.Session, remit.Job], Awaitable[object]]] = {
    "run": lambda hub, session, job: session.run(["true"]),
    "start": lambda hub, session, job: session.start(["true"], placement="keep"),
    "jobs": lambda hub, session, job: session.jobs(),
    "job": lambda hub, session, job: session.job("nothing"),
    "call": lambda hub, session, job: session.call(len, "abc"),
    "changes": lambda hub, session, job: _drain(session.changes()),
    "aclose": lambda hub, session, job: session.aclose(),
    "connect": lambda hub, session, job: hub.connect("local:"),
    "close hub": lambda hub, session, job: hub.aclose(),
    "wait": lambda hub, session, job: job.wait(),
    "receive": lambda hub, session, job: _drain(job.receive()),
    "result": lambda hub, session, job: job.result(),
    "stop": lambda hub, session, job: job.stop(),
    "suspend": lambda hub, session, job: job.suspend(),
    "send": lambda hub, session, job: job.send(b"x"),
    "job changes": lambda hub, session, job: _drain(job.changes()),
}


async def _drain(items: object) -> None:
    async for _ in items:  # type: ignore[attr-defined]
        pass


async def test_another_event_loop_is_told_so() -> None:
    said: dict[str, BaseException | None] = {}

    async def elsewhere(hub: remit.Hub, session: remit.Session, job: remit.Job) -> None:
        for name, use in ELSEWHERE.items():
            try:
                with anyio.fail_after(5):
                    await use(hub, session, job)
                said[name] = None
            except BaseException as exc:
                said[name] = exc

    async with remit.open_hub() as hub:
        session = await hub.connect("local:")
        job = await session.start(["sleep", "1000"], stdin=remit.PIPE)
        for backend in ("asyncio", "trio"):
            said.clear()
            thread = threading.Thread(
                target=lambda: anyio.run(elsewhere, hub, session, job, backend=backend)  # noqa: B023
            )
            thread.start()
            await anyio.to_thread.run_sync(thread.join)
            for name, exc in said.items():
                assert isinstance(exc, RuntimeError), (name, exc)
                assert "another event loop" in str(exc), name

        def from_a_thread() -> int:
            done = anyio.from_thread.run(session.run, ["true"])
            assert isinstance(done, remit.CommandResult)
            return done.exit_status or 0

        # As the words advise.
        assert await anyio.to_thread.run_sync(from_a_thread) == 0
