"""What the processes of a play write down as it goes; a SIGKILL cuts off the last entry at most."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from remit import Record

_HEAD = struct.Struct(">BQQd")
_STREAMS = ("stdout", "stderr")


class Journal:
    """Notes, one JSON object a line; several processes may write, each a line in one piece."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def note(self, what: str, **facts: Any) -> None:
        entry = {"what": what, "at": time.monotonic(), **facts}
        os.write(self._fd, msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        os.close(self._fd)


def read_notes(path: Path) -> list[dict[str, Any]]:
    notes = []
    for line in path.read_bytes().splitlines():
        try:
            notes.append(msgspec.json.decode(line))
        except msgspec.DecodeError:
            continue  # its writer was killed
    return notes


class Reel:
    """The records that one pass of a reader got."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def add(self, record: Record) -> None:
        facts = _STREAMS.index(record.stream), record.offset, len(record.data), time.monotonic()
        os.write(self._fd, _HEAD.pack(*facts) + record.data)

    def close(self) -> None:
        os.close(self._fd)


class Taken(NamedTuple):
    """A whole record on a reel, and when it came."""

    stream: str
    offset: int
    data: bytes
    at: float


def unreel(path: Path) -> Iterator[Taken]:
    data = memoryview(path.read_bytes())
    while len(data) >= _HEAD.size:
        stream, offset, size, at = _HEAD.unpack_from(data)
        if len(data) < _HEAD.size + size:
            return  # its writer was killed
        yield Taken(_STREAMS[stream], offset, bytes(data[_HEAD.size : _HEAD.size + size]), at)
        data = data[_HEAD.size + size :]
