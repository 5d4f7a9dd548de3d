"""Many calls of one function, so many at a time, begun and answered in order."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel

from remit._errors import RemitError, SessionClosed
from remit._session.calls import call
from remit._session.connection import Connection

_T = TypeVar("_T")
# A call that tells when it is on its way.
_Begun = Callable[[Callable[[], None]], Awaitable[Any]]


class _Slot:
    """One call, and what comes of it."""

    def __init__(self) -> None:
        self.begun = anyio.Event()
        self.done = anyio.Event()
        self.scope = anyio.CancelScope()
        self.came = False
        self.value: Any = None
        self.error: Exception | None = None

    async def run(self, call: _Begun, before: anyio.Event) -> None:
        """In a task of the session's, once the call before has begun: a loop may run new tasks in
        any order. Raises nothing of its own."""
        try:
            with self.scope:
                await before.wait()
                self.value = await call(self.begun.set)
                self.came = True
        except Exception as exc:
            self.error = exc
        finally:
            self.begun.set()
            self.done.set()


class Mapped(AsyncIterator[_T], Generic[_T]):
    """The values; see `Session.map`. Its calls run in the session's tasks."""

    def __init__(
        self,
        connection: Connection,
        call: Callable[[Any, Callable[[], None]], Awaitable[Any]],
        items: Iterable[Any],
        limit: Callable[[], Awaitable[int]],
        return_exceptions: bool,
    ) -> None:
        self._connection = connection
        self._call = call
        self._items = iter(items)
        self._limit = limit
        self._most = 0
        self._return_exceptions = return_exceptions
        self._slots: deque[_Slot] = deque()  # the oldest first
        self._begun = anyio.Event()  # of the newest call
        self._begun.set()
        self._has_more = True

    def __aiter__(self) -> Mapped[_T]:
        return self

    async def __anext__(self) -> _T:
        if self._has_more and not self._most:
            self._most = await self._limit()
        try:
            self._fill()
        except BaseException:  # of the items
            self._cancel()
            raise
        if not self._slots:
            await anyio.lowlevel.checkpoint()
            raise StopAsyncIteration
        slot = self._slots[0]
        await slot.done.wait()  # cancelled, its value comes at the next step
        self._slots.popleft()
        return self._taken(slot)

    async def aclose(self) -> None:
        """Cancels the calls whose values have not come. Twice is quiet."""
        self._cancel()
        await anyio.lowlevel.checkpoint()

    def __del__(self) -> None:
        self._cancel()

    def _fill(self) -> None:
        while self._has_more and len(self._slots) < self._most:
            self._connection.check()
            try:
                item = next(self._items)
            except StopIteration:
                self._has_more = False
                return
            slot = _Slot()
            self._slots.append(slot)
            # Nothing of it holds `self`, which may be dropped meanwhile.
            tasks = self._connection.tasks
            before, self._begun = self._begun, slot.begun
            tasks.start_soon(slot.run, partial(self._call, item), before, failed=tasks.note)

    def _taken(self, slot: _Slot) -> _T:
        if slot.came:
            value: _T = slot.value
            return value
        error = slot.error
        if error is None:  # the session's tasks were ended
            error = SessionClosed(f"the session with {self._connection.target} is closed")
        if self._return_exceptions:
            returned: Any = error
            return returned  # type: ignore[no-any-return]
        self._cancel()
        raise error.again() if isinstance(error, RemitError) else error

    def _cancel(self) -> None:
        self._has_more = False
        slots, self._slots = self._slots, deque()
        for slot in slots:
            slot.scope.cancel()


def mapped(
    connection: Connection,
    fn: Callable[[Any], Any],
    items: Iterable[Any],
    limit: int | None,
    return_exceptions: bool,
    python: str | None,
) -> Mapped[Any]:
    """As `Session.map`."""

    async def most() -> int:
        if limit is not None:
            return limit
        workers = connection.settings.workers or await call(connection, os.cpu_count, (), None)
        return 2 * (workers or 1)

    async def one(item: Any, begun: Callable[[], None]) -> Any:
        return await call(connection, fn, (item,), python, begun)

    return Mapped(connection, one, items, most, return_exceptions)
