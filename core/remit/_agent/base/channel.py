"""One channel of a link: what belongs together is one value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._agent.base.helpers import failed

if TYPE_CHECKING:
    from remit._agent.base.handler import Handler
    from remit._agent.base.link import Link
    from remit._wire.conversation import Piece


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
