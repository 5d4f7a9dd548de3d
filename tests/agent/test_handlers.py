"""Handlers that raise: each costs its own channel, which is told why, and nothing else."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from typing import Any

import pytest

from remit._agent.base.channel import Handler
from remit._agent.base.link import Link
from remit._agent.base.loop import Loop
from remit._link import agent_payload
from remit._wire.conversation import CALLER, Conversation, Event, Piece
from remit._wire.frames import END, REFUSAL
from remit._wire.msgpack import pack, unpack

METHODS = [name for name in vars(Handler) if name.startswith("on_")]


def kinds() -> list[type[Handler]]:
    """All that the agent has."""
    for name in agent_payload.modules():
        if name.startswith("remit._agent") and not name.endswith(".importer"):
            importlib.import_module(name)
    found, todo = [], [Handler]
    while todo:
        below = [kind for kind in todo.pop().__subclasses__() if kind.__module__ != __name__]
        found += below
        todo += below
    return sorted(found, key=lambda kind: kind.__qualname__)


OWN = [(kind, name) for kind in kinds() for name in METHODS if name in vars(kind)]


class Steady(Handler):
    """Says what comes."""

    def __init__(self, link: Link, channel: int) -> None:
        self.link = link
        self.channel = channel

    def on_event(self, name: str, args: dict[str, Any]) -> None:
        self.link.event(self.channel, name, **args)


class Pair(Link):
    """A link, and its caller at the other end of two pipes. Of the verbs there are `jobs` leads to
    the handler that is broken, and `pool` to a steady one."""

    def __init__(self, broken: Handler, accepts: bool) -> None:
        link_in, self.to = os.pipe()
        self.back, link_out = os.pipe()
        self.fds = [link_in, self.to, self.back, link_out]
        os.set_blocking(self.back, False)
        super().__init__(Loop(), link_in, link_out, lambda: {"jobs": self.start, "pool": steady})
        self.broken = broken
        self.accepts = accepts
        self.caller = Conversation(CALLER)
        self.finished: list[object] = []

    def start(self, link: Link, channel: int, args: dict[str, Any]) -> None:
        self.handlers[channel] = self.broken
        self.conversation.grant(channel, 100)
        if self.accepts:
            self.accept(channel, None)

    def _greet(self, body: bytes) -> None: ...

    def _finish(self, status: int, reason: str | None) -> None:
        self.finished.append(reason)

    def _cut(self) -> None:
        self.finished.append("cut")

    def pass_on(self) -> list[Event]:
        """What the caller has said goes to the link, and what that says to the caller."""
        while self.caller.queued:
            os.write(self.to, self.caller.data_to_send())
            self._read_link()
        self.write_link()
        try:
            return self.caller.receive(os.read(self.back, 1 << 16))
        except BlockingIOError:
            return []


def steady(link: Link, channel: int, args: dict[str, Any]) -> None:
    link.handlers[channel] = Steady(link, channel)
    link.accept(channel, None)


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    made: list[Pair] = []
    yield made
    for pair in made:
        for fd in pair.fds:
            os.close(fd)


def trigger(pair: Pair, channel: int, method: str) -> None:
    caller = pair.caller
    if method == "on_event":
        caller.event(channel, pack(["x", {}]))
    elif method == "on_data":
        caller.data(channel, Piece(0, 0, 0, 0.0, b"x"))
    elif method == "on_end":
        caller.end(channel)
    elif method == "on_credit":
        caller.grant(channel, 10)
    elif method == "on_room":
        pair._waiting_for_room = True
        pair.write_link()  # what is said of it goes out with the next turn
    else:
        caller.close(channel)


def probe(pairs: list[Pair], broken: Handler, method: str, accepts: bool) -> None:
    """The channel of that handler is over, and told why; the other one works as before."""
    pair = Pair(broken, accepts)
    pairs.append(pair)
    caller = pair.caller
    caller.hello(b"")
    pair.conversation.hello(b"")
    others = caller.request(pack(["pool", {}]), 100)
    channel = caller.request(pack(["jobs", {}]))
    pair.pass_on()
    trigger(pair, channel, method)
    told = pair.pass_on()
    if method != "on_close":  # then the caller has left it already
        own = [event for event in told if event.channel == channel]
        (event,) = [event for event in own if event.kind in (END, REFUSAL)]
        body: Any = unpack(event.body)
        assert event.kind == (END if accepts else REFUSAL)
        assert "it broke" in (body["error"] if accepts else body)["message"]
    assert channel not in pair.handlers
    assert not caller.is_open(channel)
    caller.event(others, pack(["still", {"here": 1}]))
    (event,) = pair.pass_on()
    assert (event.channel, unpack(event.body)) == (others, ["still", {"here": 1}])
    assert not pair.finished


def breaks(*args: object) -> None:
    raise ValueError("it broke")


@pytest.mark.parametrize("accepts", [True, False], ids=["accepted", "asked"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_handler_raises_ends_its_own_channel(
    pairs: list[Pair], method: str, accepts: bool
) -> None:
    closed = []

    class Broken(Handler):
        def on_close(self) -> None:
            closed.append(self)

    broken = Broken()
    setattr(broken, method, breaks)
    probe(pairs, broken, method, accepts)
    assert len(closed) == (method != "on_close")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("kind", "method"), OWN, ids=[f"{kind.__qualname__}-{name}" for kind, name in OWN]
)
def test_so_it_is_with_each_that_the_agent_has(
    pairs: list[Pair], kind: type[Handler], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, method, breaks)
    # Its close fails as well, having nothing to close.
    probe(pairs, kind.__new__(kind), method, accepts=True)


def test_all_that_takes_what_comes_is_a_handler() -> None:
    names = {kind.__qualname__ for kind in kinds()}
    assert {"JobHandler", "Interpreter", "Pool", "Entered", "_Reader", "_Watcher"} < names
    assert len(OWN) > 20
