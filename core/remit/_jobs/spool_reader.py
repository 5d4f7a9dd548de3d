"""Reading what is spooled on a target, over one link after another."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Protocol

from remit._decoding import decode, moment
from remit._errors import JobStateError, LinkLost, RemitError, RemoteProtocolError, ResultError
from remit._jobs.port import Port
from remit._link.channel import Channel
from remit._link.link import Link
from remit._link.listener import Listener
from remit._link.messages import AllSent, Freed, JobMap, ReadAccepted, ReadEnd
from remit._link.notify import Notifier
from remit._types import STREAMS, Gap, JobInfo, Record, SessionState
from remit._wire.conversation import Piece
from remit.abc import Position

# What the target may send ahead of the loop that reads.
_WINDOW = 1 << 20


class Spooled(Protocol):
    """The job whose output it is."""

    info: JobInfo
    port: Port
    spool: Spool

    def hear(self, news: JobMap) -> None: ...


class Spool:
    """What is known of the output of one kept job on its target, and who uses it up from here."""

    def __init__(self) -> None:
        self.sizes: dict[str, int] = {}
        self.used: dict[str, int] = {}
        self._consumer: weakref.ref[SpoolReader] | None = None

    def hear(self, news: JobMap) -> None:
        _raise_to(self.sizes, news.sizes.position())
        _raise_to(self.used, news.used.position())

    def mark_used(self, used: Position) -> None:
        _raise_to(self.used, used)

    def read(
        self, job: Spooled, position: Position | None, *, follow: bool, consume: bool
    ) -> SpoolReader:
        reader = SpoolReader(job, position, follow=follow, consume=consume)
        if consume:
            # The target's own rule, kept here already: what the earlier one used up is then
            # written down there before the new one begins.
            earlier = None if self._consumer is None else self._consumer()
            if earlier is not None:
                earlier.supersede()
            self._consumer = weakref.ref(reader)
        return reader


def _raise_to(position: dict[str, int], told: Position) -> None:
    for stream, value in told.items():
        position[stream] = max(position.get(stream, 0), value)


class SpoolReader(Listener):
    """A pass over what is spooled on the target: `remit.abc.StoreReader`.

    Over a lost link it goes on at the byte where it was.
    """

    def __init__(
        self, job: Spooled, position: Position | None, *, follow: bool, consume: bool
    ) -> None:
        self._job = job
        self._follow = follow
        self._consume = consume
        # What has been received, and what has been used up; None: the target's marks tell.
        self._received = None if position is None else _whole(position)
        self._used: dict[str, int] | None = None
        self._begin: dict[str, int] = {}
        self._records: deque[tuple[Channel | None, Record]] = deque()  # and what brought it
        self._notifier = Notifier()
        self._channel: Channel | None = None  # while it is open
        self._all_sent: AllSent | None = None  # where the data ends, once that is known
        self._freed: dict[str, int] = {}  # where the streams begin, where that is not 0
        self._ended = False  # and what was used up is in the target's marks
        self._error: RemitError | None = None

    async def next(self) -> Record | None:
        if self._consume and self._records and self._channel is None and self._may_go_on():
            # What is in hand may last for long, and its being used up is to be told meanwhile.
            self._open(await self._job.port.ready())
        while not self._records:
            received = self._all_received()
            if self._ended or (received and self._whole and not self._all_used()):
                return None
            if self._error is not None:
                raise self._error.again()
            if received and not self._whole:
                raise _cut(self._job, self._received)
            if self._channel is None:
                self._open(await self._job.port.ready())
            else:
                await self._notifier.wait()
        channel, record = self._records.popleft()
        if channel is not None and isinstance(record.data, bytes):
            channel.consumed(len(record.data))
        return record

    def used(self, record: Record) -> None:
        if self._used is None:
            self._used = dict(self._begin)
        self._used[record.stream] = record.end
        self._job.spool.mark_used(self._used)
        self._tell_used()

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def supersede(self) -> None:
        """Another consuming reader has taken over: this one is at its end."""
        self.close()
        self._records.clear()
        if not self._ended:
            self._finish(
                JobStateError(
                    f"another reader has taken over job {self._job.info.id}",
                    hint="receive(keep=True) reads along without consuming anything",
                )
            )

    def _open(self, link: Link) -> None:
        arguments = {
            "job": self._job.info.id,
            "position": self._received,
            "follow": self._follow,
            "consume": self._consume,
        }
        self._channel = link.open("read", arguments, self, credit=_WINDOW)
        self._all_sent = None

    def _tell_used(self) -> None:
        if self._channel is not None:
            self._channel.event("used", position=self._used)

    def _may_go_on(self) -> bool:
        """Whether there may be another link than the one that was lost under this pass."""
        over = self._ended or self._error is not None
        return not over and self._job.port.state is SessionState.OPEN

    def _all_received(self) -> bool:
        sent = self._all_sent
        return sent is not None and self._received == sent.position.position()

    @property
    def _whole(self) -> bool:
        """Whether what there is goes to the end of what the job produced, where that is asked."""
        return not self._follow or self._all_sent is None or self._all_sent.complete

    def _all_used(self) -> bool:
        """Whether the target will end a consuming read, as it does once all is used up."""
        used = self._used or self._begin
        return all(used.get(stream, 0) >= size for stream, size in (self._received or {}).items())

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        answer = decode(body, ReadAccepted)
        self._begin = answer.position.position()
        if self._consume and self._received is not None and self._used is None:
            # What lies before is passed over.
            self._used = dict(self._begin)
            self._job.spool.mark_used(self._used)
        if self._received is None:
            self._received = dict(self._begin)
        if self._used is not None:
            self._tell_used()  # what was told over an earlier link may not have been written

    def data(self, piece: Piece) -> None:
        stream = STREAMS.get(piece.stream)
        time = moment(piece.time)
        at = -1 if self._received is None or stream is None else self._received.get(stream, -1)
        # What is missing was freed there, and was told to be.
        gap = piece.offset - at if at < piece.offset <= self._freed.get(stream or "", 0) else 0
        if self._received is None or stream is None or time is None or piece.offset != at + gap:
            raise RemoteProtocolError(
                f"job {self._job.info.id}: stream {piece.stream} goes on at {piece.offset}"
            )
        told = piece.seq, time, self._job.info.id, self._job.info.location
        if gap:
            self._records.append((None, Record(stream, Gap(gap), at, *told)))
        self._records.append((self._channel, Record(stream, piece.data, piece.offset, *told)))
        self._received[stream] = piece.offset + len(piece.data)
        self._notifier.notify()

    def event(self, name: str, arguments: bytes) -> None:
        if name == "all-sent":
            self._all_sent = decode(arguments, AllSent)
            self._notifier.notify()
        elif name == "freed":
            self._freed = decode(arguments, Freed).position.position()
        elif name == "superseded":
            self.supersede()

    def ended(self, body: bytes) -> None:
        self._channel = None
        if self._error is None:
            end = decode(body, ReadEnd)
            self._job.hear(end.job)
            if self._follow and not (end.complete and self._job.info.state.finished):
                self._error = _cut(self._job, self._received)
            else:
                self._ended = True
        self._notifier.notify()

    def refused(self, error: RemitError) -> None:
        self._channel = None
        self._finish(error)

    def lost(self, error: RemitError) -> None:
        self._channel = None
        if isinstance(error, LinkLost):
            self._notifier.notify()  # `next` opens it again, over the next link
        else:
            self._finish(error)

    def _finish(self, error: RemitError) -> None:
        self._error = error
        self._notifier.notify()


def _cut(job: Spooled, received: Position | None) -> ResultError:
    sizes = job.spool.sizes.items()
    return ResultError(
        f"there is less of the output of job {job.info.id} on {job.info.location} than the job "
        "produced",
        evidence="\n".join(
            f"{stream}  {(received or {}).get(stream, 0)} of {size} bytes" for stream, size in sizes
        ),
    )


def _whole(position: Position) -> dict[str, int]:
    return {"stdout": 0, "stderr": 0, "records": 0, **position}
