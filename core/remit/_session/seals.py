"""Starts that were given up, until the target has sealed their ids: none may run later.

An id stays owed until the target has answered to it, whichever link that comes over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Final

import anyio

from remit._errors import JobNotFound, LinkLost, RemitError
from remit._jobs.tasks import Tasks
from remit._link.link import Link
from remit._link.messages import Nothing, Sealed

# How many are owed at most; the oldest are forgotten then. Each takes some 150 bytes.
MOST: Final = 10_000
# Seconds before each further try over one link, where the target refuses.
PAUSES: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class Seals:
    """See the module. Those of one session."""

    def __init__(self, tasks: Tasks, ready: Callable[[], Awaitable[Link]]) -> None:
        """``ready`` gives the link, once there is one."""
        self._tasks = tasks
        self._ready = ready
        self._owed: dict[str, bool] = {}  # and whether what ran under the id is spared
        self._insisting: Link | None = None
        self._tries = 0  # since the last one came to be owed

    def __len__(self) -> int:
        return len(self._owed)

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._owed

    def owe(self, job_id: str, *, spare: bool) -> None:
        """``spare``: what ran under the id before is somebody else's, and stays."""
        self._owed[job_id] = spare
        self._tries = 0
        if len(self._owed) > MOST:
            del self._owed[next(iter(self._owed))]

    async def give_up(self, link: Link | None, job_id: str, *, spare: bool) -> None:
        """As `remit._jobs.port.Port.give_up`, over ``link``."""
        self.owe(job_id, spare=spare)
        if link is None:
            self._tasks.take_back(partial(self._settle_later, job_id))
        else:
            await self._settle(link, [job_id])

    def link_up(self, link: Link) -> None:
        """What is owed is settled over the new link."""
        if self._owed:
            self._tasks.take_back(partial(self._settle, link))

    async def _settle_later(self, job_id: str) -> None:
        await self._settle(await self._ready(), [job_id])

    async def _settle(self, link: Link, job_ids: list[str] | None = None) -> None:
        if not await self.settle(link, job_ids):
            # Not as what is being taken back: no close waits for a target that refuses.
            self._tasks.start_soon(self.insist, link, failed=self._tasks.note)

    async def settle(self, link: Link, job_ids: list[str] | None = None) -> bool:
        """Has those sealed over this link, by default all that are owed; and has what ran under
        them removed. True where there is nothing left to try over it. Cancelled, and where the
        link is lost, those that were not answered to are still owed."""
        done = True
        with suppress(LinkLost):
            for job_id in list(self._owed) if job_ids is None else job_ids:
                done = await self._seal(link, job_id) and done
            return done
        return True

    async def insist(self, link: Link) -> None:
        """Tries again, and again, what was refused over this link; once at a time."""
        if self._insisting is link:
            return
        self._insisting, self._tries = link, 0
        while self._insisting is link and self._tries < len(PAUSES):
            pause = PAUSES[self._tries]
            self._tries += 1
            await anyio.sleep(pause)
            if await self.settle(link):
                break
        if self._insisting is link:
            self._insisting = None

    async def _seal(self, link: Link, job_id: str) -> bool:
        """Whether it is not owed any more. Raises LinkLost."""
        spare = self._owed.get(job_id)
        if spare is None:
            return True
        try:
            if (await link.ask("seal", {"job": job_id}, Sealed)).ran and not spare:
                with suppress(JobNotFound):  # an earlier try has removed it
                    await link.ask("remove", {"job": job_id, "force": True}, Nothing)
        except LinkLost:
            raise
        except RemitError:
            if not spare:
                return False
            # Whether there is an earlier one is not known: its caller may ask again.
        self._owed.pop(job_id, None)
        return True
