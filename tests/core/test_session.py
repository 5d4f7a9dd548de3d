"""Sessions: opened, used and closed, in whichever task; what goes wrong shows at calls."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import remit
from remit._session.backoff import wait_before
from remit.testing import FakePeer

from .conftest import Play
from .fake_agent import HELLO, FakeAgent, agent_script, pack

pytestmark = pytest.mark.anyio


async def test_a_command_runs_and_its_output_comes_back(session: remit.Session) -> None:
    done = await session.run(["printf", "%s-%s", "a b", "*"])
    assert done == remit.CommandResult(0, b"a b-*", b"")
    assert (session.target, session.location, session.state) == ("local:", "localhost", "OPEN")


async def test_a_str_is_a_line_for_the_shell(session: remit.Session) -> None:
    done = await session.run("echo out; echo err >&2; exit 3")
    assert done == remit.CommandResult(3, b"out\n", b"err\n")


async def test_check_raises_what_failed(session: remit.Session) -> None:
    with pytest.raises(remit.JobFailed, match="exited with status 3") as caught:
        await session.run("echo why >&2; exit 3", check=True)
    assert (caught.value.exit_status, caught.value.stderr_tail) == (3, b"why\n")


async def test_the_callers_directory_is_the_jobs_on_this_computer(
    session: remit.Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (await session.run(["pwd"])).stdout == os.fsencode(tmp_path) + b"\n"
    assert (await session.run(["pwd"], cwd="/")).stdout == b"/\n"


async def test_run_leaves_no_job_behind(session: remit.Session) -> None:
    await session.run(["true"])
    await session.run(["true"], placement="keep")
    assert await session.jobs() == []


async def _body_of_connect() -> None:
    async with remit.connect("local:"):
        raise KeyError("mine")


async def _body_of_start() -> None:
    async with remit.start("local:", ["sleep", "1000"]):
        raise KeyError("mine")


async def _body_of_open_hub() -> None:
    async with remit.open_hub() as hub:
        await hub.connect("local:")
        raise KeyError("mine")


@pytest.mark.parametrize("way", [_body_of_connect, _body_of_start, _body_of_open_hub])
async def test_an_exception_of_the_body_leaves_as_it_is(
    way: Callable[[], Awaitable[None]],
) -> None:
    with pytest.raises(KeyError, match="mine"):
        await way()


async def test_a_closed_session_says_so() -> None:
    async with remit.connect("local:") as session:
        pass
    assert session.state is remit.SessionState.CLOSED
    with pytest.raises(remit.SessionClosed, match="is closed"):
        await session.run(["true"])
    await session.aclose()  # twice is quiet


async def test_changes_tell_the_states_in_order() -> None:
    seen = []

    async def watch(session: remit.Session) -> None:
        seen.extend([state async for state in session.changes()])

    async with anyio.create_task_group() as tasks, remit.connect("local:") as session:
        tasks.start_soon(watch, session)
        await anyio.wait_all_tasks_blocked()
    assert seen == ["OPEN", "CLOSED"]


async def test_a_hubs_sessions_are_used_and_closed_in_any_task() -> None:
    async with remit.open_hub() as hub:
        sessions: list[remit.Session] = []

        async def open_one() -> None:
            sessions.append(await hub.connect("local:"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(open_one)
            tasks.start_soon(open_one)
        assert (await sessions[0].run(["true"])).exit_status == 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(sessions[0].aclose)
        assert (await sessions[1].run(["true"])).exit_status == 0
    assert [session.state for session in sessions] == ["CLOSED", "CLOSED"]


async def test_closing_is_quick_and_leaves_no_process(session: remit.Session) -> None:
    job = await session.start(["sleep", "1000"])
    assert session._hello is not None
    began = time.monotonic()
    await session.aclose()
    assert time.monotonic() - began < 4  # TERM is enough for a sleep
    assert job.state is remit.JobState.STOPPED
    with pytest.raises(ProcessLookupError):
        os.kill(session._hello.pid, 0)


# -- no agent


async def test_a_silent_peer_is_given_up_at_the_connect_timeout(play: Play) -> None:
    async def script(peer: FakePeer) -> None:
        await anyio.sleep_forever()

    play(script)
    with pytest.raises(remit.BootstrapError, match=r"no agent came up on fake: within 0\.2 s"):
        async with remit.connect("fake:", connect_timeout=0.2):
            raise AssertionError


async def test_endless_noise_is_given_up_too(play: Play) -> None:
    async def script(peer: FakePeer) -> None:
        while True:
            await peer.send(b"x" * 65536)

    play(script)
    with pytest.raises(remit.BootstrapError, match="within"):
        async with remit.connect("fake:", connect_timeout=0.3):
            raise AssertionError


async def test_a_program_that_ends_is_an_error_with_its_status_and_words(play: Play) -> None:
    async def script(peer: FakePeer) -> int:
        peer.say(b"kaputt\n")
        await peer.send(b"some banner\n")
        return 42

    play(script)
    with pytest.raises(remit.BootstrapError, match="ended with status 42") as caught:
        async with remit.connect("fake:"):
            raise AssertionError
    assert caught.value.exit_status == 42
    assert "stderr  kaputt" in str(caught.value)
    assert "stdout  some banner" in str(caught.value)


async def test_without_python3_other_interpreters_are_looked_for(play: Play) -> None:
    async def script(peer: FakePeer) -> int:
        return 127

    transport = play(script)
    with pytest.raises(remit.BootstrapError, match=r"no Python 3\.6 or later"):
        async with remit.connect("fake:"):
            raise AssertionError
    assert [argv[0] for argv in transport.opened] == ["python3", "/bin/sh"]


async def test_only_the_interpreter_that_was_named_is_tried(play: Play) -> None:
    async def script(peer: FakePeer) -> int:
        return 127

    transport = play(script)
    with pytest.raises(remit.BootstrapError, match="there is no Python 3"):
        async with remit.connect("fake:?python=/opt/py/bin/python3"):
            raise AssertionError
    assert [argv[0] for argv in transport.opened] == ["/opt/py/bin/python3"]


async def test_an_agent_of_another_protocol_is_refused(play: Play) -> None:
    async def nothing(agent: FakeAgent) -> None:
        await agent.peer.receive()

    play(agent_script(nothing, {"protocol": 99}))
    with pytest.raises(remit.BootstrapError, match="protocol 99"):
        async with remit.connect("fake:"):
            raise AssertionError


async def test_a_cancelled_connect_leaves_nothing(play: Play) -> None:
    left = anyio.Event()

    async def script(peer: FakePeer) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            left.set()

    play(script)
    with anyio.move_on_after(0.1) as scope:
        async with remit.connect("fake:"):
            raise AssertionError
    assert scope.cancelled_caught
    assert left.is_set()


# -- a link that is lost


async def test_without_reconnecting_a_lost_link_breaks_the_session() -> None:
    async with remit.connect("local:", reconnect=0) as session:
        job = await session.start(["sleep", "1000"])
        kept = await session.start("sleep 0.5; echo on", placement="keep")
        assert session._hello is not None
        os.kill(session._hello.pid, signal.SIGKILL)
        assert await job.wait() is remit.JobState.LOST
        assert job.outcome is not None
        assert job.outcome.reason == "link-lost"
        async for _ in session.changes():
            pass
        assert session.state is remit.SessionState.BROKEN
        assert kept.state is remit.JobState.DISCONNECTED
        assert await kept.wait(disconnected=True) is remit.JobState.DISCONNECTED
        with pytest.raises(remit.LinkLost, match="was lost"):
            await kept.wait()
        with pytest.raises(remit.LinkLost, match="was lost"):
            await session.run(["true"])
    async with remit.connect("local:") as session:
        assert (await (await session.job(kept.id)).result()).stdout == b"on\n"


async def test_a_lost_link_is_made_anew_and_a_reader_goes_on() -> None:
    async with remit.connect("local:") as session:
        script = "i=0; while [ $i -lt 400 ]; do echo $i; i=$((i+1)); sleep 0.005; done"
        job = await session.start(script, placement="keep")
        lines = b""
        killed = 0
        async for record in job.receive():
            assert isinstance(record.data, bytes)
            lines += record.data
            if lines.count(b"\n") > 100 * killed and killed < 3:
                killed += 1
                assert session._hello is not None
                os.kill(session._hello.pid, signal.SIGKILL)
        assert killed == 3
        assert lines.split() == [b"%d" % number for number in range(400)]
        assert await job.wait() is remit.JobState.COMPLETED
        assert not job.has_more_data


async def test_a_link_that_stays_lost_is_given_up_and_says_what_was_tried(play: Play) -> None:
    met = anyio.Event()

    async def one_link(peer: FakePeer) -> int:
        if met.is_set():
            peer.say(b"no more\n")
            return 9
        met.set()
        agent = FakeAgent(peer)
        await agent.boot()
        agent.conversation.hello(pack(HELLO))
        await agent.flush()
        return 0

    play(one_link)
    async with remit.connect("fake:", reconnect=0.3) as session:
        with pytest.raises(remit.LinkLost) as caught:
            await session.run(["true"], placement="keep")
        assert session.state is remit.SessionState.BROKEN
    assert "for 0.3 s there was no new one" in str(caught.value)
    assert "ended with status 9" in str(caught.value)


async def test_a_call_made_meanwhile_waits_for_the_next_link() -> None:
    async with remit.connect("local:") as session:
        assert session._hello is not None
        os.kill(session._hello.pid, signal.SIGKILL)
        async for state in session.changes():
            if state is remit.SessionState.RECONNECTING:
                break
        assert (await session.run(["echo", "on"])).stdout == b"on\n"


async def test_a_peer_that_falls_silent_is_noticed(play: Play) -> None:
    async def silent(agent: FakeAgent) -> None:
        await anyio.sleep_forever()

    play(agent_script(silent))
    async with remit.connect("fake:", silence=0.3, reconnect=0) as session:
        with pytest.raises(remit.LinkLost, match=r"nothing was heard of it for 0\.3 s"):
            await session.run(["true"])


async def test_a_busy_event_loop_is_no_silence(session: remit.Session) -> None:
    async with remit.connect("local:", silence=1.5, reconnect=0) as session:
        job = await session.start(["sleep", "1000"])
        time.sleep(4)
        assert (await session.run(["true"])).exit_status == 0
        assert job.state is remit.JobState.RUNNING


def test_the_waits_between_reconnects_grow_to_a_limit() -> None:
    waits = [wait_before(attempt, 0.0) for attempt in range(1, 100)]
    assert waits[:4] == [0.5, 1.0, 2.0, 4.0]
    assert max(waits) == 30.0
    assert math.isclose(wait_before(1, 0.2), 0.6)
    with pytest.raises(ValueError, match="from 1"):
        wait_before(0, 0.0)


@pytest.mark.parametrize(
    "settings", [{"connect_timeout": 0}, {"silence": -1}, {"reconnect": -1}, {"silence": math.nan}]
)
async def test_settings_that_cannot_be_right(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        async with remit.connect("local:", **settings):  # type: ignore[arg-type]
            raise AssertionError
