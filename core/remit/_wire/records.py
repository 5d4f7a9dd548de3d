"""The stream ``records``: what a function says beside its stdout and stderr. No I/O.

A record is a head (kind u8, number u64, time f64, size u64, big-endian) and ``size`` bytes. Values,
log records, warnings and progress follow each other in this one stream, in the order in which the
function made them; ``number`` counts those of one name (`STREAMS`). The last record of a function
that ran to an end is a RESULT, a DONE or a FAILURE. Standard library only, Python 3.6: workers and
the agent carry this file as it stands.
"""

from __future__ import annotations

import struct
from collections import namedtuple
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

HEAD = struct.Struct(">BQdQ")

ITEM = 1  # a value that a generator yielded
RESULT = 2  # the value that a function returned
LOG = 3
WARNING = 4
PROGRESS = 5
FAILURE = 6  # how it failed: its summary, NUL, then the exception as a value
DONE = 7  # a generator came to its end
# Added to ITEM and RESULT: the value is a pickle, as the caller allowed (``trust=True``).
PICKLED = 0x80

# What users call them.
STREAMS = {ITEM: "value", RESULT: "value", LOG: "log", WARNING: "warning", PROGRESS: "progress"}
LAST = frozenset((RESULT, FAILURE, DONE))
_KINDS = frozenset((ITEM, RESULT, LOG, WARNING, PROGRESS, FAILURE, DONE))
# What is worth a buffer of its own rather than a copy.
_LARGE = 1 << 16
# Values are no larger (docs/values.md, Limits); pickles may be.
_MOST = 1 << 32
# A summary is one line of an outcome.
MAX_SUMMARY = 400

# ``at`` and ``end`` are where the record begins and ends in the stream; ``body`` its bytes.
Said = namedtuple("Said", "kind number time at end body")


class Malformed(Exception):
    """The stream is no sequence of records."""


class Splitter:
    """Finds the records in the stream, however it was cut."""

    def __init__(self, at: int) -> None:
        """``at`` is where in the stream the first byte is that will be fed."""
        self._unread = bytearray()
        self._at = at  # where the next record begins
        self._head: tuple[int, int, float, int] | None = None
        self._over = False  # one of LAST was begun

    @property
    def gathered(self) -> int:
        """Bytes of a record that is not whole yet."""
        return len(self._unread)

    def feed(self, data: bytes) -> list[Said]:
        """The records that are whole now. Raises Malformed.

        Nothing is made ready for a size that is only claimed. The body of a record that came in
        many pieces is the bytearray it was gathered in, not a copy.
        """
        self._unread += data
        found = []
        start = 0
        while True:
            if self._head is None:
                if len(self._unread) - start < HEAD.size:
                    break
                self._head = HEAD.unpack_from(self._unread, start)
                start += HEAD.size
                self._check(self._head[0], self._head[3])
            kind, number, time, size = self._head
            if len(self._unread) - start < size:
                break
            body: bytes | bytearray
            if size > _LARGE and not start:
                rest = self._unread[size:]
                del self._unread[size:]
                body, self._unread = self._unread, rest
            else:
                body = bytes(memoryview(self._unread)[start : start + size])
                start += size
            end = self._at + HEAD.size + size
            found.append(Said(kind, number, time, self._at, end, body))
            self._at = end
            self._head = None
        if start:
            del self._unread[:start]
        return found

    def _check(self, kind: int, size: int) -> None:
        plain = kind & ~PICKLED
        if plain not in _KINDS or (plain != kind and plain not in (ITEM, RESULT)):
            raise Malformed("a record of kind %d" % kind)
        if self._over:
            raise Malformed("a record after the last")
        if size > _MOST and plain == kind:
            raise Malformed("a record of %d bytes" % size)
        self._over = plain in LAST


class Spotter:
    """Walks over a stream of records without keeping it, to know how it ends."""

    def __init__(self) -> None:
        self.last: int | None = None  # where the last record begins, if it is one of LAST
        self.summary: str | None = None  # of a FAILURE
        self._kind = 0  # of the record begun last
        self._begin = 0  # where it begins
        self._at = 0  # where the next one does
        self._head = b""
        self._left = 0  # bytes of the record's body that are still to come
        self._said: bytearray | None = None  # the beginning of a FAILURE's body

    def feed(self, data: bytes | memoryview) -> None:
        """Takes the next bytes of the stream."""
        view = memoryview(data)
        while len(view):
            if self._left:
                part = view[: self._left]
                if self._said is not None and len(self._said) <= MAX_SUMMARY:
                    self._said += part[: MAX_SUMMARY + 1]
                self._left -= len(part)
                view = view[len(part) :]
                self._look()
                continue
            if not self._head and len(view) >= HEAD.size:
                kind, _, _, size = HEAD.unpack_from(view)
                view = view[HEAD.size :]
            else:
                taken = view[: HEAD.size - len(self._head)]
                self._head += bytes(taken)
                view = view[len(taken) :]
                if len(self._head) < HEAD.size:
                    return
                kind, _, _, size = HEAD.unpack(self._head)
                self._head = b""
            self._kind = kind
            self._begin, self._at = self._at, self._at + HEAD.size + size
            self._left = size
            self._said = bytearray() if kind == FAILURE else None
            self.last = None
            self._look()

    def _look(self) -> None:
        """At the end of a record: whether it is the last."""
        if self._left or self._kind & ~PICKLED not in LAST:
            return
        self.last = self._begin
        if self._said is not None:
            self.summary = bytes(self._said).partition(b"\0")[0].decode("utf-8", "replace")

    def judge(self, outcome: dict[str, Any]) -> dict[str, Any]:
        """An outcome with what the records tell of the function's end.

        ``result_at`` is where in the stream its result or its failure begins.
        """
        outcome["result_at"] = self.last
        if outcome["reason"] != "exited":
            return outcome
        outcome["error"] = self.summary
        if outcome["exit_status"] == 0 and self.last is None:
            # A function may end its process; that it returned is then not so.
            outcome["reason"] = "no-result"
            outcome["error"] = "the process of the function ended before it returned"
        return outcome
