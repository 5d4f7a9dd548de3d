"""What the target sends of a return job, on its way into the job's store."""

from __future__ import annotations

from contextlib import suppress
from typing import Protocol

import attrs

from remit._decoding import moment
from remit._errors import RemoteProtocolError, ResultError
from remit._jobs.channel import JobChannel
from remit._jobs.function_output import Teller
from remit._jobs.limits import Limits
from remit._jobs.request import Start
from remit._jobs.stores import Store
from remit._jobs.surcharge import Surcharges
from remit._plugins import Plugins
from remit._types import STREAMS, JobInfo, Record
from remit._wire.conversation import Piece
from remit._wire.records import HEAD, Malformed, Said, Splitter

# What the target may send before the store says more (`Channel.grant`).
WINDOW = 1 << 20


class Taker(Protocol):
    """The job that it is of."""

    @property
    def store(self) -> Store: ...

    @property
    def known(self) -> JobInfo: ...

    def printed_too_much(self, most: int) -> None: ...


class Output:
    """Of one job. Its methods are given the job, which holds this."""

    def __init__(
        self, request: Start, channel: JobChannel, limits: Limits, teller: Teller, plugins: Plugins
    ) -> None:
        self._full = request.settings.full
        self._most = request.settings.max_output
        self._channel = channel
        self._limits = limits
        self._teller = teller
        self._plugins = plugins
        self._told = plugins.listens("remit_record")
        self._arrived = {"stdout": 0, "stderr": 0}
        self._splitter = Splitter(0)
        self._lent = 0  # credit granted for a record that is not whole yet
        self._surcharges = Surcharges(window(request))

    def take(self, job: Taker, piece: Piece) -> None:
        name = self._teller.job
        stream = STREAMS.get(piece.stream)
        time = moment(piece.time)
        if stream is None or piece.offset != self._arrived.get(stream, 0) or time is None:
            words = f"job {name}: stream {piece.stream} goes on at {piece.offset}"
            raise RemoteProtocolError(words)
        self._channel.grant(self._surcharges.arrived(len(piece.data)))
        data = piece.data if stream == "records" else self._within_limit(job, piece.data)
        self._arrived[stream] = piece.offset + len(piece.data)
        place = self._teller.location
        record = Record(stream, data, piece.offset, piece.seq, time, name, place)
        if stream == "records":
            self._take_records(job, record)
            return
        job.store.append(record)
        self._tell(job, record)

    def _within_limit(self, job: Taker, data: bytes) -> bytes:
        """As much of it as the job may print; it is ended where that is not all."""
        if self._most is None:
            return data
        room = max(0, self._most - self._arrived["stdout"] - self._arrived["stderr"])
        if len(data) <= room:
            return data
        job.printed_too_much(self._most)
        self.grant(len(data) - room)  # so that its end can come
        return data[:room]

    def _take_records(self, job: Taker, record: Record) -> None:
        """Of what a function says only whole records may be dropped, and told to plugins."""
        drops = self._full == "drop"
        if not self._told and not drops:
            job.store.append(record)
            return
        try:
            said = self._splitter.feed(record.data)
        except Malformed as exc:
            raise RemoteProtocolError(f"job {record.job} sent a malformed record: {exc}") from exc
        if not drops:
            job.store.append(record)
        elif self._splitter.gathered > self._lent:
            # The store, which is to grant credit for it, gets it when it is whole.
            self._channel.grant(self._splitter.gathered - self._lent)
            self._lent = self._splitter.gathered
        for one in said:
            if drops:
                data = HEAD.pack(one.kind, one.number, one.time, len(one.body)) + bytes(one.body)
                job.store.append(attrs.evolve(record, data=data, offset=one.at))
            if self._told:
                self._tell_said(job, one, record.seq)

    def _tell_said(self, job: Taker, said: Said, seq: int) -> None:
        # Who receives a value that is none is told so; here nobody can be.
        with suppress(ResultError):
            told = self._teller.record(said, seq)
            if told is not None:
                self._tell(job, told)

    def _tell(self, job: Taker, record: Record) -> None:
        """Has plugins told of it."""
        if self._told:
            self._plugins.notify("remit_record", job=job.known, record=record)

    def grant(self, size: int) -> None:
        """The store has room for so many bytes more."""
        size = self._limits.granted(size)
        paid = min(size, self._lent)
        self._lent -= paid
        self._channel.grant(size - paid + self._surcharges.settled(size))


def window(request: Start) -> int:
    """What the target may send of it before the store says more."""
    return min(request.settings.buffer_limit, WINDOW)
