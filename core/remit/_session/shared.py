"""Sessions that many tasks use: one for each target, opened once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from remit._errors import RemitError, SessionClosed
from remit._session.session import Session
from remit._session.settings import Settings
from remit._types import SessionState

Key = tuple[str, Settings]
_Task = Callable[[], Coroutine[Any, Any, None]]


class _Opening:
    """One session on its way, and all who wait for it."""

    def __init__(self) -> None:
        self.over = anyio.Event()
        self.session: Session | None = None
        self.error: Exception | None = None

    async def result(self) -> Session:
        await self.over.wait()
        if self.session is not None:
            return self.session
        assert self.error is not None
        raise self.error.again() if isinstance(self.error, RemitError) else self.error


class SharedSessions:
    """Of one hub. ``start_soon`` runs in a task of the hub's: whoever asked first may be cancelled,
    and the others get the session all the same."""

    def __init__(self, start_soon: Callable[[_Task], object]) -> None:
        self._start_soon = start_soon
        self._openings: dict[Key, _Opening] = {}
        self._sessions: dict[Key, Session] = {}

    async def get(self, key: Key, connect: Callable[[], Awaitable[Session]]) -> Session:
        """The session of ``key``; where there is none, or it is over, one by ``connect``."""
        session = self._sessions.get(key)
        if session is not None and not _over(session):
            await anyio.lowlevel.checkpoint()
            return session
        opening = self._openings.get(key)
        if opening is None:
            opening = self._openings[key] = _Opening()
            self._start_soon(partial(self._open, key, opening, connect))
        return await opening.result()

    async def _open(
        self, key: Key, opening: _Opening, connect: Callable[[], Awaitable[Session]]
    ) -> None:
        try:
            opening.session = self._sessions[key] = await connect()
        except Exception as exc:
            opening.error = exc
        finally:
            if opening.session is None and opening.error is None:
                opening.error = SessionClosed("the hub was closed")
            del self._openings[key]
            opening.over.set()


def _over(session: Session) -> bool:
    return session.state is SessionState.BROKEN or session._connection.closing
