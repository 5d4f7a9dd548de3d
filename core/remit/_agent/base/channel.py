"""One channel of a link, and who takes what comes on it from its request to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._agent.base.helpers import failed
from remit._wire.frames import CLOSE, CREDIT, DATA, END, EVENT
from remit._wire.msgpack import UnpackError, unpack

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.link import Link
    from remit._wire.conversation import Event, Piece


class Channel:
    """As `Link` and its conversation, for one of their channels. Two of the same channel are
    equal."""

    __slots__ = ("link", "number")

    def __init__(self, link: Link, number: int) -> None:
        self.link = link
        self.number = number

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Channel):
            return NotImplemented
        return other.link is self.link and other.number == self.number

    def __hash__(self) -> int:
        return hash((id(self.link), self.number))

    def handle(self, handler: Handler) -> None:
        """Has all that comes on it go there, until it is over."""
        self.link.handlers[self.number] = handler

    def accept(self, value: object) -> None:
        self.link.accept(self.number, value)

    @property
    def is_accepted(self) -> bool:
        return self.link.conversation.accepted(self.number)

    def reply(self, value: object) -> None:
        self.link.reply(self.number, value)

    def fail(self, exc: Exception) -> None:
        self.link.fail(self.number, exc)

    def event(self, *name: str, **args: object) -> None:
        """``event(name, **args)``, where ``args`` may well hold a ``name`` of its own."""
        self.link.event(self.number, *name, **args)

    def end(self, value: object) -> None:
        self.link.end(self.number, value)

    def failed(self, exc: Exception) -> None:
        """What was done for it has failed: it is over, and told why; whatever its handler held is
        given up, as at its close."""
        handler = self.link.handlers.get(self.number)
        if self.is_accepted:
            self.end({"error": failed(exc)})
        else:
            self.fail(exc)
        if handler is not None:
            handler.on_close()

    @property
    def credit(self) -> int:
        """Bytes that may be sent on it."""
        return self.link.conversation.credit(self.number)

    def grant(self, size: int) -> None:
        self.link.conversation.grant(self.number, size)

    def data(self, piece: Piece) -> None:
        self.link.conversation.data(self.number, piece)


class Handler:
    """Does nothing with any of it; those that are of use do.

    Each of these may raise. That costs its own channel, which is refused or ended and told why, as
    `Channel.failed` says, and nothing else.
    """

    def on_event(self, name: str, args: dict[str, Any]) -> None: ...

    def on_data(self, piece: Piece) -> None: ...

    def on_end(self, body: object) -> None:
        """The caller has sent all it had to."""

    def on_credit(self) -> None:
        """It takes more than before."""

    def on_room(self) -> None:
        """The link does, after `Link.has_room` said that it did not."""

    def on_close(self) -> None:
        """The caller has given the channel up, or it has failed: the last of these."""

    def take(self, event: Event) -> None:
        """Calls whichever of these it is for."""
        if event.kind == DATA:
            self.on_data(event.body)
        elif event.kind == CREDIT:
            self.on_credit()
        elif event.kind == CLOSE:
            self.on_close()
        elif event.kind == END:
            self.on_end(unpack(event.body) if event.body else None)
        elif event.kind == EVENT:
            try:
                body = unpack(event.body)
            except UnpackError:
                return  # as one of a name that is not known here
            if isinstance(body, list) and len(body) == 2 and isinstance(body[1], dict):
                self.on_event(body[0], body[1])
