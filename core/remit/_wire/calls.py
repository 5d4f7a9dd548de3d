"""Calls as they travel: between caller and agent in pieces, between agent and worker in packets. No
I/O; standard library only, Python 3.6: both ends and the workers hold this file.

Calls, programs and answers have a number, which is the ``seq`` of their pieces, and a kind, which
is the stream. Of what is larger than a piece or packet the first one tells the size of the whole.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Iterator, Sequence

# From the caller. FORGET goes to workers alone.
PROGRAM, FORGET, CALL = 1, 2, 3
# Answers; the first three come from the worker.
VALUE = 1
FAILED = 2  # packed, as `remit._worker.failures` says
PICKLED = 3
DIED = 4  # packed [exit status or None, signal or None, the end of stderr]
TAIL = 5  # the end of stderr, before a FAILED
LAST = (VALUE, FAILED, PICKLED, DIED)
# How a program was written, as its first byte.
SORTS = {"value": b"v", "source": b"s"}

# In front of a whole that goes in pieces: its size. In front of a call: its program's number.
TOTAL = struct.Struct(">Q")
NUMBER = struct.Struct(">Q")
PIECE = 1 << 16
# In front of each packet: kind, number, size of the whole.
HEAD = struct.Struct(">BQQ")
PACKET = 1 << 16
# In front of a call, to a worker: the number of its program, the size of that where it comes along,
# and how often this worker was interrupted before.
CALL_HEAD = struct.Struct(">QQQ")

# What may be on its way on the channel of the calls, in each direction.
WINDOW = 1 << 22
# Bytes of one call's arguments, or of one program: the agent holds them until a worker is free.
MOST = 256 << 20


class Malformed(Exception):
    """What came is no part of a whole; ``str()`` says of it what is wrong: "has 9 bytes"."""


def sized(body: bytes) -> bytes:
    """As it goes in pieces."""
    return TOTAL.pack(len(body)) + body


class Whole:
    """What comes in several pieces, until it is whole."""

    __slots__ = ("data", "kind", "total")

    def __init__(self, kind: int, first: bytes, most: float) -> None:
        """``first`` is the first piece; ``most`` how many bytes there may be in all. Raises
        Malformed."""
        if len(first) < TOTAL.size:
            raise Malformed("begins without its size")
        self.kind = kind
        self.total: int = TOTAL.unpack_from(first)[0]
        if self.total > most:
            raise Malformed("has %d bytes" % self.total)
        data = first[TOTAL.size :]
        # Copied only where there is more to come.
        self.data: bytes | bytearray = data if len(data) >= self.total else bytearray(data)
        self._check()

    @property
    def is_whole(self) -> bool:
        return len(self.data) == self.total

    def add(self, at: int, more: bytes) -> None:
        """``at`` is where in the body it goes on. Raises Malformed."""
        if at != len(self.data) or self.is_whole:
            raise Malformed("goes on at %d" % at)
        self.data += more
        self._check()

    def _check(self) -> None:
        if len(self.data) > self.total:
            raise Malformed("is larger than it said")


class Gathering:
    """What a caller sends: programs and calls, of which several may be on their way."""

    def __init__(self) -> None:
        self._begun: dict[tuple[int, int], Whole] = {}

    def take(self, kind: int, number: int, offset: int, data: bytes) -> bytes | bytearray | None:
        """All of it, once its last piece has come. Raises Malformed. Offsets count the size in
        front."""
        key = kind, number
        try:
            whole = self._begun.get(key)
            if offset:
                if whole is None:
                    raise Malformed("goes on at %d" % offset)
                whole.add(offset - TOTAL.size, data)
            elif whole is None:
                self._begun[key] = whole = Whole(kind, data, MOST + NUMBER.size)
            else:
                raise Malformed("begins twice")
        except Malformed as exc:
            raise Malformed("%d of kind %d %s" % (number, kind, exc)) from None
        if not whole.is_whole:
            return None
        del self._begun[key]
        return whole.data

    def drop(self, kind: int, number: int) -> bool:
        """The rest will not come. Whether it had begun."""
        return self._begun.pop((kind, number), None) is not None


def packets(kind: int, number: int, parts: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """The buffers of each packet in which the parts go, which are buffers of bytes."""
    views = [memoryview(part).cast("B") for part in parts]
    total = sum(map(len, views))
    head = HEAD.pack(kind, number, total)
    if total <= PACKET:
        yield [head, *views]
        return
    for view in views:
        for start in range(0, len(view), PACKET):
            yield [head, view[start : start + PACKET]]
