"""One piece of work on many targets: what comes of it on each."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import anyio
import anyio.lowlevel
import attrs

from remit._errors import JobFailed, RemitError
from remit._jobs.group import failure_of, group_failed
from remit._link.background import outlast, spawn
from remit._link.notify import Notifier
from remit._public import named_as_written
from remit._session.halting import Turns
from remit._session.members import Member
from remit._session.session import Session
from remit._types import CommandResult

_T = TypeVar("_T")

# Seconds that what is given up may take to be taken back on the targets.
GIVE_UP = 12.0


@attrs.frozen
class TargetResult(Generic[_T]):
    """What came of one target: ``result``, or the ``error`` that stands in its place.

    ``target`` is the target as it was given. A command that exited has a result, whatever its exit
    status, unless ``check`` was asked for.
    """

    target: str
    result: _T | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        """Whether there is a result and, of a command, its exit status is 0."""
        if self.error is not None:
            return False
        return not isinstance(self.result, CommandResult) or self.result.exit_status == 0


@attrs.define(eq=False)
class _One:
    """One target of it."""

    number: int
    member: Member
    scope: anyio.CancelScope = attrs.field(factory=anyio.CancelScope)
    result: TargetResult[Any] | None = None


class _Shared:
    """What the tasks of it hold, and not who waits for them."""

    def __init__(self, members: Sequence[Member], turns: Turns) -> None:
        self.ones = [_One(number, member) for number, member in enumerate(members)]
        self.turns = turns
        self.notifier = Notifier("the results of a fleet")
        self.ready: deque[TargetResult[Any]] = deque()
        self.left = len(self.ones)
        self.over = anyio.Event()

    async def run(self, one: _One, work: Callable[[Session], Awaitable[Any]]) -> None:
        """Raises nothing."""
        target = one.member.target
        result: TargetResult[Any] | None = None
        try:
            with one.scope:
                result = await self._one(one, work)
        finally:
            if result is None:
                result = TargetResult(target, error=self._given_up(one))
            one.result = result
            self.ready.append(result)
            self.left -= 1
            if not self.left:
                self.over.set()
            self.notifier.notify()

    async def _one(
        self, one: _One, work: Callable[[Session], Awaitable[Any]]
    ) -> TargetResult[Any] | None:
        target, result = one.member.target, None
        try:
            await one.member.ready()
        except RemitError as exc:
            self.turns.failed()
            return TargetResult(target, error=exc)
        if not await self.turns.begin(one, one.scope.cancel):
            return None
        try:
            result = TargetResult(target, await work(one.member.session))
        except Exception as exc:
            result = TargetResult(target, error=exc)
        finally:
            self.turns.end(one, failed=result is not None and not result.ok)
        return result

    def _given_up(self, one: _One) -> JobFailed:
        location = one.member.session.location
        why = self.turns.halted or "given up"
        return JobFailed(f"{location}: {why}", location=location, reason="stopped")

    def cancel(self) -> None:
        for one in self.ones:
            one.scope.cancel()


class Results(AsyncIterator[TargetResult[_T]], Generic[_T]):
    """What comes of a piece of work on the targets of a fleet; see `Fleet.run`.

    ``await`` it for a list in the order of the targets, or take the results as they come by ``async
    for``: nothing is sent before that. Leaving the loop early, ``aclose()``, or a cancel of who
    waits gives up what has not come: as a cancel of the work on one target does.
    """

    def __init__(
        self,
        members: Sequence[Member],
        turns: Turns,
        work: Callable[[Session], Awaitable[_T]],
        *,
        check: bool,
    ) -> None:
        self._shared = _Shared(members, turns)
        self._work = work
        self._check = check
        self._begun = False
        self._given = 0

    def __repr__(self) -> str:
        return f"<remit.Results: {self._shared.left} of {len(self._shared.ones)} to come>"

    def __await__(self) -> Generator[Any, None, list[TargetResult[_T]]]:
        return self.all().__await__()

    async def all(self) -> list[TargetResult[_T]]:
        """All of them, in the order of the targets; those that were given before, too. Raises
        GroupFailed with ``check`` where any has no result, once all are over."""
        self._begin()
        try:
            await self._shared.over.wait()
        except BaseException:
            self._shared.cancel()
            await outlast(self._shared.over, GIVE_UP)
            raise
        results = [one.result for one in self._shared.ones if one.result is not None]
        self._given = len(results)
        self._judge(results)
        return results

    def __aiter__(self) -> Results[_T]:
        return self

    async def __anext__(self) -> TargetResult[_T]:
        await anyio.lowlevel.checkpoint()
        self._begin()
        shared = self._shared
        if self._given == len(shared.ones):
            self._judge([one.result for one in shared.ones if one.result is not None])
            raise StopAsyncIteration
        while not shared.ready:
            await shared.notifier.wait()
        self._given += 1
        return shared.ready.popleft()

    async def aclose(self) -> None:
        """Gives up what has not come, and waits for that. Twice is quiet."""
        if not self._begun:
            self._begun = True
            self._given = len(self._shared.ones)
            return
        self._shared.cancel()
        await outlast(self._shared.over, GIVE_UP)

    def __del__(self) -> None:
        self._shared.cancel()

    def _begin(self) -> None:
        if not self._begun:
            self._begun = True
            for one in self._shared.ones:
                spawn(partial(self._shared.run, one, self._work))

    def _judge(self, results: list[TargetResult[_T]]) -> None:
        failures = [failure_of(one.error, one.target) for one in results if one.error is not None]
        if self._check and failures:
            raise group_failed([one.result for one in results], failures)


named_as_written(__name__)
