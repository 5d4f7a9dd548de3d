"""The agent's event loop: file descriptors and timers, in one thread.

What is watched or put off belongs to whoever is being served just then: where such a call fails,
its owner is told, and the others go on. Of what is nobody's, stderr is told.
"""

from __future__ import annotations

import heapq
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    # Is given the exception by which a call failed that was made for it.
    Owner = Callable[[Exception], object]


READ, WRITE = select.POLLIN, select.POLLOUT
# What else may be told of a descriptor concerns both who reads and who writes there.
_BAD = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Timer:
    """A call that is to come, until it is cancelled. Cancelling twice, or too late, is quiet."""

    __slots__ = ("callback", "owner")

    def __init__(self, callback: Callable[[], object], owner: Owner | None) -> None:
        self.callback: Callable[[], object] | None = callback
        self.owner = owner

    def cancel(self) -> None:
        self.callback = None


class Loop:
    def __init__(self) -> None:
        # The plain objects: the module selectors takes three times as long for a turn.
        if hasattr(select, "epoll"):
            self._poll: Any = select.epoll()
            self._unit = 1.0  # of its time limit, per second
        else:
            self._poll = select.poll()
            self._unit = 1000.0
        # Who is being served now.
        self.owner: Owner | None = None
        # fd: the callback for each of the two events, and whose it is
        self._watched: dict[int, dict[int, tuple[Callable[[], object], Owner | None]]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0  # tells apart timers of the same moment
        self._tidy_at = 64

    def watch_fd(self, fd: int, callback: Callable[[], object]) -> None:
        """Calls ``callback`` in each turn in which ``fd`` can be read, or is at its end."""
        self._watch(fd, READ, callback)

    def unwatch_fd(self, fd: int) -> None:
        """Quiet where ``fd`` is not watched. To be called before ``fd`` is closed."""
        self._unwatch(fd, READ)

    def watch_writable(self, fd: int, callback: Callable[[], object]) -> None:
        self._watch(fd, WRITE, callback)

    def unwatch_writable(self, fd: int) -> None:
        self._unwatch(fd, WRITE)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        timer = Timer(callback, self.owner)
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
        happened = self._poll.poll(None if most is None else most * self._unit)
        # An earlier call of this turn may end a watch, which empties what is looked up here, and
        # begin one of another file by the same number, to which nothing has happened.
        seen = [(self._watched.get(fd, _NOTHING), fd, events) for fd, events in happened]
        for watches, fd, events in seen:
            for event in (READ, WRITE):
                if events & (event | _BAD):
                    watch = watches.get(event)
                    if watch is not None and not self.call_for(watch[1], watch[0]):
                        self._unwatch(fd, event)
        if not self._timers:
            return
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:
            timer = heapq.heappop(self._timers)[2]
            if timer.callback is not None:
                self.call_for(timer.owner, timer.callback)

    def _drop_cancelled(self) -> None:
        while self._timers and self._timers[0][2].callback is None:
            heapq.heappop(self._timers)

    def call_for(self, owner: Owner | None, function: Callable[..., object], *args: object) -> bool:
        """Calls it on behalf of ``owner``, who is told where it fails; whether it did not."""
        before, self.owner = self.owner, owner
        try:
            function(*args)
        except Exception as exc:
            try:
                if owner is None:
                    raise
                owner(exc)
            except Exception:
                report()
            return False
        finally:
            self.owner = before
        return True

    def bound(self, function: Callable[..., object]) -> Callable[..., object]:
        """``function`` for whoever is being served now, whoever will call it."""
        owner = self.owner
        return lambda *args: self.call_for(owner, function, *args)

    def _watch(self, fd: int, event: int, callback: Callable[[], object]) -> None:
        callbacks = self._watched.get(fd)
        if callbacks is None:
            self._poll.register(fd, event)
            self._watched[fd] = {event: (callback, self.owner)}
        else:
            callbacks[event] = (callback, self.owner)
            self._poll.modify(fd, _events(callbacks))

    def _unwatch(self, fd: int, event: int) -> None:
        callbacks = self._watched.get(fd)
        if callbacks is None or callbacks.pop(event, None) is None:
            return
        if callbacks:
            self._poll.modify(fd, _events(callbacks))
        else:
            self._poll.unregister(fd)
            del self._watched[fd]


_NOTHING: dict[int, tuple[Callable[[], object], Owner | None]] = {}


def _events(callbacks: dict[int, Any]) -> int:
    events = 0
    for event in callbacks:
        events |= event
    return events


def nothing(*_: object) -> None:
    """For a call whose only purpose is to wake the loop, and for who wants to hear no more."""


def report() -> None:
    """Writes the exception being handled to stderr."""
    import sys

    sys.excepthook(*sys.exc_info())
