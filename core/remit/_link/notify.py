"""A notifier: wakes whoever waits for it. For "something changed, look again"."""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from remit._link.background import Home

_T = TypeVar("_T")


class Notifier:
    """Works in one event loop: that in which it was made. Who looks, finds nothing and waits with
    no await between misses nothing."""

    def __init__(self, what: str | Home = "this") -> None:
        """``what`` it belongs to, for who waits in another loop; or the loop, where that is
        known."""
        self._event: anyio.Event | None = None
        self._others: weakref.WeakSet[Notifier] | None = None
        self._home = Home(what) if isinstance(what, str) else what

    def notify(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None
        if self._others is not None:
            for other in self._others:
                other.notify()

    def hand_on(self, other: Notifier) -> None:
        """``other`` is notified as well, for as long as somebody holds it."""
        if self._others is None:
            self._others = weakref.WeakSet()
        self._others.add(other)

    def check(self) -> None:
        """Raises RuntimeError in another event loop."""
        self._home.check()

    async def wait(self) -> None:
        """Raises RuntimeError in another event loop, where it would wait for ever."""
        self.check()
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()


class Changes(AsyncIterator[_T], Generic[_T]):
    """The values of something from now on, beginning with the present one, until one is the last.

    Values that come while nobody asks are merged. It holds no task and may be dropped anywhere.
    """

    def __init__(
        self,
        notifier: Notifier,
        look: Callable[[], _T],
        is_last: Callable[[_T], bool],
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """``check`` is called before each wait, and may raise where no other value can come."""
        self._notifier = notifier
        self._look = look
        self._is_last = is_last
        self._check = check
        self._told: _T | None = None

    def __aiter__(self) -> Changes[_T]:
        return self

    async def __anext__(self) -> _T:
        if self._told is not None and self._is_last(self._told):
            raise StopAsyncIteration
        await anyio.lowlevel.checkpoint()
        while self._look() == self._told:
            self._check()
            await self._notifier.wait()
        self._told = self._look()
        return self._told
