"""The targets of a fleet, opened so many at a time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import anyio

from remit._errors import RemitError
from remit._session.session import Session
from remit._types import SessionState


class Member:
    """One target, and the session with it, which is opened when its turn comes."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.target = session.target

    async def ready(self) -> None:
        """Waits until its session is open. Raises why it is not, and never will be."""
        await self.session._connection.ready()


class Opening:
    """How the sessions of a fleet are opened: at most ``throttle`` on their way at a time."""

    def __init__(self, members: Sequence[Member], throttle: int) -> None:
        self._members = members
        self._limiter = anyio.CapacityLimiter(throttle)

    async def run(
        self,
        start_soon: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        open_soon: Callable[[Session], None],
    ) -> None:
        """Opens all, in their order, and returns once the last is on its way."""
        for member in self._members:
            await self._limiter.acquire_on_behalf_of(member)
            session = member.session
            if session.state is SessionState.OPENING and not session._connection.closing:
                open_soon(session)
            start_soon(self._watch(member))

    def _watch(self, member: Member) -> Callable[[], Coroutine[Any, Any, None]]:
        async def watch() -> None:
            try:
                await member.ready()
            except RemitError:
                pass  # whoever wants to use it is told
            finally:
                self._limiter.release_on_behalf_of(member)

        return watch
