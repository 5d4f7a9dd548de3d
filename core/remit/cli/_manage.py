"""``remit wait``, ``stop``, ``rm``, ``save``, ``suspend``, ``resume``: for jobs that are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from remit import Job, JobInfo, JobNotFound, JobState, RemitError
from remit.cli import _connecting, _endings, _jobs, _known, _where
from remit.cli._report import FAILED, LINK, OK, answer, report, say


async def wait(
    words: Sequence[str], on: str | None, *, any_: bool, timeout: float | None, status: bool = False
) -> int:
    """A line on stdout for each job, as it ends; FAILED unless all of them (``any_``: the first)
    are COMPLETED, TIMED_OUT where they are not in time. ``status``: the exit status of the one."""
    async with _where.jobs(words, on) as jobs:
        waiting = _Waiting(jobs, any_=any_)
        # With a limit of 0 this is all: no await below would come to its end.
        for job in jobs:
            if job.state.finished and not waiting.over:
                waiting.ended(job)
        with anyio.move_on_after(timeout):
            if not waiting.over:
                await waiting.follow()
        if not waiting.over:
            for job in waiting.jobs:
                answer(_line(job, job.state))
            say(f"remit: {timeout:g} s are over, {len(waiting.jobs)} not finished")
            return _endings.TIMED_OUT
        if status:
            return _endings.exit_status(jobs[0].state, jobs[0].outcome)
        return waiting.status


class _Waiting:
    """``jobs`` have not ended yet; ``over``: as many have as were waited for."""

    def __init__(self, jobs: Sequence[Job], *, any_: bool) -> None:
        self.jobs = list(jobs)
        self.status = OK
        self._left = len(jobs) - 1 if any_ else 0

    @property
    def over(self) -> bool:
        return len(self.jobs) <= self._left

    def ended(self, job: Job) -> None:
        answer(_line(job, job.state))
        self._done(job, OK if job.state is JobState.COMPLETED else FAILED)

    async def follow(self) -> None:
        """Returns once it is `over`."""
        async with anyio.create_task_group() as tasks:

            async def one(job: Job) -> None:
                try:
                    await job.wait()
                except RemitError as exc:
                    self._done(job, report(exc))
                else:
                    self.ended(job)
                if self.over:
                    tasks.cancel_scope.cancel()

            for job in list(self.jobs):
                tasks.start_soon(one, job)

    def _done(self, job: Job, status: int) -> None:
        self.status = max(self.status, status)
        self.jobs.remove(job)


def _line(job: Job, state: JobState) -> str:
    return "  ".join(
        filter(None, [job.id, job.name, state.capitalize(), _endings.words(job.outcome)])
    )


async def stop(words: Sequence[str], on: str | None, *, grace: float) -> int:
    """FAILED where something of a job outlived even KILL."""

    async def act(job: Job) -> int:
        survivors = await job.stop(grace)
        for process in survivors:
            say(f"remit: {job.id}: still there: {process}")
        if job.outcome is not None and job.outcome.reason == "link-lost":
            say(f"remit: {job.id} is Lost: whether it was stopped is not known")
            return LINK
        return FAILED if survivors else OK

    return await _each(words, on, act)


async def remove(words: Sequence[str], on: str | None, *, force: bool) -> int:
    async def act(job: Job) -> int:
        await job.remove(force=force)
        _known.drop(job.id, job._backing.port.target)
        return OK

    places = (
        []
        if on is not None or not force
        else [_where.place(word, None, exact=True) for word in words]
    )
    try:
        return await _each(words, on, act)
    except JobNotFound:
        # Who insists is rid of the note of a job that its target knows nothing of.
        for place in places:
            with suppress(RemitError):
                await _forget_unknown(place)
        raise


async def remove_finished(on: str | None) -> int:
    """All that have ended, of those that `remit jobs` lists."""
    found: list[JobInfo] = []
    if on is None:
        await _jobs.show_known(found.extend)
    else:
        async with _connecting.connect(on) as session:
            found += await session.jobs()
    over = [job.id for job in found if job.state.finished]
    return await remove(over, on, force=False) if over else OK


async def _forget_unknown(place: _where.Place) -> None:
    async with _connecting.connect(place.target) as session:
        if await session._is_gone(place.id) is None:
            _known.drop(place.id, place.target)
            say(f"remit: {place.id} is unknown on {place.target}; it is forgotten here")


async def suspend(words: Sequence[str], on: str | None) -> int:
    return await _each(words, on, lambda job: _done(job.suspend()))


async def resume(words: Sequence[str], on: str | None) -> int:
    return await _each(words, on, lambda job: _done(job.resume()), exact=False)


async def signal(word: str, on: str | None, name: str) -> int:
    return await _each([word], on, lambda job: _done(job.signal(name)))


async def save(word: str, on: str | None, path: str, *, stream: str) -> int:
    """To a file on the computer where the results are. A relative path begins at the account's
    home there, or at our own directory here; the answer is the whole path."""
    async with _where.jobs([word], on) as (job,):
        answer(await job.save(path, stream))
    return OK


async def _done(action: Awaitable[object]) -> int:
    await action
    return OK


async def _each(
    words: Sequence[str],
    on: str | None,
    act: Callable[[Job], Awaitable[int]],
    *,
    exact: bool = True,
) -> int:
    """All jobs at the same time; one that fails is told, and is not the others' trouble.
    ``exact``: none is meant by a name that several bear."""
    status = OK

    async def one(job: Job) -> None:
        nonlocal status
        try:
            status = max(status, await act(job))
        except RemitError as exc:
            status = max(status, report(exc))

    async with _where.jobs(words, on, exact=exact) as jobs, anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(one, job)
    return status
