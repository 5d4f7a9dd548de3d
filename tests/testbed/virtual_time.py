"""Time that jumps where every task waits: hours of a test are over at once, on either event loop.

Only for what is played in memory: a jump waits for no other process and for no thread.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

import trio.testing


class _Jumping(selectors.SelectSelector):
    """Sleeps in no time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:  # for a thread, then
            return super().select(None)
        self.now += timeout
        return ready


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own, which begins at 0."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        # What is due then is due: `asyncio` rounds by its clock's resolution.
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self._jumping.now


# For a fixture `anyio_backend` with these params and ids.
PARAMS: list[tuple[str, dict[str, Any]]] = [
    ("asyncio", {"loop_factory": JumpingLoop}),
    ("trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}),
]
IDS = ["asyncio-virtual", "trio-virtual"]
