"""``remit wait``, ``stop``, ``rm``, ``save``, ``suspend``, ``resume``: for jobs that are there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import anyio

from remit import Job, JobState, RemitError
from remit.cli import _endings, _known, _where
from remit.cli._report import FAILED, OK, answer, report, say


async def wait(words: Sequence[str], on: str | None, *, any_: bool, timeout: float | None) -> int:
    """A line on stdout for each job, as it ends; FAILED unless all of them (``any_``: the first)
    are COMPLETED in time."""
    status = OK
    async with _where.jobs(words, on) as jobs:
        waiting = list(jobs)
        with anyio.move_on_after(timeout):
            async with anyio.create_task_group() as tasks:

                async def follow(job: Job) -> None:
                    nonlocal status
                    try:
                        state = await job.wait()
                    except RemitError as exc:
                        status = max(status, report(exc))
                    else:
                        answer(_line(job, state))
                        if state is not JobState.COMPLETED:
                            status = max(status, FAILED)
                    waiting.remove(job)
                    if any_ or not waiting:
                        tasks.cancel_scope.cancel()

                for job in jobs:
                    tasks.start_soon(follow, job)
            return status
        for job in waiting:
            answer(_line(job, job.state))
        say(f"remit: {timeout:g} s are over, {len(waiting)} not finished")
        return FAILED


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
        return FAILED if survivors else OK

    return await _each(words, on, act)


async def remove(words: Sequence[str], on: str | None, *, force: bool) -> int:
    async def act(job: Job) -> int:
        await job.remove(force=force)
        _known.drop(job.id, job._session.target)
        return OK

    return await _each(words, on, act)


async def suspend(words: Sequence[str], on: str | None) -> int:
    return await _each(words, on, lambda job: _done(job.suspend()))


async def resume(words: Sequence[str], on: str | None) -> int:
    return await _each(words, on, lambda job: _done(job.resume()))


async def save(word: str, on: str | None, path: str, *, stream: str) -> int:
    """To a file on the computer where the results are. A relative path begins at the account's
    home there, or at our own directory here; the answer is the whole path."""
    async with _where.jobs([word], on) as (job,):
        answer(await job.save(path, stream))
    return OK


async def _done(action: Awaitable[object]) -> int:
    await action
    return OK


async def _each(words: Sequence[str], on: str | None, act: Callable[[Job], Awaitable[int]]) -> int:
    """All jobs at the same time; one that fails is told, and is not the others' trouble."""
    status = OK

    async def one(job: Job) -> None:
        nonlocal status
        try:
            status = max(status, await act(job))
        except RemitError as exc:
            status = max(status, report(exc))

    async with _where.jobs(words, on) as jobs, anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(one, job)
    return status
