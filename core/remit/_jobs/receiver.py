"""Reading what a job produced: the iterator that users hold."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

import anyio.lowlevel
import attrs

from remit._errors import RemitError, RemoteProtocolError
from remit._jobs.function_output import Teller
from remit._public import named_as_written
from remit._types import AnyRecord, Gap, Record
from remit._wire.records import Malformed, Said, Splitter
from remit.abc import Position, ResultStore, StoreReader

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


class Receiver(AsyncIterator[AnyRecord]):
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
        self.before: Callable[[], Awaitable[None]] | None = None  # awaited before the first step

    def __repr__(self) -> str:
        how = ["over"] if self._over else []
        how += ["consuming" if self._consume else "keeping"]
        return f"<remit.Receiver of {self._teller.job}: {', '.join(how)}>"

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

    async def __anext__(self) -> AnyRecord:
        await self._turns.next()
        if self._over:
            raise self._end()
        if self._reader is None:
            if self.before is not None:
                await self.before()
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
                return cast(AnyRecord, given)

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
            raise RemoteProtocolError(f"job {record.job} sent a malformed record: {exc}") from exc

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


def _whole_enough() -> None: ...


named_as_written(__name__)
