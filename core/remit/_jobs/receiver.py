"""Reading what a job produced: the iterator that users hold, and the reader over the wire."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio.lowlevel
import attrs

from remit._decoding import decode, moment
from remit._errors import JobStateError, LinkLost, RemitError, RemoteProtocolError, ResultError
from remit._jobs.function_output import Teller
from remit._link.link import Link, Listener
from remit._link.messages import AllSent, Freed, ReadAccepted, ReadEnd
from remit._link.notify import Notifier
from remit._public import named_as_written
from remit._types import STREAMS, Gap, Record, SessionState
from remit._wire.conversation import Piece, charge
from remit._wire.records import Malformed, Said, Splitter
from remit.abc import Position, ResultStore, StoreReader

if TYPE_CHECKING:
    from remit._jobs.kept_job import KeptJob

# What the target may send ahead of the loop that reads, and how much of it is used up before more
# is asked for.
_WINDOW = 1 << 20
_GRANT = _WINDOW // 4


# After so many records in a row other tasks have their turn.
_TURN = 16


class Turns:
    """For a loop over records, which may all be there: others have their turn now and then, and a
    cancel is heeded at each step."""

    def __init__(self) -> None:
        self._left = 0

    async def next(self) -> None:
        self._left -= 1
        if self._left < 0:
            self._left = _TURN
            await anyio.lowlevel.checkpoint()
        else:
            await anyio.lowlevel.checkpoint_if_cancelled()


class Receiver(AsyncIterator[Record]):
    """The records of a job. Holds no task; see `Job.receive`."""

    def __init__(
        self,
        store: ResultStore,
        teller: Teller,
        position: Position | None,
        check_end: Callable[[], None],
        *,
        follow: bool,
        consume: bool,
    ) -> None:
        """``check_end`` raises where what was read to its end may not be all."""
        self._store = store
        self._teller = teller
        self._position = position
        self._check_end = check_end
        self._follow = follow
        self._consume = consume
        self._reader: StoreReader | None = None
        self._turns = Turns()
        self._in_hand: Record | None = None  # up to its end all of its stream is used up next
        self._splitter: Splitter | None = None
        self._said: deque[tuple[Said | None, Record]] = deque()  # and what they came in
        self._over = False

    def __aiter__(self) -> Receiver:
        return self

    async def aclose(self) -> None:
        """Gives the reading up, as leaving the loop and forgetting this does: the record in hand
        comes again to the next reader. Twice is quiet."""
        self._over = True
        self._check_end = _whole_enough
        if self._reader is not None:
            self._reader.close()
        await anyio.lowlevel.checkpoint()

    async def __anext__(self) -> Record:
        await self._turns.next()
        if self._over:
            raise self._end()
        if self._reader is None:
            self._reader = self._store.read(
                self._position, follow=self._follow, consume=self._consume
            )
        while True:
            self._use_up(self._reader)
            if self._said:
                given = await self._next_said(self._reader)
            else:
                given = await self._reader.next()
                if given is None:
                    self._over = True
                    self._reader.close()
                    raise self._end()
                if given.stream == "records":
                    self._take_apart(given)
                    continue
                self._in_hand = given
            if given is not None:
                return given

    def _end(self) -> StopAsyncIteration:
        """Raises what `check_end` raises, at each step anew."""
        if self._follow:
            self._check_end()
        return StopAsyncIteration()

    def _take_apart(self, record: Record) -> None:
        """Into what a function said; the last part may have to wait for the next record."""
        if isinstance(record.data, Gap):
            self._splitter = None
            self._said.append((None, record))
            return
        if self._splitter is None:
            self._splitter = Splitter(record.offset)
        try:
            self._said.extend((said, record) for said in self._splitter.feed(record.data))
        except Malformed as exc:
            raise RemoteProtocolError(f"job {record.job} said what is no record: {exc}") from exc

    def _use_up(self, reader: StoreReader) -> None:
        if self._in_hand is not None and self._consume:
            reader.used(self._in_hand)
        self._in_hand = None

    async def _next_said(self, reader: StoreReader) -> Record | None:
        said, record = self._said[0]  # where it stays if this is cancelled
        if said is None:
            self._said.popleft()
            self._in_hand = record
            return attrs.evolve(record, stream="value")
        end = attrs.evolve(record, data=b"", offset=said.end)
        try:
            told = await self._teller.told(said, record.seq)
        except RemitError:
            # It has been told of, and must not stand before what comes behind it.
            self._said.popleft()
            self._in_hand = end
            self._use_up(reader)
            raise
        self._said.popleft()
        self._in_hand = end
        return told


class SpoolReader(Listener):
    """A pass over what is spooled on the target: `remit.abc.StoreReader`.

    Over a lost link it goes on at the byte where it was.
    """

    def __init__(
        self, job: KeptJob, position: Position | None, *, follow: bool, consume: bool
    ) -> None:
        self._job = job
        self._follow = follow
        self._consume = consume
        # What has been received, and what has been used up; None: the target's marks tell.
        self._received = None if position is None else _whole(position)
        self._used: dict[str, int] | None = None
        self._begin: dict[str, int] = {}
        self._records: deque[Record] = deque()
        self._notifier = Notifier()
        self._link: Link | None = None
        self._number = 0
        self._owed = 0
        self._all_sent: AllSent | None = None  # where the data ends, once that is known
        self._freed: dict[str, int] = {}  # where the streams begin, where that is not 0
        self._ended = False  # and what was used up is in the target's marks
        self._error: RemitError | None = None

    async def next(self) -> Record | None:
        if self._consume and self._records and self._link is None and self._may_go_on():
            # What is in hand may last for long, and its being used up is to be told meanwhile.
            self._open(await self._job._port.ready())
        while not self._records:
            received = self._all_received()
            if self._ended or (received and self._whole and not self._all_used()):
                return None
            if self._error is not None:
                raise self._error.again()
            if received and not self._whole:
                raise self._cut()
            if self._link is None:
                self._open(await self._job._port.ready())
            else:
                await self._notifier.wait()
        record = self._records.popleft()
        if isinstance(record.data, bytes):
            self._owed += charge(len(record.data))
        if self._owed >= _GRANT and self._link is not None:
            self._link.grant(self._number, self._owed)
            self._owed = 0
        return record

    def used(self, record: Record) -> None:
        if self._used is None:
            self._used = dict(self._begin)
        self._used[record.stream] = record.end
        self._job._mark_used(self._used)
        self._tell_used()

    def close(self) -> None:
        if self._link is not None:
            self._link.close(self._number)
            self._link = None

    def __del__(self) -> None:
        if self._link is not None:
            self._link.abandon(self._number)

    def supersede(self) -> None:
        """Another consuming reader has taken over: this one is at its end."""
        self.close()
        self._records.clear()
        if not self._ended:
            self._finish(
                JobStateError(
                    f"another reader has taken over job {self._job.id}",
                    hint="receive(keep=True) reads along without using anything up",
                )
            )

    def _open(self, link: Link) -> None:
        arguments = {
            "job": self._job.id,
            "position": self._received,
            "follow": self._follow,
            "consume": self._consume,
        }
        self._number = link.open("read", arguments, self, credit=_WINDOW)
        self._all_sent = None
        self._link = link
        self._owed = 0

    def _tell_used(self) -> None:
        if self._link is not None:
            self._link.event(self._number, "used", position=self._used)

    def _may_go_on(self) -> bool:
        """Whether there may be another link than the one that was lost under this pass."""
        over = self._ended or self._error is not None
        return not over and self._job._port.state is SessionState.OPEN

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
                f"job {self._job.id}: stream {piece.stream} goes on at {piece.offset}"
            )
        job, place = self._job.id, self._job.location
        if gap:
            self._records.append(Record(stream, Gap(gap), at, piece.seq, time, job, place))
        self._records.append(Record(stream, piece.data, piece.offset, piece.seq, time, job, place))
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
        self._link = None
        if self._error is None:
            end = decode(body, ReadEnd)
            self._job._hear(end.job)
            if self._follow and not (end.complete and self._job.state.finished):
                self._error = self._cut()
            else:
                self._ended = True
        self._notifier.notify()

    def _cut(self) -> ResultError:
        job = self._job
        return ResultError(
            f"there is less of the output of job {job.id} on {job.location} than the job produced",
            evidence="\n".join(
                f"{stream}  {(self._received or {}).get(stream, 0)} of {size} bytes"
                for stream, size in job._sizes.items()
            ),
        )

    def refused(self, error: RemitError) -> None:
        self._link = None
        self._finish(error)

    def lost(self, error: RemitError) -> None:
        self._link = None
        if isinstance(error, LinkLost):
            self._notifier.notify()  # `next` opens it again, over the next link
        else:
            self._finish(error)

    def _finish(self, error: RemitError) -> None:
        self._error = error
        self._notifier.notify()


def _whole_enough() -> None: ...


def _whole(position: Position) -> dict[str, int]:
    return {"stdout": 0, "stderr": 0, "records": 0, **position}


named_as_written(__name__)
