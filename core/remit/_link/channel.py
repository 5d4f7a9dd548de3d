"""The channels of a link, each in the hands of whoever opened it.

Who lets go of a channel has closed it. Who sends on one waits for credit, and is told by an error
that it takes no more: both stand here, once for all that is sent.
"""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from remit._errors import LocalProtocolError, RemitError, RemoteProtocolError
from remit._link.background import Home
from remit._link.listener import Listener, give_up, own_trouble, tell
from remit._link.messages import encode
from remit._link.notify import Notifier
from remit._link.outgoing import Outgoing
from remit._wire import frames
from remit._wire.conversation import Conversation, Event, Piece
from remit._wire.credit import Window, charge

# What is sent at once, so that what several channels have to send goes in turn.
_PIECE = 1 << 16
_LAST = frozenset({frames.REPLY, frames.REFUSAL, frames.END})


class Parcel:
    """Bytes that go in pieces; ``sent`` of them are on their way."""

    __slots__ = ("_data", "_first", "number", "sent", "stream")

    def __init__(
        self, data: bytes | memoryview, stream: int = 0, number: int = 0, first: int = 1
    ) -> None:
        """``number``: which of the many on that stream it is, each with offsets of its own; 0, and
        it goes on where the last one ended. ``first``: bytes that the first piece has at least."""
        self.stream = stream
        self.number = number
        self.sent = 0
        self._data = memoryview(data).cast("B")
        self._first = first

    @property
    def left(self) -> int:
        return len(self._data) - self.sent

    @property
    def least(self) -> int:
        """Bytes that the next piece has at least."""
        return 1 if self.sent else min(self._first, len(self._data))

    def cut(self, most: int) -> bytes:
        """The next piece."""
        piece = bytes(self._data[self.sent : self.sent + most])
        self.sent += len(piece)
        return piece


class Channel:
    """One request, and what is said on it until it is over. Knows its listener weakly."""

    def __init__(self, channels: Channels, number: int, listener: Listener, window: int) -> None:
        self.number = number
        self.is_over = False  # the agent has ended it, we closed it, or the link is lost
        self.pieces = 0  # sent
        self._channels = channels
        self._conversation = channels.conversation
        self._outgoing = channels.outgoing
        self._listener = weakref.ref(listener)
        self._window = Window(window)
        self._offsets: dict[int, int] = {}  # where streams go on
        self._changed = Notifier(channels.home)
        self._refusal: RemitError | None = None  # for who sends

    def __del__(self) -> None:
        if not self.is_over:
            self._channels.abandon(self.number)

    # -- what is said

    def event(self, name: str, **arguments: Any) -> None:
        """Quiet where it is over."""
        if not self.is_over:
            self._conversation.event(self.number, encode((name, arguments)))
            self._outgoing.wake()

    def grant(self, size: int) -> None:
        """The agent may send so many bytes more. Quiet where it is over."""
        if not self.is_over:
            self._conversation.grant(self.number, size)
            self._outgoing.wake()

    def consumed(self, size: int) -> None:
        """A piece of so many bytes was. As much as it cost is granted again once it is worth it."""
        self._window.consumed(charge(size))
        if self._window.is_due:
            self.grant(self._window.due())

    @property
    def granted(self) -> int:
        """How many bytes of data may still come."""
        return 0 if self.is_over else self._conversation.granted(self.number)

    async def room(self, least: int = 1) -> int:
        """How many bytes may be sent now, once there are so many. Raises why nothing more can be:
        the channel's end, or what `shut` was given. Waits only where it has to."""
        self._changed.check()
        while True:
            if self._refusal is not None:
                raise self._refusal.again()
            congested = self._outgoing.congested
            room = 0 if congested else self._conversation.credit(self.number)
            if room >= least:
                return min(room, _PIECE)
            if congested:
                self._outgoing.tell_when_written(self._changed)
            await self._changed.wait()

    async def send(self, parcel: Parcel) -> None:
        """All of it, as the agent takes it. Raises as `room`; cancelled, a part of it was sent."""
        while parcel.left:
            room = await self.room(parcel.least)
            stream = parcel.stream
            offset = parcel.sent if parcel.number else self._offsets.get(stream, 0)
            data = parcel.cut(room)
            if not parcel.number:
                self._offsets[stream] = offset + len(data)
            self._conversation.data(self.number, Piece(stream, parcel.number, offset, 0.0, data))
            self.pieces += 1
            self._outgoing.wake()

    def flush(self) -> None:
        """As `Outgoing.flush`."""
        if not self.is_over:
            self._outgoing.flush()

    def end(self) -> None:
        """No more data is sent. Twice is quiet."""
        if not self.is_over:
            self._conversation.end(self.number)
            self._outgoing.wake()
            if self._refusal is None:
                self.shut(LocalProtocolError(f"the end of channel {self.number} was sent"))

    def shut(self, error: RemitError) -> None:
        """Who sends, or waits for room, is raised ``error`` from now on, whatever it was before."""
        self._refusal = error
        self._changed.notify()

    def close(self) -> None:
        """Gives it up: nothing more of it is told. Quiet where it is over."""
        self._close(None)

    def _close(self, error: RemitError | None) -> None:
        if not self.is_over:
            self._conversation.close(self.number)
            self._outgoing.wake()
            self._end(error)

    def _end(self, error: RemitError | None) -> None:
        self.is_over = True
        self._channels.forget(self.number)
        if self._refusal is None:
            self.shut(error or LocalProtocolError(f"channel {self.number} is over"))

    # -- what comes

    def take(self, kind: int, body: Any) -> None:
        """Raises RemoteProtocolError, where the agent is no sound one, and nothing else."""
        if self.is_over:
            return  # closed by who took what came just before
        if kind == frames.CREDIT:
            self._changed.notify()
            return
        listener = self._listener()
        error = None
        if listener is not None:
            try:
                error = tell(listener, kind, body)
            except RemoteProtocolError:
                raise  # it is told, as all are, that the link is lost
            except Exception as exc:
                self._close(own_trouble(exc))
                give_up(listener, exc)
        if kind in _LAST:
            self._end(error)

    def lost(self, error: RemitError) -> None:
        """The link is over."""
        self._end(error)
        listener = self._listener()
        if listener is not None:
            try:
                listener.lost(error.again())
            except Exception as exc:
                give_up(listener, exc)


class Channels:
    """Those that are open on one link."""

    def __init__(self, conversation: Conversation, outgoing: Outgoing, home: Home) -> None:
        self.conversation = conversation
        self.outgoing = outgoing
        self.home = home
        self._open: weakref.WeakValueDictionary[int, Channel] = weakref.WeakValueDictionary()
        self._abandoned: deque[int] = deque()

    def open(self, body: bytes, listener: Listener, credit: int) -> Channel:
        """A new one, by the request ``body``; ``credit`` bytes may come on it."""
        self.sweep()
        number = self.conversation.request(body, credit)
        channel = self._open[number] = Channel(self, number, listener, credit)
        self.outgoing.wake()
        return channel

    def __len__(self) -> int:
        return len(self._open)

    def forget(self, number: int) -> None:
        self._open.pop(number, None)

    def abandon(self, number: int) -> None:
        """Nobody holds it any more. From a finalizer: these run anywhere, in other threads, too.
        The agent is told when something else is, or with the next sign of life."""
        self._abandoned.append(number)

    def sweep(self) -> None:
        while self._abandoned:
            self.conversation.close(self._abandoned.popleft())
            self.outgoing.wake()

    def take(self, event: Event) -> None:
        """As `Channel.take`."""
        if self._abandoned:
            self.sweep()
        channel = self._open.get(event.channel)
        if channel is not None:
            channel.take(event.kind, event.body)

    def lost(self, error: RemitError) -> None:
        """The link is over."""
        for channel in list(self._open.values()):
            channel.lost(error)
