"""Reading what the children of a group produce, as it comes."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Sequence

import anyio
import anyio.lowlevel

from remit._errors import ResultError
from remit._jobs.receiver import Receiver
from remit._link.background import spawn
from remit._link.notify import Notifier
from remit._types import Record


class _Source:
    """One child's records, read a step ahead: the next step, which uses up the record before, is
    made once that was taken and the one after it is asked for."""

    def __init__(self, receiver: Receiver, ready: deque[_Source], notifier: Notifier) -> None:
        self.receiver = receiver
        self.scope = anyio.CancelScope()
        self.record: Record | None = None
        self.error: Exception | None = None
        self.over = False
        self._ready = ready
        self._notifier = notifier
        self._wanted = anyio.Event()
        self._wanted.set()

    def go_on(self) -> None:
        self._wanted.set()

    async def run(self) -> None:
        """In a task of its own: the session may be over, or not be opened yet. Raises nothing of
        its own."""
        try:
            with self.scope:
                while not self.over:
                    await self._wanted.wait()
                    self._wanted = anyio.Event()
                    await self._step()
        finally:
            if not self.over:  # the event loop ends
                self._end(None)

    async def _step(self) -> None:
        try:
            self.record = await anext(self.receiver)
        except StopAsyncIteration:
            self._end(None)
        except ResultError as exc:  # of one value: what comes behind it is read all the same
            self._tell(exc)
        except Exception as exc:
            self._end(exc)
        else:
            self._tell(None)

    def _end(self, error: Exception | None) -> None:
        self.over = True
        self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        self.error = error
        self._ready.append(self)
        self._notifier.notify()


class Interleaved(AsyncIterator[Record]):
    """The records of a group, from all of its children as they come; see `JobGroup.receive`."""

    def __init__(self, group: str, receivers: Sequence[Receiver]) -> None:
        self._group = group
        self._notifier = Notifier(f"group {group}")
        self._ready: deque[_Source] = deque()
        self._sources = [_Source(one, self._ready, self._notifier) for one in receivers]
        self._begun = False
        self._in_hand: _Source | None = None
        self._left = len(self._sources)
        self._troubles: dict[int, Exception] = {}
        self._closed = False

    def __aiter__(self) -> Interleaved:
        return self

    def __repr__(self) -> str:
        return f"<remit.GroupReceiver of {self._group}: {self._left} jobs go on>"

    async def __anext__(self) -> Record:
        await anyio.lowlevel.checkpoint()
        if not self._begun:
            self._begin()
        if self._in_hand is not None:
            source, self._in_hand = self._in_hand, None
            source.go_on()
        while True:
            if self._closed:
                raise StopAsyncIteration
            while not self._ready:
                if not self._left:
                    raise self._end()
                await self._notifier.wait()
            source = self._ready.popleft()
            record, error = source.record, source.error
            source.record = source.error = None
            if source.over:
                self._left -= 1
                if error is not None:
                    self._troubles[self._sources.index(source)] = error
                continue
            self._in_hand = source
            if error is not None:
                raise error
            assert record is not None
            return record

    def _begin(self) -> None:
        self._begun = True
        for source in self._sources:
            spawn(source.run)  # nothing of it holds `self`, which may be dropped

    def _end(self) -> BaseException:
        for number in sorted(self._troubles):
            return self._troubles[number]
        return StopAsyncIteration()

    async def aclose(self) -> None:
        """Gives the reading up, as leaving the loop and forgetting this does: the record in hand
        comes again to the next reader. Twice is quiet."""
        self._cancel()
        for source in self._sources:
            await source.receiver.aclose()
        await anyio.lowlevel.checkpoint()

    def __del__(self) -> None:
        self._cancel()

    def _cancel(self) -> None:
        self._closed = True
        for source in self._sources:
            source.scope.cancel()
