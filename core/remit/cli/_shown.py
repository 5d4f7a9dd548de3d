"""Which records of a job are shown, and how: all of them, the last lines, from a place on, with
their times, as objects."""

from __future__ import annotations

import base64
import json
from collections import deque
from typing import Any

import attrs

from remit import Gap, Record
from remit.cli import _lines

OUTPUTS = ("stdout", "stderr")


def as_object(record: Record) -> bytes:
    """A line of JSON. Of a function's value that JSON cannot say it has the ``repr``; of bytes
    that are no UTF-8 the ``base64``."""
    item: dict[str, Any] = {
        "job": record.job,
        "location": record.location,
        "stream": record.stream,
        "offset": record.offset,
        "seq": record.seq,
        "time": record.time.isoformat(),
        **_content(record.data),
    }
    return json.dumps(item).encode() + b"\n"


def _content(data: Any) -> dict[str, Any]:
    if isinstance(data, (bytes, bytearray, memoryview)):
        try:
            return {"data": bytes(data).decode()}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(data).decode()}
    if isinstance(data, Gap):
        return {"gap": data.size}
    if attrs.has(type(data)):
        return {"data": attrs.asdict(data)}
    return {"data": data} if _lines.is_json(data) else {"repr": _lines.value(data)}


class Stamps:
    """Puts the time of a piece in front of each line that begins in it."""

    def __init__(self) -> None:
        self._within: set[str] = set()  # streams that stand within a line

    def stamped(self, record: Record) -> Record:
        if record.stream not in OUTPUTS or not isinstance(record.data, bytes) or not record.data:
            return record
        stamp = record.time.isoformat(timespec="milliseconds").encode() + b" "
        begun = record.stream in self._within
        *whole, rest = record.data.split(b"\n")
        lines = [*(line + b"\n" for line in whole), *([rest] if rest else [])]
        text = b"".join(
            line if begun and not number else stamp + line for number, line in enumerate(lines)
        )
        (self._within.add if rest else self._within.discard)(record.stream)
        return attrs.evolve(record, data=text)


class Tail:
    """Holds no more than the last ``count`` lines of what it is given."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: deque[Record] = deque()
        self._lines = 0

    def add(self, record: Record) -> None:
        self._held.append(record)
        self._lines += _ends(record)
        while self._held and self._lines - _ends(self._held[0]) >= self._count + 1:
            self._lines -= _ends(self._held.popleft())

    def records(self) -> list[Record]:
        """Those lines; one that has no end yet is the last of them."""
        if not self._held or not self._count:
            return []
        last = self._held[-1].data
        begun = isinstance(last, bytes) and not last.endswith(b"\n")
        ends = self._count if begun else self._count + 1  # the first line follows that many
        found: list[Record] = []
        for record in reversed(self._held):
            if _ends(record) >= ends:
                if isinstance(record.data, bytes):
                    rest = record.data.split(b"\n", _ends(record) - ends + 1)[-1]
                    offset = record.offset + len(record.data) - len(rest)
                    found += [attrs.evolve(record, data=rest, offset=offset)] if rest else []
                break
            ends -= _ends(record)
            found.append(record)
        return found[::-1]


def _ends(record: Record) -> int:
    return record.data.count(b"\n") if isinstance(record.data, bytes) else 1


class Places:
    """How far each stream was shown: what lies before that is left out."""

    def __init__(self, since: int = 0) -> None:
        self._seen = dict.fromkeys(OUTPUTS, since)

    def new(self, record: Record) -> Record | None:
        """What of it was not there before."""
        size = len(record.data) if isinstance(record.data, bytes) else 1
        seen = self._seen.get(record.stream, 0)
        end = record.offset + size
        if end <= seen:
            return None
        self._seen[record.stream] = end
        if record.offset >= seen or not isinstance(record.data, bytes):
            return record
        return attrs.evolve(record, data=record.data[seen - record.offset :], offset=seen)
