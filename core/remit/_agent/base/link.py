"""A link: one caller's conversation with the agent over a pair of descriptors.

It is what the modules of the verbs hold in their hands: requests come in here, and each is answered
on the link that it came by.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._agent.base.channel import Channel, Handler
from remit._agent.base.helpers import refusal_of
from remit._agent.base.loop import nothing, report
from remit._wire.conversation import AGENT, Conversation, ProtocolError
from remit._wire.credit import LEAST_CHARGE
from remit._wire.frames import (
    CLOSE,
    GOODBYE,
    HELLO,
    MAX_PAYLOAD,
    PING,
    REQUEST,
)
from remit._wire.msgpack import UnpackError, pack, unpack
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.loop import Loop
    from remit._agent.base.services import Session
    from remit._wire.conversation import Event

    # Is given the link that the request came by, its channel and its fields.
    Verb = Callable[["Link", int, dict[str, Any]], object]
    Verbs = Callable[[], dict[str, Verb]]

# What is left of a frame goes out with what follows it, where it is less than this: whoever reads
# would be woken for it alone.
_CRUMB = 1 << 16


class Outgoing:
    def __init__(self, loop: Loop, fd: int, conversation: Conversation, first: bytes) -> None:
        """``first`` goes out in front of the first frame."""
        self._loop = loop
        self._fd = fd
        self._conversation = conversation
        self._begun = memoryview(first)  # frames begun to be written
        self._watching = False  # for when the link takes more

    @property
    def is_all_out(self) -> bool:
        return not (self._begun or self._conversation.queued)

    def write(self, said: Callable[[], object]) -> None:
        """Sends what is queued, as far as the link takes it, and watches for when it takes more.

        ``said`` is called whenever it took something. Raises OSError at the link's end.
        """
        while self._have_more():
            try:
                self._begun = self._begun[os.write(self._fd, self._begun) :]
            except BlockingIOError:
                self._watching = True
                self._loop.watch_writable(self._fd, nothing)
                return
            said()
        if self._watching:
            self._watching = False
            self._loop.unwatch_writable(self._fd)

    def _have_more(self) -> bool:
        if len(self._begun) < _CRUMB and self._conversation.queued:
            more = self._conversation.data_to_send()
            self._begun = memoryview(b"".join((self._begun, more)) if self._begun else more)
        return bool(self._begun)


# Who reads pipes for the link stops where this much is waiting to be sent.
ROOM = 1 << 20


class Link:
    """The part that is the same for every caller; how it begins and ends is for the subclasses."""

    session: Session  # what all links share
    local = False  # whether its caller sits at the target itself

    def __init__(
        self, loop: Loop, link_in: int, link_out: int, verbs: Verbs, first: bytes = b""
    ) -> None:
        """``verbs`` gives the table of what may be asked for. ``first`` goes out in front of the
        first frame."""
        self.loop = loop
        self.verbs = verbs
        self.conversation = Conversation(AGENT, LEAST_CHARGE)
        self.handlers: dict[int, Handler] = {}  # by channels
        self._link_in = link_in
        self._link_out = link_out
        self.outgoing = Outgoing(loop, link_out, self.conversation, first)
        self._waiting_for_room = False
        self.is_asked = False  # there has been a request

    # -- what its end and its silence mean

    def _greet(self, body: bytes) -> None:
        """The caller's hello has come. Raises ProtocolError where it makes no sense."""
        raise NotImplementedError

    def _finish(self, status: int, reason: str | None) -> None:
        """The caller has left (status 0), or said what it may not say."""
        raise NotImplementedError

    def _cut(self) -> None:
        """The stream has ended."""
        raise NotImplementedError

    def _heard(self) -> None:
        """Something came."""

    def _said(self) -> None:
        """Something went out."""

    def _told(self, body: bytes) -> None:
        """The caller says something of itself."""

    # -- for the modules of the verbs

    def reply(self, channel: int, value: object) -> None:
        body = _body(value)
        self.handlers.pop(channel, None)
        self.conversation.reply(channel, body)

    def accept(self, channel: int, value: object) -> None:
        self.conversation.accept(channel, _body(value))

    def refuse(
        self,
        channel: int,
        code: str,
        message: str,
        evidence: str | None = None,
        hint: str | None = None,
        **facts: object,
    ) -> None:
        self.handlers.pop(channel, None)
        facts.update(code=code, message=message, evidence=evidence, hint=hint)
        self.conversation.refuse(channel, _body(facts))

    def fail(self, channel: int, exc: Exception) -> None:
        """Refuses for the reason that ``exc`` gives."""
        refused = refusal_of(exc)
        self.refuse(
            channel,
            refused.code,
            refused.message,
            refused.evidence,
            refused.hint,
            **refused.facts,
        )

    def event(self, *channel_and_name: Any, **args: object) -> None:
        """``event(channel, name, **args)``, where ``args`` may well hold a ``name`` of its own."""
        channel, name = channel_and_name
        self.conversation.event(channel, _body([name, args]))

    def end(self, channel: int, value: object) -> None:
        body = _body(value)
        self.handlers.pop(channel, None)
        self.conversation.end(channel, body)

    def has_room(self) -> bool:
        """Whether more may be queued; where not, handlers get ``on_room`` once it may."""
        if self.conversation.queued_data < ROOM:
            return True
        self._waiting_for_room = True
        return False

    # -- what arrives

    def _read_link(self) -> None:
        try:
            data = os.read(self._link_in, 1 << 18)
        except OSError:
            data = b""
        if not data:
            self._cut()
            return
        self._heard()
        try:
            for event in self.conversation.receive(data):
                self._take(event)
        except ProtocolError as exc:
            self._finish(2, "the caller said what it may not say: %s" % exc)
        except Exception as exc:
            report()
            self._finish(2, "the agent has a bug: %r" % exc)

    def _take(self, event: Event) -> None:
        kind, channel = event.kind, event.channel
        if kind == HELLO:
            self._greet(event.body)
        elif kind == GOODBYE:
            self._finish(0, None)
        elif kind == PING:
            self._told(event.body)
        elif kind == REQUEST:
            self.loop.call_for(Channel(self, channel).failed, self._serve, channel, event.body)
        else:
            handler = self.handlers.get(channel)
            if handler is None:
                return
            if kind == CLOSE:
                del self.handlers[channel]
            self.loop.call_for(Channel(self, channel).failed, handler.take, event)

    def _serve(self, channel: int, body: bytes) -> None:
        self.is_asked = True
        try:
            request = unpack(body)
        except UnpackError as exc:
            raise Refused("bad-request", "the request: %s" % exc) from exc
        if not (
            isinstance(request, list)
            and len(request) == 2
            and isinstance(request[0], str)
            and isinstance(request[1], dict)
        ):
            raise Refused("bad-request", "a request is a verb and its arguments")
        verb = self.verbs().get(request[0])
        if verb is None:
            raise Refused("bad-request", "this agent does not know %r" % request[0][:100])
        from remit._wire.requests import parse  # not before the hello is out

        verb(self, channel, parse(*request))

    # -- what goes out

    def write_link(self) -> None:
        """Sends what is queued, as far as the link takes it."""
        try:
            self.outgoing.write(self._said)
        except OSError:
            self._cut()
        if self._waiting_for_room and self.conversation.queued_data < ROOM:
            self._waiting_for_room = False
            for number, handler in list(self.handlers.items()):
                self.loop.call_for(Channel(self, number).failed, handler.on_room)
            if self.conversation.queued:
                self.loop.call_later(0, nothing)  # what they said goes out in the next turn


def _body(value: object) -> bytes:
    body = pack(value)
    if len(body) > MAX_PAYLOAD:
        words = "the answer has %d bytes, the most is %d" % (len(body), MAX_PAYLOAD)
        raise Refused("internal", words)
    return body
