"""A link: one caller's conversation with the agent over a pair of descriptors.

It is what the modules of the verbs hold in their hands: requests come in here, and each is answered
on the link that it came by.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._agent.base.helpers import failed, refusal_of
from remit._agent.base.loop import report
from remit._wire.conversation import AGENT, Conversation, ProtocolError
from remit._wire.credit import LEAST_CHARGE
from remit._wire.frames import (
    CLOSE,
    CREDIT,
    DATA,
    END,
    EVENT,
    GOODBYE,
    HELLO,
    MAX_PAYLOAD,
    PING,
    REQUEST,
)
from remit._wire.msgpack import UnpackError, pack, unpack
from remit._wire.refusal import Refused
from remit._wire.requests import parse

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.loop import Loop, Owner
    from remit._agent.base.services import Session
    from remit._wire.conversation import Event

    # Is given the link that the request came by, its channel and its fields.
    Verb = Callable[["Link", int, dict[str, Any]], object]
    Verbs = Callable[[], dict[str, Verb]]

# Who reads pipes for the link stops where this much is waiting to be sent.
ROOM = 1 << 20
# What is left of a frame goes out with what follows it, where it is less than this: whoever reads
# would be woken for it alone.
_CRUMB = 1 << 16


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
        # channel: an object with any of on_event(name, args), on_data(piece), on_end(body),
        # on_credit(), on_close() and on_room()
        self.handlers: dict[int, Any] = {}
        self._link_in = link_in
        self._link_out = link_out
        self._out = memoryview(first)  # frames begun to be written
        self._waiting_for_room = False
        self._watching = False  # for when the link takes more

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
        body = self._body(value)
        self.handlers.pop(channel, None)
        self.conversation.reply(channel, body)

    def accept(self, channel: int, value: object) -> None:
        self.conversation.accept(channel, self._body(value))

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
        self.conversation.refuse(channel, self._body(facts))

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
        self.conversation.event(channel, self._body([name, args]))

    def end(self, channel: int, value: object) -> None:
        body = self._body(value)
        self.handlers.pop(channel, None)
        self.conversation.end(channel, body)

    def owner(self, channel: int) -> Owner:
        """Who answers for what fails in a call that is made for the channel."""
        return lambda exc: self.failed(channel, exc)

    def failed(self, channel: int, exc: Exception) -> None:
        """What was done for a channel has failed: that channel is over, and told why; whatever it
        held is given up, as at its close."""
        handler = self.handlers.get(channel)
        if self.conversation.accepted(channel):
            self.end(channel, {"error": failed(exc)})
        else:
            self.fail(channel, exc)
        if handler is not None:
            _call(handler, "on_close")

    def has_room(self) -> bool:
        """Whether more may be queued; where not, handlers get ``on_room`` once it may."""
        if self.conversation.queued_data < ROOM:
            return True
        self._waiting_for_room = True
        return False

    def _body(self, value: object) -> bytes:
        body = pack(value)
        if len(body) > MAX_PAYLOAD:
            words = "the answer has %d bytes, the most is %d" % (len(body), MAX_PAYLOAD)
            raise Refused("internal", words)
        return body

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
            self.loop.call_for(self.owner(channel), self._serve, channel, event.body)
        else:
            handler = self.handlers.get(channel)
            if handler is None:
                return
            if kind == CLOSE:
                del self.handlers[channel]
            self.loop.call_for(self.owner(channel), self._hand_over, handler, event)

    def _hand_over(self, handler: Any, event: Event) -> None:
        if event.kind == DATA:
            _call(handler, "on_data", event.body)
        elif event.kind == CREDIT:
            _call(handler, "on_credit")
        elif event.kind == CLOSE:
            _call(handler, "on_close")
        elif event.kind == END:
            _call(handler, "on_end", unpack(event.body) if event.body else None)
        elif event.kind == EVENT:
            try:
                body = unpack(event.body)
            except UnpackError:
                return  # as one of a name that is not known here
            if isinstance(body, list) and len(body) == 2 and isinstance(body[1], dict):
                _call(handler, "on_event", body[0], body[1])

    def _serve(self, channel: int, body: bytes) -> None:
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
        verb(self, channel, parse(*request))

    # -- what goes out

    def write_link(self) -> None:
        """Sends what is queued, as far as the link takes it."""
        while self._have_more_to_write():
            try:
                self._out = self._out[os.write(self._link_out, self._out) :]
                self._said()
            except BlockingIOError:
                self._watching = True
                self.loop.watch_writable(self._link_out, _nothing)
                break
            except OSError:
                self._cut()
                break
        else:
            if self._watching:
                self._watching = False
                self.loop.unwatch_writable(self._link_out)
        if self._waiting_for_room and self.conversation.queued_data < ROOM:
            self._waiting_for_room = False
            for channel, handler in list(self.handlers.items()):
                self.loop.call_for(self.owner(channel), _call, handler, "on_room")
            if self.conversation.queued:
                self.loop.call_later(0, _nothing)  # what they said goes out in the next turn

    def _have_more_to_write(self) -> bool:
        if len(self._out) < _CRUMB and self.conversation.queued:
            more = self.conversation.data_to_send()
            self._out = memoryview(b"".join((self._out, more)) if self._out else more)
        return bool(self._out)


def _call(handler: Any, method: str, *args: object) -> None:
    function = getattr(handler, method, None)
    if function is not None:
        function(*args)


def _nothing() -> None:
    """For a watch whose only purpose is to wake the loop."""
