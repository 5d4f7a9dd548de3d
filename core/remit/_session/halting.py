"""Turns of many targets, and when a fleet stops giving them. Pure but for `Turns`' waiting."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Final

import anyio
import attrs

NEVER, SOON, NOW = "never", "soon", "now"
_WORDS: Final = (
    "halt must be 'never', 'soon' or 'now', the last two also with how many failures it takes: "
    "'soon,fail=3' or 'now,fail=10%%'; not %r"
)
_PATTERN: Final = re.compile(r"(never|soon|now)(?:,fail=([0-9]+)(%?))?")


@attrs.frozen
class Halt:
    """When no other target has its turn any more: after so many failures. ``now``: those that run
    are stopped as well."""

    failures: float = math.inf
    now: bool = False

    @classmethod
    def parse(cls, text: object, targets: int) -> Halt:
        """``never``; ``soon`` or ``now``, at the first failure or with ``,fail=N`` or
        ``,fail=N%`` of the targets. Raises TypeError and ValueError."""
        if not isinstance(text, str):
            raise TypeError(f"halt must be a str, not {type(text).__name__}")
        found = _PATTERN.fullmatch(text)
        if found is None or (found[1] == NEVER and found[2] is not None):
            raise ValueError(_WORDS % text)
        if found[1] == NEVER:
            return cls()
        count = int(found[2] or 1)
        if found[3]:
            if count > 100:
                raise ValueError(_WORDS % text)
            count = math.ceil(targets * count / 100)
        if found[2] is not None and int(found[2]) == 0:
            raise ValueError(_WORDS % text)
        return cls(max(count, 1), found[1] == NOW)


class Turns:
    """Of the targets of one piece of work: at most ``throttle`` at a time, until it is halted."""

    def __init__(self, throttle: int, halt: Halt, targets: int) -> None:
        self._limiter = anyio.CapacityLimiter(throttle)
        self._halt = halt
        self._targets = targets
        self._failed = 0
        self._waiting: set[anyio.CancelScope] = set()
        self._running: dict[object, Callable[[], None]] = {}

    @property
    def halted(self) -> str:
        """Why no other has its turn; empty while they have."""
        if self._failed < self._halt.failures:
            return ""
        return f"not started: {self._failed} of {self._targets} had failed"

    async def begin(self, who: object, stop: Callable[[], None]) -> bool:
        """Waits for its turn, which `end` ends. False where it is halted before. ``stop`` is called
        where what runs is halted."""
        with anyio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                if not self.halted:
                    await self._limiter.acquire_on_behalf_of(who)
            finally:
                self._waiting.discard(scope)
        if scope.cancelled_caught:
            return False
        if self.halted:
            self._release(who)
            return False
        self._running[who] = stop
        return True

    def end(self, who: object, *, failed: bool = False) -> None:
        """Its turn is over. A failure counts before another has its turn."""
        self._running.pop(who, None)
        if failed:
            self.failed()
        self._release(who)

    def _release(self, who: object) -> None:
        if who in self._limiter.statistics().borrowers:
            self._limiter.release_on_behalf_of(who)

    def failed(self) -> None:
        """One of the targets has failed."""
        self._failed += 1
        if self.halted:
            for scope in self._waiting:
                scope.cancel()
            if self._halt.now:
                for stop in list(self._running.values()):
                    stop()
