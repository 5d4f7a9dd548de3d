"""When a supervisor stops its job, for its timeout or its lease, and how: in steps, so that output
goes on between them. Python 3.6.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remit._jobdir.lease import Countdown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Callable

    from remit._agent.base.process_tree import Steps


class Stopping:
    def __init__(self) -> None:
        self.due: float | None = None  # when it goes on, by the monotonic clock; None: none is
        self.survivors: list[str] = []  # of the last one
        self._kill_at = 0.0
        self._steps: Steps[list[str]] | None = None

    @property
    def is_under_way(self) -> bool:
        return self.due is not None

    def begin(self, grace: float) -> None:
        """Anew, unless somebody asked before who has less patience."""
        now = time.monotonic()
        if not self.is_under_way or now + grace < self._kill_at:
            self._kill_at = now + grace
            self._steps = None
            self.due = now

    def go_on(self, steps_of: Callable[[float], Steps[list[str]]]) -> bool:
        """Takes the next step where it is due; whether that was the last. ``steps_of`` gives them
        all, by the seconds that are left until KILL."""
        now = time.monotonic()
        if self.due is None or now < self.due:
            return False
        # One that fails is over: the next turn begins anew.
        steps, self._steps = self._steps or steps_of(max(0.0, self._kill_at - now)), None
        try:
            pause = next(steps)
        except StopIteration as over:
            self.survivors = over.value
            self.due = None
            return True
        self._steps = steps
        self.due = time.monotonic() + pause
        return False


class Limits:
    """Each counts once. Times are those of the monotonic clock."""

    def __init__(self) -> None:
        self.lease: Countdown | None = None
        self.timeout: float | None = None

    def begin(self, timeout: float | None) -> None:
        if timeout is not None:
            self.timeout = time.monotonic() + timeout

    def open_lease(self, dir_fd: int, seconds: float) -> Countdown:
        """Its ``fd`` is to be watched by its ``look``."""
        self.lease = Countdown(dir_fd, seconds)
        return self.lease

    def drop_lease(self) -> None:
        """The job is stopped, whoever comes."""
        self.lease = None

    def due(self) -> Iterator[str]:
        """The reasons for which it is to be stopped now."""
        now = time.monotonic()
        if self.timeout is not None and now >= self.timeout:
            self.timeout = None
            yield "timeout"
        if self.lease is not None and self.lease.until is not None and now >= self.lease.until:
            yield "lease"

    @property
    def next(self) -> float | None:
        """When to look again."""
        ends = [self.timeout, None if self.lease is None else self.lease.until]
        return min((end for end in ends if end is not None), default=None)
