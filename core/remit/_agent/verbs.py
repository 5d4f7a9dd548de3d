"""What a caller can ask for. Each verb is ``verb(agent, channel, arguments)``.

A verb may raise: Refused is what it says, an OSError says what the system said, and anything else
is a bug that is told as such. None of them ends the agent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._agent.base import arguments
from remit._agent.returned import return_job

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.main import Agent

    Verb = Callable[[Agent, int, dict[str, Any]], object]


def start(agent: Agent, channel: int, args: dict[str, Any]) -> None:
    if arguments.take(args, "spool", bool):
        _kept("start")(agent, channel, args)
    else:
        return_job.start(agent, channel, args)


def enter(agent: Agent, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.enter import enter  # few sessions do

    enter.enter(agent, channel, args)


def python(agent: Agent, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.functions import interpreter  # most sessions run no functions

    interpreter.python(agent, channel, args)


def pool(agent: Agent, channel: int, args: dict[str, Any]) -> None:
    from remit._agent.functions import pool

    pool.pool(agent, channel, args)


def _kept(name: str) -> Verb:
    """A verb that is for kept jobs alone."""

    def verb(agent: Agent, channel: int, args: dict[str, Any]) -> None:
        from remit._agent.kept import verbs  # most sessions keep nothing

        act = getattr(verbs, name)
        if agent is agent.session or name not in _ABOUT_ONE:
            act(agent, channel, args)
        else:
            verbs.if_own(agent, channel, args, act)

    return verb


def _either(name: str) -> Verb:
    """A verb for jobs of both sorts; those of this session come first."""

    def verb(agent: Agent, channel: int, args: dict[str, Any]) -> None:
        job = agent.returned.get(arguments.job_id(args, "job"))
        if job is not None:
            getattr(job, name)(channel, args)
        else:
            _kept(name)(agent, channel, args)

    return verb


_ABOUT_ONE = frozenset(("stop", "suspend", "resume", "remove", "watch", "read", "save", "seal"))
VERBS: dict[str, Verb] = {
    "start": start,
    "stop": _either("stop"),
    "suspend": _either("suspend"),
    "resume": _either("resume"),
    "remove": _either("remove"),
    "watch": _either("watch"),
    "jobs": _kept("jobs"),
    "find": _kept("find"),
    "prune": _kept("prune"),
    "read": _kept("read"),
    "save": _kept("save"),
    "seal": _kept("seal"),
    "enter": enter,
    "python": python,
    "pool": pool,
}
