"""What takes minutes and days: reconnecting, silence, leases, and whoever waits for them.

On a clock that jumps when every task waits."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

import remit
from remit import JobState, SessionState
from remit._session import backoff
from remit.testing import FakePeer
from testbed import virtual_time

from .conftest import Play
from .fake_agent import HELLO, FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86400.0
ID = "jaaaaaaaaaaaa"
OUTCOME = {"exit_status": 0, "signal": None, "reason": "exited", "error": None, "note": None}


@pytest.fixture(scope="module", params=virtual_time.PARAMS, ids=virtual_time.IDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    found: tuple[str, dict[str, Any]] = request.param
    return found


@pytest.fixture(autouse=True)
def _no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "jitter", lambda: 0.0)


class Stopwatch:
    def __init__(self) -> None:
        self._began = anyio.current_time()

    @property
    def seconds(self) -> float:
        return round(anyio.current_time() - self._began, 3)


# Of sessions that last for days, in which a sign of life each 5 s would only take its time.
PATIENT = 600.0


async def _lives(agent: FakeAgent, silence: float = PATIENT) -> None:
    """Says that it lives, as a sound agent does."""
    while True:
        agent.conversation.ping()
        await agent.flush()
        await anyio.sleep(silence / 3)


async def _until_closed(session: remit.Session) -> None:
    async for _ in session.changes():
        pass


# -- silence


@pytest.mark.parametrize("silence", [0.3, 15.0, DAY])
async def test_silence_is_a_lost_link_after_just_so_long(play: Play, silence: float) -> None:
    async def silent(agent: FakeAgent) -> None:
        await anyio.sleep_forever()

    play(agent_script(silent))
    async with remit.connect("fake:", silence=silence, reconnect=0) as session:
        watch = Stopwatch()
        with pytest.raises(remit.LinkLost, match=f"nothing was heard of it for {silence:g} s"):
            await session.run(["true"])
        assert watch.seconds == silence


async def test_who_gives_a_sign_of_life_is_heard_for_an_hour(play: Play) -> None:
    async def alive(agent: FakeAgent) -> None:
        with anyio.move_on_after(HOUR):
            await _lives(agent, 15.0)
        await anyio.sleep_forever()

    play(agent_script(alive))
    async with remit.connect("fake:", reconnect=0) as session:
        watch = Stopwatch()
        await _until_closed(session)
        assert HOUR + 9 <= watch.seconds <= HOUR + 15  # the last sign came up to 5 s before


async def test_the_caller_gives_a_sign_of_life_three_times_in_that_span(play: Play) -> None:
    heard: list[float] = []

    async def listen(agent: FakeAgent) -> None:
        watch = Stopwatch()
        while await agent.peer.receive():
            heard.append(watch.seconds)
            if len(heard) in (1, 3):
                agent.conversation.ping()
                await agent.flush()

    play(agent_script(listen))
    async with remit.connect("fake:", reconnect=0) as session:
        await _until_closed(session)
    assert heard == [5.0, 10.0, 15.0, 20.0, 25.0]


@pytest.mark.parametrize("timeout", [0.2, 30.0, 600.0])
async def test_a_silent_peer_is_given_up_at_the_connect_timeout(play: Play, timeout: float) -> None:
    async def script(peer: FakePeer) -> None:
        await anyio.sleep_forever()

    play(script)
    watch = Stopwatch()
    with pytest.raises(remit.BootstrapError, match=f"no agent came up on fake: within {timeout:g}"):
        async with remit.connect("fake:", connect_timeout=timeout):
            raise AssertionError
    assert watch.seconds == timeout


# -- reconnecting


class Host:
    """A target whose network is there at some times and not at others."""

    def __init__(self, serve: Callable[[FakeAgent], Awaitable[None]]) -> None:
        self.is_up = True
        self.tries: list[float] = []
        self._serve = serve
        self._peers: list[FakePeer] = []

    async def __call__(self, peer: FakePeer) -> int:
        self.tries.append(anyio.current_time())
        if not self.is_up:
            peer.say(b"no route\n")
            return 9
        self._peers.append(peer)
        agent = FakeAgent(peer)
        await agent.boot()
        agent.conversation.hello(pack(HELLO))
        await agent.flush()
        with suppress(BrokenPipeError):  # it was cut
            await self._serve(agent)
        return 0

    def cut(self) -> None:
        for peer in self._peers:
            peer.cut_stdin()
            peer.cut_stdout()
        self._peers.clear()


async def _only_lives(agent: FakeAgent) -> None:
    await _lives(agent)


@pytest.mark.parametrize("limit", [0.3, 10.0, 300.0, HOUR])
async def test_a_lost_link_is_given_up_after_just_so_long(play: Play, limit: float) -> None:
    host = Host(_only_lives)
    play(host)
    async with remit.connect("fake:", silence=PATIENT, reconnect=limit) as session:
        await anyio.sleep(HOUR)
        host.is_up = False
        host.cut()
        watch = Stopwatch()
        words = f"for {limit:g} s there was no new one"
        with pytest.raises(remit.LinkLost, match=words) as caught:
            await session.run(["true"], placement="keep")
        assert watch.seconds == limit
        assert session.state is SessionState.BROKEN
    assert "ended with status 9" in str(caught.value)


@pytest.mark.parametrize("down", [0.0, 0.6, 7.0, 120.0, 299.0])
async def test_within_minutes_it_is_back_ten_seconds_after_the_network(
    play: Play, down: float
) -> None:
    host = Host(_only_lives)
    play(host)
    async with remit.connect("fake:", silence=PATIENT) as session:
        host.is_up = False
        host.cut()
        await anyio.sleep(down)
        host.is_up = True
        watch = Stopwatch()
        await session._connection.ready()
        assert watch.seconds <= 10
        assert session.state is SessionState.OPEN


async def test_without_a_limit_it_is_tried_for_hours(play: Play) -> None:
    host = Host(_only_lives)
    play(host)
    async with remit.connect("fake:", silence=PATIENT, reconnect=None) as session:
        host.is_up = False
        host.cut()
        await anyio.sleep(3 * HOUR)
        pauses = [round(b - a, 3) for a, b in zip(host.tries[1:], host.tries[2:], strict=False)]
        assert pauses[:3] == [1.0, 2.0, 4.0]
        assert set(pauses[3:49]) == {6.0}
        assert set(pauses[49:]) == {30.0}
        host.is_up = True
        watch = Stopwatch()
        await session._connection.ready()
        assert watch.seconds <= 30


async def test_each_loss_begins_anew(play: Play) -> None:
    """However often the link is lost: what counts is how long it is away at a time."""
    host = Host(_only_lives)
    play(host)
    seen: list[SessionState] = []

    async def note(session: remit.Session) -> None:
        seen.extend([state async for state in session.changes()])

    async with (
        anyio.create_task_group() as tasks,
        remit.connect("fake:", silence=PATIENT, reconnect=60) as session,
    ):
        tasks.start_soon(note, session)
        for _ in range(20):
            await anyio.sleep(HOUR)
            host.is_up = False
            host.cut()
            await anyio.sleep(50)
            host.is_up = True
            await session._connection.ready()
    again = [SessionState.RECONNECTING, SessionState.OPEN]
    assert seen == [SessionState.OPEN, *again * 20, SessionState.CLOSED]


# -- jobs


class Keeping:
    """What an agent knows of one kept job, over any number of links."""

    def __init__(self, lifetime: str = "detached") -> None:
        self.job = job_map(ID, placement="keep", lifetime=lifetime)
        self.watched = 0
        self._ended = anyio.Event()

    def end(self) -> None:
        self.job |= {"state": "COMPLETED", "outcome": OUTCOME, "finished": 2.0, "started": 1.0}
        self._ended.set()

    async def serve(self, agent: FakeAgent) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_lives, agent)
            async for channel, verb, arguments in agent.requests():
                if verb == "start":
                    self.job["id"] = arguments["id"]
                if verb in ("start", "watch"):
                    self.watched += verb == "watch"
                    agent.conversation.accept(channel, pack(self.job))
                    tasks.start_soon(self._tell_the_end, agent, channel)
                elif verb == "find":
                    agent.conversation.reply(channel, pack({"jobs": [self.job], "next": None}))
            tasks.cancel_scope.cancel()

    async def _tell_the_end(self, agent: FakeAgent, channel: int) -> None:
        await self._ended.wait()
        agent.conversation.end(channel, pack({"job": self.job}))
        await agent.flush()


async def test_a_job_of_a_day_is_waited_for_over_whatever_becomes_of_the_link(play: Play) -> None:
    keeping = Keeping()
    host = Host(keeping.serve)
    play(host)
    seen: list[JobState] = []

    async def note(job: remit.Job) -> None:
        seen.extend([state async for state in job.changes()])

    async def disturb() -> None:
        for _ in range(24):
            await anyio.sleep(HOUR)
            host.cut()
        keeping.end()

    async with remit.connect("fake:", silence=PATIENT) as session:
        job = await session.job(ID)
        watch = Stopwatch()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(disturb)
            tasks.start_soon(note, job)
            assert await job.wait() is JobState.COMPLETED
        assert DAY <= watch.seconds <= DAY + 10
    again = [JobState.DISCONNECTED, JobState.RUNNING]
    assert seen == [JobState.RUNNING, *again * 23, JobState.DISCONNECTED, JobState.COMPLETED]


async def test_who_waits_for_a_kept_job_is_told_once_reconnecting_is_given_up(play: Play) -> None:
    host = Host(Keeping().serve)
    play(host)
    async with remit.connect("fake:", silence=PATIENT, reconnect=300) as session:
        job = await session.job(ID)
        host.is_up = False
        host.cut()
        watch = Stopwatch()
        assert await job.wait(disconnected=True) is JobState.DISCONNECTED
        assert watch.seconds == 0
        with pytest.raises(remit.LinkLost, match="for 300 s there was no new one"):
            await job.wait()
        assert watch.seconds == 300
        assert job.state is JobState.DISCONNECTED


@pytest.mark.parametrize("held", [True, False])
async def test_a_session_stays_a_caller_of_what_it_leased_out(play: Play, held: bool) -> None:
    """Over each new link, whether somebody holds the job or not."""
    keeping = Keeping("lease")
    host = Host(keeping.serve)
    play(host)
    async with remit.connect("fake:", silence=PATIENT) as session:
        job = await session.start(["true"], placement="keep", lifetime=remit.lease(60))
        if not held:
            del job
            gc.collect()
        for times in range(1, 5):
            await anyio.sleep(HOUR)
            host.cut()
            await anyio.sleep(10)
            assert keeping.watched == times
        keeping.end()
        await anyio.sleep(10)
        host.cut()
        await anyio.sleep(10)
        assert keeping.watched == 4 + held, "one that is over has no callers, but who holds it"


# -- limits that hold whatever the target does


async def test_a_target_that_does_not_end_a_job_in_time_loses_it(play: Play) -> None:
    async def deaf(agent: FakeAgent) -> None:
        channel, _, arguments = await agent.request()
        agent.conversation.accept(channel, pack(job_map(arguments["id"])))
        await _lives(agent)

    play(agent_script(deaf))
    async with remit.connect("fake:", silence=PATIENT) as session:
        watch = Stopwatch()
        with pytest.raises(remit.JobFailed, match="did not end it in time") as caught:
            await (await session.start(["true"], timeout=600)).result()
        assert watch.seconds == 620
        assert caught.value.reason == "timeout"


async def test_a_kept_job_that_is_not_ended_there_holds_nobody_up(play: Play) -> None:
    async def deaf(agent: FakeAgent) -> None:
        channel, _, arguments = await agent.request()
        agent.conversation.accept(channel, pack(job_map(arguments["id"], placement="keep")))
        await _lives(agent)

    play(agent_script(deaf))
    async with remit.connect("fake:", silence=PATIENT) as session:
        watch = Stopwatch()
        with pytest.raises(remit.JobFailed, match="not ended there in time") as caught:
            await session.run(["true"], placement="keep", timeout=600)
        # And 10 s in which it is to be removed.
        assert watch.seconds == 630
        assert caught.value.reason == "timeout"


async def test_an_agent_that_says_no_goodbye_is_left_after_a_while(play: Play) -> None:
    play(agent_script(_only_lives))
    async with remit.open_hub() as hub:
        session = await hub.connect("fake:", silence=PATIENT)
        watch = Stopwatch()
        await session.aclose()
        assert watch.seconds == 15
        assert session.state is SessionState.CLOSED


async def test_what_a_target_refuses_to_seal_is_tried_at_growing_pauses(play: Play) -> None:
    tries: list[float] = []

    async def refuse(agent: FakeAgent) -> None:
        watch = Stopwatch()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_lives, agent)
            async for channel, verb, _ in agent.requests():
                if verb == "seal":
                    tries.append(watch.seconds)
                agent.conversation.refuse(channel, pack({"code": "disk", "message": "full"}))
            tasks.cancel_scope.cancel()

    play(agent_script(refuse))
    async with remit.connect("fake:", silence=PATIENT) as session:
        await session._connection.give_up(ID)
        await anyio.sleep(HOUR)
        assert tries == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5]
        assert ID in session._connection.seals
