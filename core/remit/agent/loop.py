"""The agent's event loop: file descriptors and timers, in one thread.

A callback that fails is reported on stderr and given up; the others go on.
"""

from __future__ import annotations

import heapq
import selectors
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable


class Timer:
    """A call that is to come, until it is cancelled. Cancelling twice, or too late, is quiet."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        # fd: the callback for each of the selector's two events
        self._watched: dict[int, dict[int, Callable[[], object]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0  # tells apart timers of the same moment
        self._tidy_at = 64

    def watch_fd(self, fd: int, callback: Callable[[], object]) -> None:
        """Calls ``callback`` in each turn in which ``fd`` can be read, or is at its end."""
        self._watch(fd, selectors.EVENT_READ, callback)

    def unwatch_fd(self, fd: int) -> None:
        """Quiet where ``fd`` is not watched. To be called before ``fd`` is closed."""
        self._unwatch(fd, selectors.EVENT_READ)

    def watch_writable(self, fd: int, callback: Callable[[], object]) -> None:
        self._watch(fd, selectors.EVENT_WRITE, callback)

    def unwatch_writable(self, fd: int) -> None:
        self._unwatch(fd, selectors.EVENT_WRITE)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(callback)
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + seconds, self._count, timer))
        if len(self._timers) > self._tidy_at:
            # Cancelled ones that are due only in a day must not pile up until then.
            self._timers = [entry for entry in self._timers if entry[2].callback is not None]
            heapq.heapify(self._timers)
            self._tidy_at = 64 + 2 * len(self._timers)
        return timer

    def turn(self, most: float | None) -> None:
        """Waits for something to happen, ``most`` seconds at most, and makes the calls due."""
        self._drop_cancelled()
        if self._timers:
            wait = max(0.0, self._timers[0][0] - time.monotonic())
            most = wait if most is None else min(wait, most)
        for key, events in self._selector.select(most):
            for event in (selectors.EVENT_READ, selectors.EVENT_WRITE):
                if events & event:
                    # An earlier call of this turn may have ended the watch.
                    callback = self._watched.get(key.fd, {}).get(event)
                    if callback is not None and not self._call(callback):
                        self._unwatch(key.fd, event)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self._call(timer.callback)

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)

    def _call(self, callback: Callable[[], object]) -> bool:
        try:
            callback()
        except Exception:
            report()
            return False
        return True

    def _watch(self, fd: int, event: int, callback: Callable[[], object]) -> None:
        callbacks = self._watched.get(fd)
        if callbacks is None:
            self._selector.register(fd, event)
            self._watched[fd] = {event: callback}
        else:
            callbacks[event] = callback
            self._selector.modify(fd, _events(callbacks))

    def _unwatch(self, fd: int, event: int) -> None:
        callbacks = self._watched.get(fd)
        if callbacks is None or callbacks.pop(event, None) is None:
            return
        if callbacks:
            self._selector.modify(fd, _events(callbacks))
        else:
            self._selector.unregister(fd)
            del self._watched[fd]


def _events(callbacks: dict[int, Callable[[], object]]) -> int:
    events = 0
    for event in callbacks:
        events |= event
    return events


def report() -> None:
    """Writes the exception being handled to stderr."""
    import sys

    sys.excepthook(*sys.exc_info())
