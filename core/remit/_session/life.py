"""The life of a session: one link after another, until it is closed or given up."""

from __future__ import annotations

import anyio

from remit._errors import ConnectError, LinkLost, RemitError
from remit._link.background import outlast
from remit._link.statuses import WAITING
from remit._session.backoff import Backoff
from remit._session.connection import Connection
from remit._session.dialing import Dialing
from remit._session.farewell import Callers
from remit._types import SessionState


class Life:
    """Of one session. Times are the event loop's, so a loop whose clock jumps makes them short."""

    def __init__(self, connection: Connection, dialer: Dialing, retries: int = 0) -> None:
        """``retries``: how often the first link is tried for again."""
        self._connection = connection
        self._dialer = dialer
        self._retries = retries
        self._scope = anyio.CancelScope()
        self._begun = False
        self._gone = anyio.Event()

    async def serve(self) -> None:
        """Everything the session does by itself, in one task of its hub. Raises nothing."""
        if self._gone.is_set():
            return
        self._begun = True
        try:
            async with self._connection.stores.serving():
                await self._talk_on()
        finally:
            self._gone.set()

    async def _talk_on(self) -> None:
        """Its life but for what its stores still have to do."""
        try:
            with self._scope:
                await self._connection.tasks.run(self._live, self._break)
        finally:
            self._connection.over()

    async def _live(self) -> None:
        """One link after another; the connection's ``trouble`` says why there is no other."""
        connection = self._connection
        backoff = Backoff(connection.settings.reconnect, self._retries)
        while True:
            try:
                lost = await self._dialer.converse(connection)
            except ConnectError as exc:
                if exc.lasting or backoff.is_over(anyio.current_time()):
                    connection.trouble = self._given_up(connection.trouble, exc)
                    return
            else:
                if connection.closing or connection.state is not SessionState.RECONNECTING:
                    connection.trouble = lost
                    return
                backoff.lost(anyio.current_time())
            pause = backoff.pause(anyio.current_time())
            self._dialer.statuses.tell(WAITING, f"{pause:.1f}")
            await anyio.sleep(pause)

    def _given_up(self, lost: RemitError | None, exc: ConnectError) -> RemitError:
        if lost is None:
            return exc  # there never was a link
        why = f"for {self._connection.settings.reconnect:g} s there was no new one"
        if exc.lasting:
            why = "no new one can be made"
        return LinkLost(
            f"{lost.message}, and {why}",
            evidence="\n".join(filter(None, [lost.evidence, f"last    {exc.message}"])),
            hint=exc.hint,
        )

    def _break(self, exc: Exception) -> None:
        self._connection.broken(exc)
        self._scope.cancel()

    # -- its end

    async def aclose(self) -> None:
        """As `Session.aclose`."""
        connection = self._connection
        connection.home.check()
        self.never_begin()
        if not connection.closing:
            connection.closing = True
            if connection.tasks.are_run and connection.state is SessionState.OPEN:
                connection.tasks.start_soon(self._part, failed=self._break)
            else:
                connection.parting = True
                self._scope.cancel()
        await outlast(self._gone)

    def never_begin(self) -> None:
        """Ends it where nobody serves it yet."""
        if not self._begun and not self._gone.is_set():
            self._connection.closing = self._connection.parting = True
            self._gone.set()
            self._connection.over()

    async def _part(self) -> None:
        """Lets what is being taken back come to its end, and takes leave of the agent."""
        connection = self._connection
        await connection.tasks.taken_back()
        connection.parting = True
        link = connection.link
        if link is not None:
            link.goodbye()
            with Callers.leaving():
                await connection.unlinked(link)
        self._scope.cancel()

    def abandon(self) -> None:
        """Ends it without a word to the target, which may hear none: `aclose` has nothing to wait
        for then."""
        self._connection.closing = True
        self._scope.cancel()
