"""Sessions: opened, used and closed, in whichever task; what goes wrong shows at calls."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import remit
from remit._session.backoff import wait_before
from remit.testing import FakePeer

from .conftest import Play
from .fake_agent import FakeAgent, agent_script

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


# -- silence


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
