"""``remit start``: a job that goes on without us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import anyio

import remit
from remit import LinkLost, RemitError
from remit.cli import _known, _local
from remit.cli._known import Note
from remit.cli._report import OK, answer, report, say
from remit.cli._work import Work

Begin = Callable[[str, str, Work], Awaitable[None]]


async def start(targets: Sequence[str], work: Work, *, keep: bool, throttle: int) -> int:
    """Prints each job's id as soon as its target has answered; returns the worst exit status."""
    if keep:
        begin: Begin = _keep
    else:
        from remit.cli._collecting import collect

        begin = collect
    status = OK
    limiter = anyio.CapacityLimiter(throttle)

    async def one(target: str) -> None:
        nonlocal status
        job_id = remit.new_job_id()
        try:
            async with limiter:
                await begin(target, job_id, work)
        except (RemitError, OSError) as exc:
            status = max(status, report(exc))
        else:
            answer(job_id)

    async with anyio.create_task_group() as tasks:
        for target in targets:
            tasks.start_soon(one, target)
    return status


async def _keep(target: str, job_id: str, work: Work) -> None:
    """A job that is kept on its target, and a note here of where it is.

    The note comes first: a job that nobody knows of would be worse than one that is not there.
    """
    async with remit.connect(target) as session:
        _known.write(
            Note(
                id=job_id,
                target=target,
                name=work.name,
                command=work.command,
                location=session.location,
                created=datetime.now(UTC),
            )
        )
        try:
            await session.start(
                work.words(),
                placement="keep",
                id=job_id,
                name=work.name,
                cwd=work.cwd,
                env=work.env,
                timeout=work.timeout,
            )
        except LinkLost:
            say(f"remit: {job_id} may run on {target}; `remit jobs` will tell")
            raise
        except BaseException:
            _known.drop(job_id)
            raise
    if job_id in _local.ids():
        # It is in our own state directory, which is looked at anyway.
        _known.drop(job_id)
