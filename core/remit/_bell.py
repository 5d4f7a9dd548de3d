"""A bell: whoever waits when it rings goes on. For "something changed, look again"."""

from __future__ import annotations

import anyio


class Bell:
    """Works in one event loop. Who looks, finds nothing and waits with no await between misses
    no ring."""

    def __init__(self) -> None:
        self._event: anyio.Event | None = None

    def ring(self) -> None:
        if self._event is not None:
            self._event.set()
            self._event = None

    async def wait(self) -> None:
        if self._event is None:
            self._event = anyio.Event()
        await self._event.wait()
