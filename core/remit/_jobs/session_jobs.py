"""The jobs of one session that have handles, and what is told to all of them."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final, Protocol, TypeVar

import anyio

from remit._errors import RemitError
from remit._function_records import FunctionFailure
from remit._jobs.return_jobs import ReturnJobs
from remit._jobs.tasks import Tasks
from remit._link.link import Link
from remit._plugins import Plugins
from remit._types import JobInfo, JobState

# How long plugins are not told that a function failed because it is not known how.
_FAILURE_GRACE: Final = 5.0

_T = TypeVar("_T")


class Told(Protocol):
    """A job whose state is another now."""

    info: JobInfo
    result_at: int | None  # where what its function said last is, if it said how it ended

    async def failure_told(self) -> FunctionFailure | None:
        """How its function failed, where that is still to be had. Uses nothing up."""


class Watched(Protocol):
    """A kept job, watched over one link after another."""

    info: JobInfo

    def link_up(self, link: Link) -> None: ...

    def link_down(self) -> None: ...


class SessionJobs:
    """See the module. ``returned`` are the session's own return jobs."""

    def __init__(self, plugins: Plugins, tasks: Tasks) -> None:
        self.returned = ReturnJobs()
        self._plugins = plugins
        self._tasks = tasks
        self._watched: weakref.WeakSet[Watched] = weakref.WeakSet()
        # Jobs with a lease that were started here: their session is a caller of theirs to its end,
        # over each new link, whether their handles are dropped or not.
        self._leased: set[Watched] = set()

    def watch(self, job: Watched) -> None:
        """It is told of each link that comes or goes, as long as somebody holds it."""
        self._watched.add(job)

    def watch_leased(self, job: Watched) -> None:
        """The session is a caller of the job to its end, whoever holds it."""
        self._let_go()
        self._leased.add(job)

    def _let_go(self) -> None:
        """What is over has no callers any more."""
        self._leased = {job for job in self._leased if not job.info.state.finished}

    def unwatch(self, job: Watched) -> None:
        """Ends both. Quiet where neither was."""
        self._watched.discard(job)
        self._leased.discard(job)

    def changed(self, job: Told, old: JobState | None) -> None:
        """Has plugins told what is known of the job now."""
        info = job.info
        tell = partial(self._plugins.notify, "remit_job_changed", job=info, old=old, new=info.state)
        by_itself = info.state is JobState.FAILED and job.result_at is not None
        asked = by_itself and self._plugins.listens("remit_job_changed", "failure")
        if asked and self._tasks.are_run:
            self._tasks.take_back(partial(_tell_failure, job, tell))
        else:
            tell(failure=None)

    # -- what the session tells all of them

    def link_up(self, link: Link) -> None:
        self._let_go()
        self._tell(list(self._watched), lambda job: job.link_up(link))

    def link_down(self, error: RemitError) -> None:
        """Those that run return to nobody any more, and what is kept is out of sight."""
        self._tell(self.returned.running(), lambda job: job.link_over(error))
        self._tell(list(self._watched), lambda job: job.link_down())

    def _tell(self, jobs: Iterable[_T], tell: Callable[[_T], None]) -> None:
        """What one job makes of it is no other's trouble."""
        for job in jobs:
            try:
                tell(job)
            except Exception as exc:
                self._tasks.note(exc)


async def _tell_failure(job: Told, tell: Callable[..., None]) -> None:
    failure = None
    try:
        with anyio.move_on_after(_FAILURE_GRACE):
            failure = await job.failure_told()
    finally:
        tell(failure=failure)
