"""A start: what is checked here, what is asked there, and what is taken back."""

from __future__ import annotations

from functools import partial
from typing import Any

from remit._errors import JobStateError, LinkLost, SessionClosed
from remit._jobs.backing import Live
from remit._jobs.kept_job import KeptJob
from remit._jobs.options import StartSettings, Work
from remit._jobs.return_job import ReturnJob
from remit._jobs.starting import requested
from remit._session.connection import Connection


def announce(
    connection: Connection,
    work: Work,
    args: tuple[Any, ...],
    settings: StartSettings,
) -> Live:
    """A job that is not asked for yet. Raises ValueError, TypeError and JobStateError for what can
    never be right, and JobRefused where a plugin will not have it."""
    placement = connection.plugins.placement(settings.placement)
    request = requested(connection, work, args, settings, placement)
    if request.id in connection.seals:
        raise JobStateError(f"job {request.id} was given up; its id cannot be used again")
    if placement.spools:
        return KeptJob.asked(connection, request)
    return ReturnJob(connection, request)


async def begin(connection: Connection, job: Live, *, named: bool = False) -> None:
    """Asks for it, and waits for the answer. What fails, or is cancelled, is taken back. ``named``:
    its id is the caller's."""
    try:
        await job.begin()
    except BaseException as exc:
        # What has failed was not run for us. What ran under an id that the caller named is an
        # earlier start's then, and its job's results are there to be fetched.
        lost = not isinstance(exc, Exception) or isinstance(exc, (LinkLost, SessionClosed))
        await connection.tasks.see_through(partial(job.take_back, spare=named and not lost))
        raise
