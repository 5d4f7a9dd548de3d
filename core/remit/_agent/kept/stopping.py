"""How a supervisor stops its job: in steps, so that output goes on between them. Python 3.6."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
