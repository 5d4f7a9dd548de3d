"""Who is told what comes on a channel, and what becomes of those that raise."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from remit._decoding import decode
from remit._errors import LocalProtocolError, RemitError, RemoteProtocolError, told
from remit._link.messages import Failure, Refusal, decode_event
from remit._wire import frames
from remit._wire.conversation import Piece

_log = logging.getLogger("remit.link")


class Listener:
    """What a channel's opener wants to know. Called in the link's reader: must not wait.

    After `refused`, `replied`, `ended`, `failed`, `raised` or `lost` nothing more is called. What
    a method raises costs its channel, which is then closed (`raised`); only RemoteProtocolError,
    that the agent is no sound one, costs the link.
    """

    def accepted(self, body: bytes) -> None:
        raise RemoteProtocolError("the agent opened a channel where an answer was due")

    def replied(self, body: bytes) -> None:
        raise RemoteProtocolError("the agent answered where a channel was to open")

    def refused(self, error: RemitError) -> None: ...

    def event(self, name: str, arguments: bytes) -> None: ...

    def data(self, piece: Piece) -> None:
        raise RemoteProtocolError("the agent sent data that nobody asked for")

    def ended(self, body: bytes) -> None: ...

    def failed(self, error: RemitError) -> None:
        """The agent has ended the channel because of an error of its own."""
        self.refused(error)

    def lost(self, error: RemitError) -> None:
        """The link is over and with it the channel."""

    def raised(self, error: RemitError) -> None:
        """The channel is over: here somebody raised ``error``, or what is its cause."""
        self.lost(error)


def tell(listener: Listener, kind: int, body: Any) -> RemitError | None:
    """What came: ``kind`` and ``body`` of an event of the conversation. Returns the error by which
    the agent has ended the channel, if any."""
    return _ACTS[kind](listener, body)


def give_up(listener: Listener, exc: Exception) -> None:
    """Its channel is closed, since it raised that."""
    try:
        listener.raised(own_trouble(exc))
    except Exception:
        # Nobody is left to be told; to be silent would be worse, to raise would cost others.
        _log.exception("a bug of remit: %s did not stand its own failure", type(listener).__name__)


def own_trouble(exc: Exception) -> RemitError:
    """What somebody's code raised here, as an error: of remit's own, what is none is its bug."""
    if isinstance(exc, RemitError):
        return exc
    error = LocalProtocolError(f"a bug of remit: {told(exc)}")
    error.__cause__ = exc
    return error


def _refused(listener: Listener, body: bytes) -> RemitError:
    error = decode(body, Refusal).error()
    listener.refused(error)
    return error


def _ended(listener: Listener, body: bytes) -> RemitError | None:
    refusal = decode(body, Failure).error if body else None
    if refusal is None:
        listener.ended(body)
        return None
    error = refusal.error()
    listener.failed(error)
    return error


_ACTS: dict[int, Callable[[Any, Any], RemitError | None]] = {
    frames.REPLY: lambda listener, body: listener.replied(body),
    frames.ACCEPT: lambda listener, body: listener.accepted(body),
    frames.REFUSAL: _refused,
    frames.EVENT: lambda listener, body: listener.event(*decode_event(body)),
    frames.DATA: lambda listener, piece: listener.data(piece),
    frames.END: _ended,
}
