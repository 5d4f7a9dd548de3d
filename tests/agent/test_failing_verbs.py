"""Whatever goes wrong in what the agent does for one request is that request's trouble: it is
answered with what went wrong, and the session goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from agent.harness import Refused, Wire
from remit._link import agent_payload
from remit._wire.frames import ACCEPT, END, REFUSAL
from remit._wire.msgpack import unpack
from testbed import pythons

VERBS = [
    "start", "stop", "suspend", "resume", "remove", "watch", "jobs", "find", "prune", "read",
    "tail",
    "save", "seal", "enter", "python", "pool",
]  # fmt: skip
ERRORS = ["OSError(5, 'Input/output error')", "MemoryError()", "ValueError('v')", "KeyError('k')",
          "RuntimeError('r')", "RecursionError('d')", "AssertionError()"]  # fmt: skip
STAGES = ["verb", "data", "event", "credit", "end", "room", "timer", "fd", "helper", "child"]

# Appended to the agent's own table of verbs: each can be told to fail, and where.
FAULTS = """

def _faulty(verb, error, stage, accepted):
    import os
    from remit._agent.base.channel import Handler
    from remit._wire.refusal import Refused

    def fail(*args):
        raise eval(error)

    class Faulty(Handler):
        closed = False

        def on_close(self):
            if self.closed:
                os.abort()
            self.closed = True

    def faulty(link, channel, args):
        if accepted:
            link.accept(channel, {})
        link.handlers[channel] = handler = Faulty()
        link.conversation.grant(channel, 100)
        setattr(handler, "on_" + stage, fail)
        if stage == "verb":
            fail()
        elif stage == "room":
            link._waiting_for_room = True
        elif stage == "timer":
            link.loop.call_later(0, fail)
        elif stage == "fd":
            reader, writer = os.pipe()
            os.close(writer)
            link.loop.watch_fd(reader, fail)
        elif stage == "helper":
            link.session.helper(os.getpid, (), fail)
        elif stage == "child":
            pid = os.fork()
            if not pid:
                os._exit(0)
            link.session.children.watch(pid, fail)
        elif stage == "large":
            link.reply(channel, "x" * (1 << 20))

    return faulty


def _wrapped(name, verb):
    def either(link, channel, args):
        fault = args.pop("fault", None)
        (verb if fault is None else _faulty(name, *fault))(link, channel, args)

    return either


VERBS = {name: _wrapped(name, verb) for name, verb in VERBS.items()}

from remit._wire import requests as _requests

_parse = _requests.parse
_requests.parse = lambda verb, args: args if "fault" in args else _parse(verb, args)
"""


@pytest.fixture(
    params=[each for each in pythons.found() if each.minor in (6, 13)],
    ids=lambda interpreter: interpreter.version,
)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


@pytest.fixture
def wire(bring_up: Callable[..., Wire], monkeypatch: pytest.MonkeyPatch) -> Wire:
    """An agent whose verbs can be told to fail."""
    written = agent_payload.modules

    def modules() -> dict[str, str]:
        sources = written()
        sources["remit._agent.verbs"] += FAULTS
        return sources

    monkeypatch.setattr(agent_payload, "modules", modules)
    agent_payload.payload.cache_clear()
    try:
        return bring_up()
    finally:
        agent_payload.payload.cache_clear()


def trouble(wire: Wire, verb: str, error: str, stage: str, accepted: bool) -> dict[str, Any]:
    """What the agent says of the request in the end."""
    channel = wire.request(verb, fault=[error, stage, accepted])
    if accepted:
        wire.expect(ACCEPT, channel)
    if stage == "event":
        wire.event(channel, "used")
    elif stage == "credit":
        wire.grant(channel, 1)
    elif stage in ("data", "end"):
        if stage == "data":
            wire.send(channel, b"x")
        wire.send_eof(channel)
    if not accepted:
        facts: Any = unpack(wire.expect(REFUSAL, channel))
        return facts  # type: ignore[no-any-return]
    end: Any = unpack(wire.expect(END, channel))
    told: dict[str, Any] = end["error"]
    return told


@pytest.mark.parametrize("accepted", [False, True], ids=["unanswered", "accepted"])
def test_every_verb_that_fails_anywhere_is_answered(wire: Wire, accepted: bool) -> None:
    for at, verb in enumerate(VERBS):
        for stage in STAGES:
            error = ERRORS[(at + len(stage)) % len(ERRORS)]
            facts = trouble(wire, verb, error, stage, accepted)
            if error.startswith("OSError"):
                assert (facts["code"], facts["errno"]) == ("os", 5)
            else:
                assert facts["code"] == "internal"
                assert error.partition("(")[0] in facts["message"]
    assert wire.run("echo", "x").stdout == b"x\n"
    assert wire.goodbye() == {"left": []}


def test_an_answer_that_is_too_large_for_a_frame_is_a_refusal(wire: Wire) -> None:
    channel = wire.request("jobs", fault=["ValueError()", "large", False])
    with pytest.raises(Refused, match="bytes, the most is"):
        wire.reply(channel)
    assert wire.run("echo", "x").stdout == b"x\n"


def test_a_start_that_fails_when_its_stdin_has_come_is_answered(wire: Wire) -> None:
    channel = wire.request("start", fault=["BlockingIOError(11, 'no process')", "end", False])
    wire.send_eof(channel)
    with pytest.raises(Refused, match="no process"):
        wire.accepted(channel)
    assert wire.run("echo", "x").stdout == b"x\n"
