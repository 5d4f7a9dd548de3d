"""What the names of `remit.blocking` have of those with ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

from remit._portal import Portal

_F = TypeVar("_F", bound=Callable[..., Any])
_T = TypeVar("_T")


def like(source: Any, *, signature: bool = False) -> Callable[[_F], _F]:
    """Gives a function the docstring of ``source``, which does the same with ``await``, and with
    ``signature`` has `inspect` tell that of ``source``."""

    def tell(function: _F) -> _F:
        function.__doc__ = source.__doc__
        if signature:
            function.__wrapped__ = source  # type: ignore[attr-defined]
        return function

    return tell


class Steps(Iterator[_T], Generic[_T]):
    """An async iterator, a step at a time. What has come when Ctrl-C breaks a step off comes at the
    next one."""

    def __init__(self, portal: Portal, items: AsyncIterator[_T]) -> None:
        self._portal = portal
        self._items = items
        self._fetched: list[_T] = []  # at most one

    def __iter__(self) -> Steps[_T]:
        return self

    def __next__(self) -> _T:
        while not self._fetched:
            if not self._portal.call(self._fetch):
                raise StopIteration
        # In steps between which no signal handler runs: it is fetched, or returned.
        item = self._fetched[0]
        del self._fetched[0]
        return item

    async def _fetch(self) -> bool:
        """Whether there is a next item."""
        try:
            self._fetched.append(await anext(self._items))
        except StopAsyncIteration:
            return False
        return True
