"""Frames: the unit of the wire between remit and its agent. Bytes in, frames out, no I/O.

A frame is a 9-byte header, big-endian, then the payload: kind u8, channel u32, size u32,
payload u8[size]. Standard library only, Python 3.6: the agent carries this file as it stands.
"""

from __future__ import annotations

import struct
from collections import namedtuple

HEADER = struct.Struct(">BII")
# Output travels in pieces of 64 KiB. Sixteen times that leaves room for results, and still keeps
# a peer gone wrong from filling our memory.
MAX_PAYLOAD = 1 << 20

# Kinds. A kind that an end does not know is skipped, so that later versions may add some.
HELLO = 1  # channel 0: who speaks, and which protocol
REQUEST = 2  # the caller opens a channel and asks for something
REPLY = 3  # the agent's whole answer; the channel is over
ACCEPT = 4  # the agent's first answer; news and data follow until its END
REFUSAL = 5  # the agent cannot do what was asked, and says why; the channel is over
EVENT = 6  # news about the channel, either way
DATA = 7  # a piece of a stream, either way, under credit
CREDIT = 8  # the peer may send so many more bytes of DATA on this channel
END = 9  # no more DATA from this end; the agent's END also ends the channel
CLOSE = 10  # the caller has no more interest in the channel
PING = 11  # a sign of life
GOODBYE = 12  # the last frame of an orderly end


class FrameError(Exception):
    """The peer sent what is no frame. The stream cannot be trusted past this point."""


# kind int, channel int (0 where the frame is about the link itself), payload bytes
Frame = namedtuple("Frame", "kind channel payload")


def encode(kind: int, channel: int, payload: bytes = b"") -> bytes:
    """The bytes of one frame. Raises FrameError if the payload is larger than the peer accepts."""
    if len(payload) > MAX_PAYLOAD:
        raise FrameError("a frame of %d bytes, the most is %d" % (len(payload), MAX_PAYLOAD))
    return HEADER.pack(kind, channel, len(payload)) + payload


class Decoder:
    """Finds the frames in a byte stream, however the stream was cut."""

    def __init__(self) -> None:
        self._unread = bytearray()
        self._start = 0  # how much of the front was already given out

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        if self._start:
            # Once per feed, not once per frame: many small frames in one read stay linear.
            del self._unread[: self._start]
            self._start = 0
        self._unread += data

    @property
    def empty(self) -> bool:
        """Whether the stream stands between two frames: an end here cuts nothing."""
        return len(self._unread) == self._start

    def next_frame(self) -> Frame | None:
        """The oldest whole frame, None until more is fed. Raises FrameError if it is too large."""
        start = self._start
        if len(self._unread) - start < HEADER.size:
            return None
        kind, channel, size = HEADER.unpack_from(self._unread, start)
        if size > MAX_PAYLOAD:
            raise FrameError(
                "a frame of %d bytes was announced, the most is %d" % (size, MAX_PAYLOAD)
            )
        body = start + HEADER.size
        end = body + size
        if len(self._unread) < end:
            return None
        self._start = end
        with memoryview(self._unread) as view:
            return Frame(kind, channel, bytes(view[body:end]))
