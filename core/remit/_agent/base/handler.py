"""Who takes what comes on a channel, from its request to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._wire.frames import CLOSE, CREDIT, DATA, END, EVENT
from remit._wire.msgpack import UnpackError, unpack

if TYPE_CHECKING:
    from typing import Any

    from remit._wire.conversation import Event, Piece


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
