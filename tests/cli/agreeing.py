"""A target that does whatever it is asked, in memory: every command comes to its end there."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from core.fake_agent import FakeAgent, agent_script, job_map, pack
from remit._wire import frames
from remit._wire.conversation import Event
from remit.testing import FakePeer, FakeTransport

JOB = "jaaaaaaaaaaaa"
OUTCOME = {"exit_status": 0, "reason": "exited"}


# Where a target can come to hang: before its agent is up, before it answers, before a job's end,
# before it answers the goodbye.
STAGES = ("connecting", "asked", "running", "leaving")


class Agreeing(FakeTransport):
    """Takes bare words too. At ``hangs``, one of `STAGES`, it calls ``reached`` and is silent until
    the caller leaves."""

    bare_words = True

    def __init__(self, hangs: str = "", reached: Callable[[], object] = int) -> None:
        play = agent_script(functools.partial(_play, hangs=hangs, reached=reached))

        async def script(peer: FakePeer) -> int:
            if hangs == "connecting":
                reached()
                while await peer.receive():
                    pass
            return await play(peer)

        super().__init__(script)


async def _play(agent: FakeAgent, *, hangs: str, reached: Callable[[], object]) -> None:
    while True:
        for event in agent.events:
            if event.kind == frames.GOODBYE:
                if hangs != "leaving":
                    return
                reached()
            if event.kind == frames.REQUEST:
                if hangs in ("", "leaving"):
                    _do(agent, event)
                elif hangs == "asked" or _do(agent, event, ends=False):
                    await agent.flush()
                    reached()
        await agent.flush()
        data = await agent.peer.receive()
        if not data:
            return
        agent.events = agent.conversation.receive(data)


def _do(agent: FakeAgent, request: Event, *, ends: bool = True) -> bool:
    """Whether something was accepted whose end is to come."""
    verb, arguments = msgspec.msgpack.decode(request.body)
    job = _job(arguments.get("job") or arguments.get("id") or JOB, arguments, ended=ends)
    accepted: dict[str, Any] = {
        "start": job,
        "watch": job,
        "read": {"position": {}},
        "enter": {"prompt": ""},
    }
    last: dict[str, Any] = {
        "read": {"complete": True, "job": job},
        "enter": {"exit_status": 0},
    }
    replies: dict[str, Any] = {
        "jobs": {"jobs": [_job(JOB, {}, ended=ends)]},
        "find": {"jobs": [_job(JOB, {}, ended=ends)]},
        "stop": {"survivors": [], "job": job},
        "tail": {"position": None},
        "save": {"path": b"/saved"},
        "prune": {"jobs": []},
        "seal": {"ran": False},
        "remove": {},
    }
    if verb in accepted:
        agent.conversation.accept(request.channel, pack(accepted[verb]))
        if ends:
            agent.conversation.end(request.channel, pack(last.get(verb, {"job": job})))
        return True
    agent.conversation.reply(request.channel, pack(replies.get(verb, job)))
    return False


def _job(job: str, arguments: dict[str, Any], *, ended: bool) -> dict[str, Any]:
    placement = arguments.get("placement", "keep")
    if not ended:
        return job_map(job, "RUNNING", placement=placement)
    return job_map(job, "COMPLETED", placement=placement, outcome=OUTCOME)
