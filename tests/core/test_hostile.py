"""A broken or hostile agent: each lie is a RemoteProtocolError, and the session is over."""

from __future__ import annotations

import resource
from collections.abc import Awaitable, Callable

import anyio
import pytest

import remit
from remit._wire import frames
from remit._wire.conversation import PIECE

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio

Lie = Callable[[FakeAgent, int, str], Awaitable[None]]


async def raw(agent: FakeAgent, kind: int, channel: int, payload: bytes = b"") -> None:
    await agent.flush()
    await agent.peer.send(frames.HEADER.pack(kind, channel, len(payload)) + payload)


def piece(stream: int, offset: int, data: bytes, time: float = 1.0) -> bytes:
    return PIECE.pack(stream, 0, offset, time) + data


def accept(job_id: str, state: str = "RUNNING", **more: object) -> bytes:
    return pack(job_map(job_id, state, **more))


async def after_accept(agent: FakeAgent, channel: int, job_id: str) -> None:
    agent.conversation.accept(channel, accept(job_id))
    await agent.flush()


def lies() -> dict[str, Lie]:
    async def noise(agent: FakeAgent, channel: int, job_id: str) -> None:
        await agent.peer.send(b"\xff" * 100)

    async def huge(agent: FakeAgent, channel: int, job_id: str) -> None:
        await agent.peer.send(frames.HEADER.pack(frames.REPLY, channel, 0x7FFFFFFF))

    async def never_opened(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.REPLY, channel + 7, pack({}))

    async def request(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.REQUEST, 9, pack(["start", {}]))

    async def second_hello(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.HELLO, 0, pack({"protocol": 1}))

    async def no_msgpack(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, b"\xc1")

    async def not_a_job(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, pack([1, 2]))

    async def nested(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, b"\x91" * 1_000_000 + b"\xc0")

    async def many_announced(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, b"\xdd\xff\xff\xff\xff")

    async def pickle(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, b"\x80\x04cos\nsystem\n(S'true'\ntR.")

    async def wrong_job(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, accept(remit.new_job_id()))

    async def unknown_state(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, accept(job_id, state="GREAT"))

    async def no_such_time(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.ACCEPT, channel, accept(job_id, created=1e300))

    async def reply_for_accept(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.REPLY, channel, accept(job_id))

    async def data_first(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.DATA, channel, piece(1, 0, b"x"))

    async def accepted_twice(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.ACCEPT, channel, accept(job_id))

    async def beyond_credit(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.DATA, channel, piece(1, 0, b"x" * 1001))

    async def a_gap(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.DATA, channel, piece(1, 5, b"x"))

    async def unknown_stream(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.DATA, channel, piece(200, 0, b"x"))

    async def not_a_time(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.DATA, channel, piece(1, 0, b"x", float("nan")))

    async def short_data(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.DATA, channel, b"x")

    async def over_and_running(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.END, channel, pack({"job": job_map(job_id)}))

    async def news_of_another(agent: FakeAgent, channel: int, job_id: str) -> None:
        await after_accept(agent, channel, job_id)
        await raw(agent, frames.EVENT, channel, pack(["job", job_map(remit.new_job_id())]))

    async def after_goodbye(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.GOODBYE, 0, pack({}))
        await raw(agent, frames.PING, 0)

    async def bad_credit(agent: FakeAgent, channel: int, job_id: str) -> None:
        await raw(agent, frames.CREDIT, channel, b"\xff" * 8)

    return dict(locals())


@pytest.mark.parametrize("name", lies())
async def test_a_lie_ends_the_session_and_nothing_else(play: Play, name: str) -> None:
    async def liar(agent: FakeAgent) -> None:
        channel, verb, arguments = await agent.request()
        assert verb == "start"
        await lies()[name](agent, channel, arguments["id"])
        await agent.peer.receive()
        await anyio.sleep_forever()

    play(agent_script(liar))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with remit.connect("fake:") as session:
        with anyio.fail_after(30), pytest.raises((remit.RemoteProtocolError, remit.JobFailed)):
            await session.run(["true"], buffer_limit=1000)
        with pytest.raises(remit.RemoteProtocolError, match="broke the protocol"):
            await session.run(["true"])
        assert session.state is remit.SessionState.BROKEN
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


async def test_frames_of_a_later_version_are_passed_over(play: Play) -> None:
    async def newer(agent: FakeAgent) -> None:
        channel, _, arguments = await agent.request()
        await raw(agent, 77, 0, b"something new")
        await raw(agent, 78, channel, b"something new")
        agent.conversation.accept(channel, accept(arguments["id"], colour="green"))
        agent.conversation.event(channel, pack(["weather", {"rain": True}]))
        outcome = {"exit_status": 0, "reason": "exited", "mood": "good"}
        body = {"job": job_map(arguments["id"], "COMPLETED", outcome=outcome)}
        agent.conversation.end(channel, pack(body))
        await agent.flush()
        await agent.next(frames.GOODBYE)
        agent.conversation.goodbye(pack({}))
        await agent.flush()

    play(agent_script(newer))
    async with remit.connect("fake:") as session:
        assert (await session.run(["true"])).exit_status == 0


async def test_a_stream_cut_in_the_middle_is_no_success(play: Play) -> None:
    async def cut(agent: FakeAgent) -> None:
        channel, _, arguments = await agent.request()
        await after_accept(agent, channel, arguments["id"])
        await raw(agent, frames.DATA, channel, piece(1, 0, b"half of it"))
        await agent.peer.send(frames.HEADER.pack(frames.END, channel, 100) + b"x" * 50)

    play(agent_script(cut))
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.start(["true"])
        receiver = job.receive()
        assert (await anext(receiver)).data == b"half of it"
        for _ in range(2):
            with pytest.raises(remit.LinkLost, match="in the middle of a message"):
                await anext(receiver)
        assert job.state is remit.JobState.LOST
        assert job.outcome is not None
        assert job.outcome.reason == "link-lost"
        assert "in the middle of a message" in (job.outcome.error or "")
        with pytest.raises(remit.JobFailed, match="link-lost"):
            await job.result()
