"""What a function said, read from the bytes of its stream ``records``. Pure: for who stores it."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

import attrs
import msgspec

from remit._amounts import count
from remit._decoding import decode, moment
from remit._errors import RemoteProtocolError, ResultError
from remit._public import named_as_written
from remit._types import LogRecord, Progress, WarningRecord
from remit._values import limits, placeholders
from remit._values.limits import ValueRefused
from remit._wire import records
from remit._wire.records import Malformed, Splitter

_KINDS: dict[int, Literal["value", "log", "warning", "progress", "failure", "end"]] = {
    records.ITEM: "value",
    records.RESULT: "value",
    records.LOG: "log",
    records.WARNING: "warning",
    records.PROGRESS: "progress",
    records.FAILURE: "failure",
    records.DONE: "end",
}


class Failure(msgspec.Struct, kw_only=True):
    """How a function failed: `remit._worker.failures`."""

    kind: str
    type: str
    message: str
    traceback: str
    notes: list[str] = []


@attrs.frozen
class FunctionFailure:
    """``data`` of a record of the kind ``failure``: what the function raised."""

    type: str
    message: str
    traceback: str
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """The same, as plugins are given it."""
        return cls(failure.type, failure.message, failure.traceback, tuple(failure.notes))


@attrs.frozen
class DecodedRecord:
    """One record of what a function said.

    ``kind`` is ``value``, ``log``, ``warning`` or ``progress``, as users see them, ``failure`` for
    how it failed, or ``end`` where a generator came to its end. ``number`` counts the records that
    users see under one name. From ``offset`` to ``end`` it stands in the stream, in bytes: a
    reading may begin at each of them. ``last``: nothing follows.

    ``raw`` is the content as it came: a pickle where ``pickled`` (only from a session with
    ``trust=True``), else as docs/wire.md has it.
    """

    kind: Literal["value", "log", "warning", "progress", "failure", "end"]
    number: int
    time: datetime
    offset: int
    end: int
    last: bool
    pickled: bool
    raw: bytes

    @property
    def data(self) -> Any:
        """The content, as a user's `Record` has it; None of an ``end``. Raises ResultError where it
        is no data, and for a pickle: whether to trust it is for the session to say."""
        if self.pickled:
            raise ResultError("a pickle is not decoded where it is stored")
        if self.kind == "value":
            return taken(self.raw, "a function")
        try:
            return self._plain()
        except RemoteProtocolError as exc:
            raise ResultError(exc.message) from exc

    def _plain(self) -> Any:
        if self.kind == "end":
            return None
        if self.kind == "failure":
            return FunctionFailure.of(failure(self.raw))
        return plain(self.kind, self.raw)


class RecordDecoder:
    """Finds the records in the stream ``records``, however it was cut into pieces. No I/O."""

    def __init__(self, offset: int = 0) -> None:
        """``offset`` is where in the stream the first byte is that will be fed: 0, or where a
        record begins."""
        self._splitter = Splitter(count("offset", offset, least=0))

    def feed(self, data: bytes) -> list[DecodedRecord]:
        """The records that are whole now. Raises RemoteProtocolError for what is no such stream.

        A `remit.Gap` breaks the stream: begin again behind it, with another decoder.
        """
        try:
            found = self._splitter.feed(data)
        except Malformed as exc:
            raise RemoteProtocolError(f"what a function said is malformed: {exc}") from exc
        return [_decoded(said) for said in found]


def _decoded(said: records.Said) -> DecodedRecord:
    plain = said.kind & ~records.PICKLED
    time = moment(said.time)
    assert time is not None
    return DecodedRecord(
        kind=_KINDS[plain],
        number=said.number,
        time=time,
        offset=said.at,
        end=said.end,
        last=plain in records.LAST,
        pickled=plain != said.kind,
        raw=bytes(said.body),
    )


def taken(body: bytes | bytearray | memoryview, whose: str) -> Any:
    """The value in an encoding. Raises ResultError."""
    from remit._values import codec  # commands have no values

    try:
        return codec.decode(body)
    except ValueRefused as exc:
        raise ResultError(f"the result of {whose} is malformed: {exc}") from exc


def plain(stream: str, body: bytes) -> LogRecord | WarningRecord | Progress:
    """The content of a record that is no value. Raises RemoteProtocolError."""
    if stream == "log":
        return LogRecord(*decode(body, tuple[int, str, str, float]))
    if stream == "warning":
        return WarningRecord(*decode(body, tuple[str, str, str, int]))
    return Progress(*decode(body, tuple[float, float | None, str]))


def failure(body: bytes | bytearray) -> Failure:
    """What stands in a record of the kind FAILURE. Raises RemoteProtocolError."""
    return decode(bytes(body).partition(b"\0")[2], Failure)


# Those modules run on targets as well, where there is no such name.
named_as_written(placeholders.__name__)
named_as_written(limits.__name__)
