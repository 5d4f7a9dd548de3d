"""A target that does whatever it is asked, in memory: every command comes to its end there."""

from __future__ import annotations

from typing import Any

import msgspec

from core.fake_agent import FakeAgent, agent_script, job_map, pack
from remit import _frames
from remit._conversation import Event
from remit.testing import FakeTransport

JOB = "jaaaaaaaaaaaa"
OUTCOME = {"exit_status": 0, "reason": "exited"}


class Agreeing(FakeTransport):
    """Takes bare words too."""

    bare_words = True

    def __init__(self) -> None:
        super().__init__(agent_script(_play))


async def _play(agent: FakeAgent) -> None:
    while True:
        for event in agent.events:
            if event.kind == _frames.GOODBYE:
                return
            if event.kind == _frames.REQUEST:
                _do(agent, event)
        await agent.flush()
        data = await agent.peer.receive()
        if not data:
            return
        agent.events = agent.conversation.receive(data)


def _do(agent: FakeAgent, request: Event) -> None:
    verb, arguments = msgspec.msgpack.decode(request.body)
    job = _ended(arguments.get("job") or arguments.get("id") or JOB, arguments)
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
        "jobs": {"jobs": [_ended(JOB, {})]},
        "find": {"jobs": [_ended(JOB, {})]},
        "stop": {"survivors": [], "job": job},
        "save": {"path": b"/saved"},
        "prune": {"jobs": []},
        "seal": {"ran": False},
        "remove": {},
    }
    if verb in accepted:
        agent.conversation.accept(request.channel, pack(accepted[verb]))
        agent.conversation.end(request.channel, pack(last.get(verb, {"job": job})))
    else:
        agent.conversation.reply(request.channel, pack(replies.get(verb, job)))


def _ended(job: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return job_map(job, "COMPLETED", placement=arguments.get("placement", "keep"), outcome=OUTCOME)
