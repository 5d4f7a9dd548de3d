"""The conversation: what may be said on a link, when, and in which order. No I/O, no clock.

Both ends hold one, the caller with ``CALLER`` and the agent with ``AGENT``. Bytes that arrived go
in at `Conversation.receive` and come out as events; what is said goes in by the verbs and comes out
as bytes at `Conversation.data_to_send`. Bodies are bytes here: what they mean is for the layer
above (docs/wire.md). Standard library only, Python 3.6: the agent carries this file as it stands.
"""

from __future__ import annotations

import struct
from collections import namedtuple

from remit._wire.channels import AGENT as AGENT
from remit._wire.channels import CALLER as CALLER
from remit._wire.channels import SIZE, Channel, Channels
from remit._wire.credit import Overdrawn
from remit._wire.frames import (
    ACCEPT,
    CLOSE,
    CREDIT,
    DATA,
    END,
    EVENT,
    GOODBYE,
    HEADER,
    HELLO,
    PING,
    REFUSAL,
    REPLY,
    REQUEST,
    Decoder,
    FrameError,
    encode,
)

PROTOCOL = 1

# In front of the bytes of a DATA frame: stream u8, sequence number u64, offset u64, time f64.
PIECE = struct.Struct(">BQQd")
MAX_PIECE = 1 << 18

# One piece of a stream. ``stream`` is a small int (docs/wire.md), ``seq`` counts the pieces of one
# job over all its streams, ``offset`` is the position in the stream of the first byte of ``data``
# (of the record, in streams of records), ``time`` is Unix time by the target's clock.
Piece = namedtuple("Piece", "stream seq offset time data")
# Something that arrived. ``kind`` is one of the kinds in `remit._wire.frames`; ``body`` is a Piece
# for DATA, an int for CREDIT and bytes elsewhere.
Event = namedtuple("Event", "kind channel body")


class ProtocolError(Exception):
    """The peer said what it may not say. The link cannot be trusted past this point."""


class Conversation(Channels):
    """One end of the talk between a caller and an agent.

    Control frames go out before data; the data of several channels goes out in turn. ``receive``
    raises ProtocolError for anything that a sound peer cannot send, and nothing else.
    """

    def __init__(self, side: str, least_charge: int = 0) -> None:
        """``least_charge``: what each piece from the agent costs at least, which is one byte
        then."""
        super().__init__(side, least_charge)
        self._least_piece = min(1, least_charge)
        self._decoder = Decoder()
        self._met = False  # the peer's hello has come
        self._parted = False  # the peer's goodbye has come

    # -- what arrives

    def receive(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """The events in ``data`` and in what was left of earlier data."""
        self._decoder.feed(data)
        events: list[Event] = []
        try:
            while True:
                frame = self._decoder.next_frame()
                if frame is None:
                    return events
                if self.trace is not None:
                    self.trace.received(frame)
                event = self._take(frame.kind, frame.channel, frame.payload)
                if event is not None:
                    events.append(event)
        except FrameError as exc:
            raise ProtocolError(str(exc)) from exc

    @property
    def parted(self) -> bool:
        """Whether the peer said goodbye: an end of the stream after it is an orderly one."""
        return self._parted

    @property
    def between_frames(self) -> bool:
        """Whether an end of the stream here would cut no frame."""
        return self._decoder.empty

    def _take(self, kind: int, number: int, payload: bytes) -> Event | None:
        if kind == DATA and not self._parted:
            # By far the most frames; the rest of the way is for those that are wrong.
            channel = self._channels.get(number)
            if channel is not None and channel.takes_data:
                return self._take_data(channel, number, payload)
        if not self._met:
            if kind != HELLO or number:
                raise ProtocolError("the first frame is of kind %d, not a hello" % kind)
            self._met = True
            return Event(HELLO, 0, payload)
        if self._parted:
            raise ProtocolError("a frame of kind %d came after goodbye" % kind)
        if kind in (HELLO, PING, GOODBYE):
            if number:
                raise ProtocolError("a frame of kind %d names channel %d" % (kind, number))
            if kind == HELLO:
                raise ProtocolError("a second hello")
            if kind == PING:
                # A bare one is a sign of life and nothing else.
                return Event(PING, 0, payload) if payload else None
            self._parted = True
            return Event(GOODBYE, 0, payload)
        if kind == REQUEST:
            return self._take_request(number, payload)
        if kind not in (REPLY, ACCEPT, REFUSAL, EVENT, DATA, CREDIT, END, CLOSE):
            return None  # of a later version
        channel = self._channels.get(number)
        if channel is None:
            if 0 < number <= self._last:
                return None  # said before the peer knew that the channel is over
            raise ProtocolError("channel %d (kind %d) was never opened" % (number, kind))
        return self._take_on(channel, kind, number, payload)

    def _take_request(self, number: int, payload: bytes) -> Event:
        if self._side == CALLER:
            raise ProtocolError("the agent sent a request")
        if number <= self._last:
            raise ProtocolError("channel %d opened after channel %d" % (number, self._last))
        self._open(number)
        return Event(REQUEST, number, payload)

    def _take_on(self, channel: Channel, kind: int, number: int, payload: bytes) -> Event | None:
        if kind in (REPLY, ACCEPT, REFUSAL):
            if self._side == AGENT:
                raise ProtocolError("the caller sent a reply")
            if channel.accepted:
                raise ProtocolError("a second reply on channel %d" % number)
            channel.accepted = channel.takes_data = True
            if kind != ACCEPT:
                self._forget(number)
            return Event(kind, number, payload)
        if kind == CLOSE:
            if self._side == CALLER:
                raise ProtocolError("the agent sent a close")
            self._forget(number)
            return Event(CLOSE, number, payload)
        if kind == CREDIT:
            if len(payload) != SIZE.size:
                raise ProtocolError("a credit of %d bytes" % len(payload))
            more = SIZE.unpack(payload)[0]
            try:
                channel.sendable.grant(more)
            except Overdrawn:
                raise ProtocolError("a credit of %d on channel %d" % (more, number)) from None
            return Event(CREDIT, number, more)
        if self._side == CALLER and not channel.accepted:
            raise ProtocolError("kind %d before the reply on channel %d" % (kind, number))
        if kind == EVENT:
            return Event(EVENT, number, payload)
        if channel.peer_ended:
            raise ProtocolError("a frame of kind %d after the end of channel %d" % (kind, number))
        if kind == END:
            channel.peer_ended = True
            channel.takes_data = False
            if self._side == CALLER:
                self._forget(number)
            return Event(END, number, payload)
        return self._take_data(channel, number, payload)

    def _take_data(self, channel: Channel, number: int, payload: bytes) -> Event:
        size = len(payload) - PIECE.size
        if size < self._least_piece:
            raise ProtocolError("a data frame of %d bytes" % len(payload))
        try:
            channel.granted.spend(size)
        except Overdrawn:
            words = "%d bytes on channel %d, where %d were allowed"
            raise ProtocolError(words % (size, number, channel.granted.left)) from None
        stream, seq, offset, time = PIECE.unpack_from(payload)
        return Event(DATA, number, Piece(stream, seq, offset, time, payload[PIECE.size :]))

    # -- what is said

    def hello(self, body: bytes) -> None:
        self._say(HELLO, 0, body)

    def request(self, body: bytes, credit: int = 0) -> int:
        """Opens a channel, and lets the peer send ``credit`` bytes of DATA on it. Its number."""
        number = self._last + 1
        channel = self._open(number)
        self._say(REQUEST, number, body)
        if credit:
            channel.granted.grant(credit)
            self._say(CREDIT, number, SIZE.pack(credit))
        return number

    def reply(self, number: int, body: bytes) -> None:
        """Answers a request; the channel is over."""
        if number in self._channels:
            self._say(REPLY, number, body)
            self._forget(number)

    def accept(self, number: int, body: bytes) -> None:
        """Answers a request; the channel stays open for news and data, until `end`."""
        channel = self._channels.get(number)
        if channel is not None:
            channel.accepted = True
            self._say(ACCEPT, number, body)

    def refuse(self, number: int, body: bytes) -> None:
        """Answers a request that cannot be met; the channel is over."""
        if number in self._channels:
            self._say(REFUSAL, number, body)
            self._forget(number)

    def event(self, number: int, body: bytes) -> None:
        if number in self._channels:
            self._say(EVENT, number, body)

    def data(self, number: int, piece: Piece) -> None:
        """Queues a piece. Raises ValueError where it is larger than `credit` or MAX_PIECE."""
        channel = self._channels.get(number)
        size = len(piece.data)
        if channel is None or channel.ended or size > min(channel.sendable.left, MAX_PIECE):
            raise ValueError("%d bytes on channel %d: no credit" % (size, number))
        channel.sendable.spend(size)
        # Put together at once: of a large piece each further copy would tell.
        head = HEADER.pack(DATA, number, PIECE.size + size)
        place = PIECE.pack(piece.stream, piece.seq, piece.offset, piece.time)
        self._queue(number, channel, b"".join((head, place, piece.data)))

    def end(self, number: int, body: bytes = b"") -> None:
        """Says, after all data queued, that no more comes from this end. Twice is quiet."""
        channel = self._channels.get(number)
        if channel is not None and not channel.ended:
            channel.ended = True
            self._queue(number, channel, encode(END, number, body))

    def close(self, number: int) -> None:
        """The caller gives the channel up; what still arrives on it is dropped. Twice is quiet."""
        if number in self._channels:
            self._say(CLOSE, number, b"")
            self._forget(number)

    def ping(self, body: bytes = b"") -> None:
        self._say(PING, 0, body)

    def goodbye(self, body: bytes) -> None:
        """The last frame from this end. Data not yet given out is dropped: nothing may follow."""
        self._say(GOODBYE, 0, body)
        self._said_goodbye = True
        for channel in self._channels.values():
            channel.queue.clear()
            channel.ended = True
        self._turns.clear()
        self._queued_data = 0


class Pulse:
    """When to say something so that the peer knows we live, and when to take the peer for dead.

    ``silence`` is how many seconds without a byte mean death, unless the peer is given more
    ``patience``; something is said three times in that span. While the peer is ``away``, as it said
    before, no silence means death. Times are any monotonic clock's seconds, one clock per Pulse.
    """

    def __init__(self, silence: float, now: float, patience: float | None = None) -> None:
        self.silence = silence
        self.away = False
        self._patience = silence if patience is None else max(silence, patience)
        self._heard = now
        self._said = now

    def heard(self, now: float) -> None:
        self._heard = now

    def said(self, now: float) -> None:
        self._said = now

    def dead(self, now: float) -> bool:
        return not self.away and now >= self._heard + self._patience

    def due(self, now: float) -> bool:
        return now >= self._said + self.silence / 3

    def next_look(self, now: float) -> float:
        """Seconds until `due` or `dead` can next become true."""
        due = self._said + self.silence / 3
        if not self.away:
            due = min(due, self._heard + self._patience)
        return max(0.0, due - now)
