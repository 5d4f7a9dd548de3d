"""The channels of a conversation: their credit, and the frames that wait to be sent. No I/O, no
clock; standard library only, Python 3.6."""

from __future__ import annotations

import struct
from collections import deque
from typing import TYPE_CHECKING

from remit._wire.credit import Credit
from remit._wire.frames import CREDIT, encode

if TYPE_CHECKING:
    from remit._wire.trace import Trace

CALLER = "caller"
AGENT = "agent"
SIZE = struct.Struct(">Q")  # of a credit


class Channel:
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


class Channels:
    """The part of a conversation that is the same for all that is said.

    Control frames go out before data; the data of several channels goes out in turn.
    """

    def __init__(self, side: str, least_charge: int) -> None:
        """``least_charge``: what each piece from the agent costs at least."""
        self._side = side
        self._charge_said = least_charge if side == AGENT else 0
        self._charge_heard = least_charge if side == CALLER else 0
        self._control: deque[bytes] = deque()
        self._channels: dict[int, Channel] = {}
        self._last = 0  # the highest channel number ever opened
        self._turns: deque[int] = deque()  # channels with data queued, next first
        self._said_goodbye = False
        self._queued_data = 0
        self._queued_control = 0
        self.trace: Trace | None = None  # is shown each frame

    def accepted(self, number: int) -> bool:
        """Whether the request has its first answer, and its channel is open."""
        channel = self._channels.get(number)
        return channel is not None and channel.accepted

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

    def grant(self, number: int, more: int) -> None:
        """Lets the peer send ``more`` further bytes of DATA on the channel."""
        channel = self._channels.get(number)
        if channel is not None and more > 0:
            channel.granted.grant(more)
            self._say(CREDIT, number, SIZE.pack(more))

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

    def _open(self, number: int) -> Channel:
        sides = Credit(self._charge_heard), Credit(self._charge_said)
        channel = self._channels[number] = Channel(self._side == AGENT, *sides)
        self._last = number
        return channel

    def _say(self, kind: int, number: int, body: bytes) -> None:
        if self._said_goodbye:
            return
        frame = encode(kind, number, body)
        self._control.append(frame)
        self._queued_control += len(frame)

    def _queue(self, number: int, channel: Channel, frame: bytes) -> None:
        if not channel.queue:
            self._turns.append(number)
        channel.queue.append(frame)
        self._queued_data += len(frame)

    def _forget(self, number: int) -> None:
        channel = self._channels.pop(number)
        if channel.queue:
            self._queued_data -= sum(map(len, channel.queue))
            self._turns.remove(number)
