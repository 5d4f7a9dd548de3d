"""Many calls of one function over many targets: whoever is free takes the next item."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar

import anyio
import anyio.lowlevel
import attrs

from remit._errors import LinkLost, RemitError, SessionClosed
from remit._link.background import outlast, spawn
from remit._link.notify import Notifier
from remit._session.calls import call
from remit._session.members import Member
from remit._session.spread import GIVE_UP
from remit._types import SessionState

_T = TypeVar("_T")

# Values that are there, and calls under way: so many times as many as may be under way. The others
# go on while the oldest one takes long.
_AHEAD: Final = 2


@attrs.define(eq=False)
class _Item:
    """One item, and what comes of it."""

    value: Any
    tries: int = 0  # calls of it that may have run
    done: bool = False
    result: Any = None
    error: Exception | None = None


class _Work:
    """What the callers of all targets share. Nothing of it holds who takes the values."""

    def __init__(self, items: Iterator[Any], retries: int, targets: int) -> None:
        self._items: Iterator[Any] | None = items
        self._retries = retries
        self._returned: deque[_Item] = deque()  # their targets were lost
        self.given: deque[_Item] = deque()  # to callers, and not taken yet; the oldest first
        self.notifier = Notifier("the values of a fleet")
        self.scopes: set[anyio.CancelScope] = set()
        self.callers = 0  # that may still run a call
        self.opening = targets  # that have not been reached yet
        self.most = 0
        self.trouble: Exception | None = None  # of the items, or of the last target
        self.over = anyio.Event()  # nobody works on it any more

    @property
    def has_more(self) -> bool:
        return self._items is not None or bool(self._returned)

    @property
    def is_hopeless(self) -> bool:
        """Whether nobody will ever take another item."""
        return not self.opening and not self.callers

    def reached(self, callers: int) -> None:
        self.opening -= 1
        self.callers += callers
        self.most += _AHEAD * callers
        self.notifier.notify()
        self._look_whether_over()

    def lost(self, trouble: Exception) -> None:
        """A target will not be reached."""
        self.trouble = trouble
        self.reached(0)

    def left(self) -> None:
        """A caller ends."""
        self.callers -= 1
        self.notifier.notify()
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self.is_hopeless:
            self.over.set()

    def next(self) -> _Item | None:
        """The next item, if one may be taken now. Raises nothing: what the items raise is told in
        its place."""
        if self._returned:
            return self._returned.popleft()
        if self._items is None or len(self.given) >= self.most:
            return None
        try:
            item = _Item(next(self._items))
        except StopIteration:
            self._items = None
            self.notifier.notify()
            return None
        except Exception as exc:
            self._items = None
            self.given.append(_Item(None, done=True, error=exc))
            self.notifier.notify()
            return None
        self.given.append(item)
        return item

    def has_another(self) -> bool:
        """Looks for an item where nobody will take one."""
        if self._returned or self._items is None:
            return self.has_more
        for _ in self._items:
            return True
        self._items = None
        return False

    def finish(self, item: _Item, result: Any = None, error: Exception | None = None) -> None:
        item.done, item.result, item.error = True, result, error
        self.notifier.notify()

    def lose(self, item: _Item, error: RemitError, *, may_have_run: bool) -> None:
        """Its target was lost: another one takes it, as long as that is allowed."""
        item.tries += may_have_run
        if item.tries > self._retries:
            self.finish(item, error=error)
        else:
            self._returned.append(item)
            self.notifier.notify()

    def stop(self) -> None:
        self._items = None
        self._returned.clear()
        for scope in self.scopes:
            scope.cancel()
        self.notifier.notify()


class _Target:
    """One target's part in it."""

    def __init__(
        self, work: _Work, member: Member, fn: Callable[[Any], Any], python: str | None
    ) -> None:
        self._work = work
        self._connection = member.session._connection
        self._member = member
        self._fn = fn
        self._python = python

    async def run(self, limit: int | None) -> None:
        """In a task of its own. Raises nothing."""
        scope, known = anyio.CancelScope(), False
        self._work.scopes.add(scope)
        try:
            with scope:
                await self._member.ready()
                callers = limit or await self._workers()
                known = True
                self._work.reached(callers)
                async with anyio.create_task_group() as tasks:
                    for _ in range(callers):
                        tasks.start_soon(self._calls)
        except Exception as exc:
            if not known:
                known = True
                self._work.lost(exc)
        finally:
            self._work.scopes.discard(scope)
            if not known:
                self._work.lost(SessionClosed("the map was given up"))

    async def _workers(self) -> int:
        workers = self._connection.settings.workers
        return 2 * (workers or await call(self._connection, os.cpu_count, (), None) or 1)

    async def _calls(self) -> None:
        """One call after another. Raises nothing."""
        work = self._work
        try:
            while True:
                try:
                    self._connection.check()
                except RemitError as exc:
                    work.trouble = exc
                    return
                if self._connection.state is not SessionState.OPEN:
                    await self._connection.ready()  # others take the items meanwhile
                    continue
                item = work.next()
                if item is not None:
                    await self._one(item)
                elif self._is_done():
                    return
                else:
                    await work.notifier.wait()
        except RemitError as exc:
            work.trouble = exc
        finally:
            work.left()

    def _is_done(self) -> bool:
        """Whether there is, and will be, nothing for it: what is under way may come back."""
        return not self._work.has_more and all(item.done for item in self._work.given)

    async def _one(self, item: _Item) -> None:
        work, begun = self._work, False

        def begin() -> None:
            nonlocal begun
            begun = True

        try:
            result = await call(self._connection, self._fn, (item.value,), self._python, begin)
        except (LinkLost, SessionClosed) as exc:
            work.lose(item, exc, may_have_run=begun)
        except Exception as exc:
            work.finish(item, error=exc)
        else:
            work.finish(item, result)


class FleetMapped(AsyncIterator[_T], Generic[_T]):
    """The values; see `Fleet.map`."""

    def __init__(
        self,
        members: Sequence[Member],
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        limit: int | None,
        retries: int,
        ordered: bool,
        return_exceptions: bool,
        python: str | None,
    ) -> None:
        self._work = _Work(iter(items), retries, len(members))
        self._targets = [_Target(self._work, member, fn, python) for member in members]
        self._limit = limit
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._begun = False
        self._closed = False

    def __aiter__(self) -> FleetMapped[_T]:
        return self

    async def __anext__(self) -> _T:
        await anyio.lowlevel.checkpoint()
        if self._closed:
            raise StopAsyncIteration
        if not self._begun:
            self._begun = True
            for target in self._targets:
                spawn(partial(target.run, self._limit))
        work = self._work
        while True:
            item = self._next_done()
            if item is not None:
                return self._taken(item)
            if not work.given and not work.has_more:
                self._close()
                raise StopAsyncIteration
            if work.is_hopeless:
                if not work.given and not work.has_another():
                    continue
                self._close()
                raise self._nobody_left()
            await work.notifier.wait()

    def _next_done(self) -> _Item | None:
        given = self._work.given
        for item in given:
            if item.done:
                given.remove(item)
                self._work.notifier.notify()  # there is room for another
                return item
            if self._ordered:
                return None
        return None

    def _taken(self, item: _Item) -> _T:
        if item.error is None:
            value: _T = item.result
            return value
        if self._return_exceptions:
            returned: Any = item.error
            return returned  # type: ignore[no-any-return]
        self._close()
        raise item.error

    def _nobody_left(self) -> Exception:
        trouble = self._work.trouble
        if isinstance(trouble, RemitError):
            return trouble.again()
        return trouble or SessionClosed("the fleet is closed")

    async def aclose(self) -> None:
        """Cancels the calls whose values have not come, and waits for that. Twice is quiet."""
        self._close()
        if self._begun:
            await outlast(self._work.over, GIVE_UP)
        await anyio.lowlevel.checkpoint()

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        if not self._closed:
            self._closed = True
            self._work.given.clear()
            self._work.stop()
