"""What a caller can ask for. Each verb is ``verb(link, channel, args)``; ``args`` are all
the fields that `remit._wire.requests` has for it, checked.

A verb may raise: Refused is what it says, an OSError says what the system said, and anything else
is a bug that is told as such. None of them ends the agent.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from remit._agent.base.channel import Channel
from remit._agent.functions import known
from remit._agent.returned.jobs import ReturnJobs
from remit._wire.msgpack import unpack

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.link import Link, Verb


def start(link: Link, channel: int, args: dict[str, Any]) -> None:
    if args["spool"]:
        _kept("start")(link, channel, args)
    else:
        from remit._agent.returned import requests

        requests.start(link, channel, args)


def _take_modules(link: Link, args: dict[str, Any]) -> None:
    """Few sessions need them: they come with the verb that does. Who sits at the target sends no
    code."""
    if not link.local:
        import zlib

        sources = unpack(zlib.decompress(args["modules"]))
        sys.modules[__name__].__loader__.add(sources)  # type: ignore[union-attr]


def enter(link: Link, channel: int, args: dict[str, Any]) -> None:
    _take_modules(link, args)
    from remit._agent.enter import enter

    enter.enter(link, channel, args)


def python(link: Link, channel: int, args: dict[str, Any]) -> None:
    _take_modules(link, args)
    from remit._agent.functions import interpreter

    interpreter.python(link, channel, args)


def pool(link: Link, channel: int, args: dict[str, Any]) -> None:
    known.of(link.session, args["python"])
    from remit._agent.functions import pool

    pool.pool(link, channel, args)


def _kept(name: str) -> Verb:
    """A verb that is for kept jobs alone."""

    def verb(link: Link, channel: int, args: dict[str, Any]) -> None:
        from remit._agent.kept import verbs  # most sessions keep nothing

        act = getattr(verbs, name)
        if link.local and name in _ABOUT_ONE:
            verbs.if_own(link, channel, args, act)
        else:
            act(link, channel, args)

    return verb


def _either(name: str) -> Verb:
    """A verb for jobs of both sorts; those of this session come first."""

    def verb(link: Link, channel: int, args: dict[str, Any]) -> None:
        job = link.session.only(ReturnJobs).get(args["job"])
        if job is not None:
            from remit._agent.returned import requests

            getattr(requests, name)(job, Channel(link, channel), args)
        else:
            _kept(name)(link, channel, args)

    return verb


_ABOUT_ONE = frozenset(
    ["stop", "suspend", "resume", "signal", "remove", "watch", "read", "tail", "save", "seal"]
)
VERBS: dict[str, Verb] = {
    "start": start,
    "stop": _either("stop"),
    "suspend": _either("suspend"),
    "resume": _either("resume"),
    "signal": _either("signal"),
    "remove": _either("remove"),
    "watch": _either("watch"),
    "jobs": _kept("jobs"),
    "find": _kept("find"),
    "prune": _kept("prune"),
    "read": _kept("read"),
    "tail": _kept("tail"),
    "save": _kept("save"),
    "seal": _kept("seal"),
    "enter": enter,
    "python": python,
    "pool": pool,
}
