"""The conversation: what may be said on a link, when, and in which order. No I/O, no clock.

Both ends hold one, the caller with ``CALLER`` and the agent with ``AGENT``. Bytes that arrived go
in at `Conversation.receive` and come out as events; what is said goes in by the verbs and comes out
as bytes at `Conversation.data_to_send`. Bodies are bytes here: what they mean is for the layer
above (docs/wire.md). Standard library only, Python 3.6: the agent carries this file as it stands.
"""

from __future__ import annotations

import struct
from collections import deque, namedtuple
from typing import TYPE_CHECKING

from remit._wire.credit import Credit, Overdrawn
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

if TYPE_CHECKING:
    from remit._wire.trace import Trace

PROTOCOL = 1
CALLER = "caller"
AGENT = "agent"

# In front of the bytes of a DATA frame: stream u8, sequence number u64, offset u64, time f64.
PIECE = struct.Struct(">BQQd")
MAX_PIECE = 1 << 18
_CREDIT = struct.Struct(">Q")

# One piece of a stream. ``stream`` is a small int (docs/wire.md), ``seq`` counts the pieces of one
# job over all its streams, ``offset`` is the position in the stream of the first byte of ``data``
# (of the record, in streams of records), ``time`` is Unix time by the target's clock.
Piece = namedtuple("Piece", "stream seq offset time data")
# Something that arrived. ``kind`` is one of the kinds in `remit._wire.frames`; ``body`` is a Piece
# for DATA, an int for CREDIT and bytes elsewhere.
Event = namedtuple("Event", "kind channel body")


class ProtocolError(Exception):
    """The peer said what it may not say. The link cannot be trusted past this point."""


class _Channel:
    """One request and what belongs to it, as this end sees it."""

    __slots__ = ("accepted", "ended", "granted", "peer_ended", "queue", "sendable", "takes_data")

    def __init__(self, takes_data: bool, granted: Credit, sendable: Credit) -> None:
        self.takes_data = takes_data  # the peer may send some, credit allowing
        self.accepted = False
        self.granted = granted  # the peer's
        self.sendable = sendable  # ours
        self.ended = False  # we said END
        self.peer_ended = False
        self.queue: deque[bytes] = deque()  # our DATA and END, in order


class Conversation:
    """One end of the talk between a caller and an agent.

    Control frames go out before data; the data of several channels goes out in turn. ``receive``
    raises ProtocolError for anything that a sound peer cannot send, and nothing else.
    """

    def __init__(self, side: str, least_charge: int = 0) -> None:
        """``least_charge``: what each piece from the agent costs at least, which is one byte
        then."""
        self._side = side
        self._charge_said = least_charge if side == AGENT else 0
        self._charge_heard = least_charge if side == CALLER else 0
        self._least_piece = min(1, least_charge)
        self._decoder = Decoder()
        self._control: deque[bytes] = deque()
        self._channels: dict[int, _Channel] = {}
        self._last = 0  # the highest channel number ever opened
        self._turns: deque[int] = deque()  # channels with data queued, next first
        self._met = False  # the peer's hello has come
        self._parted = False  # the peer's goodbye has come
        self._said_goodbye = False
        self._queued_data = 0
        self._queued_control = 0
        self.trace: Trace | None = None  # is shown each frame

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

    def _take_on(self, channel: _Channel, kind: int, number: int, payload: bytes) -> Event | None:
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
            if len(payload) != _CREDIT.size:
                raise ProtocolError("a credit of %d bytes" % len(payload))
            more = _CREDIT.unpack(payload)[0]
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

    def _take_data(self, channel: _Channel, number: int, payload: bytes) -> Event:
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
            self._say(CREDIT, number, _CREDIT.pack(credit))
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

    def accepted(self, number: int) -> bool:
        """Whether the request has its first answer, and its channel is open."""
        channel = self._channels.get(number)
        return channel is not None and channel.accepted

    def refuse(self, number: int, body: bytes) -> None:
        """Answers a request that cannot be met; the channel is over."""
        if number in self._channels:
            self._say(REFUSAL, number, body)
            self._forget(number)

    def event(self, number: int, body: bytes) -> None:
        if number in self._channels:
            self._say(EVENT, number, body)

    def grant(self, number: int, more: int) -> None:
        """Lets the peer send ``more`` further bytes of DATA on the channel."""
        channel = self._channels.get(number)
        if channel is not None and more > 0:
            channel.granted.grant(more)
            self._say(CREDIT, number, _CREDIT.pack(more))

    def is_open(self, number: int) -> bool:
        return number in self._channels

    def granted(self, number: int) -> int:
        """How many bytes of DATA the peer may still send on the channel."""
        channel = self._channels.get(number)
        return 0 if channel is None else channel.granted.left

    def credit(self, number: int) -> int:
        """How many bytes of DATA this end may still queue on the channel."""
        channel = self._channels.get(number)
        return 0 if channel is None or channel.ended else channel.sendable.left

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

    # -- what goes out

    @property
    def queued_data(self) -> int:
        """Bytes of DATA frames not yet given out. Who reads a pipe stops while this is large."""
        return self._queued_data

    @property
    def queued(self) -> int:
        """Bytes of all frames not yet given out."""
        return self._queued_data + self._queued_control

    def data_to_send(self, limit: int = 1 << 18) -> bytes:
        """Whole frames, about ``limit`` bytes of them (at least one), or nothing."""
        out = []
        size = 0
        while self._control and size < limit:
            frame = self._control.popleft()
            self._queued_control -= len(frame)
            out.append(frame)
            size += len(frame)
        while self._turns and size < limit:
            number = self._turns.popleft()
            channel = self._channels[number]
            frame = channel.queue.popleft()
            self._queued_data -= len(frame)
            out.append(frame)
            size += len(frame)
            if channel.queue:
                self._turns.append(number)
            elif channel.ended and self._side == AGENT:
                self._forget(number)
        if self.trace is not None:
            self.trace.sent(out)
        return out[0] if len(out) == 1 else b"".join(out)

    # -- the book of channels

    def _open(self, number: int) -> _Channel:
        sides = Credit(self._charge_heard), Credit(self._charge_said)
        channel = self._channels[number] = _Channel(self._side == AGENT, *sides)
        self._last = number
        return channel

    def _say(self, kind: int, number: int, body: bytes) -> None:
        if self._said_goodbye:
            return
        frame = encode(kind, number, body)
        self._control.append(frame)
        self._queued_control += len(frame)

    def _queue(self, number: int, channel: _Channel, frame: bytes) -> None:
        if not channel.queue:
            self._turns.append(number)
        channel.queue.append(frame)
        self._queued_data += len(frame)

    def _forget(self, number: int) -> None:
        channel = self._channels.pop(number)
        if channel.queue:
            self._queued_data -= sum(map(len, channel.queue))
            self._turns.remove(number)


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
