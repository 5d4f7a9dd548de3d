"""When a kept job that runs is to be stopped: its timeout, its lease. Python 3.6."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remit._jobdir.lease import Countdown

if TYPE_CHECKING:
    from collections.abc import Iterator


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
