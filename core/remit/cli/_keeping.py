"""A job that is kept on its target, and a note here of where it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from remit import Job, JobInfo, JobStateError, LinkLost
from remit.cli import _connecting, _known, _local
from remit.cli._known import Note
from remit.cli._report import say
from remit.cli._work import Work


@asynccontextmanager
async def kept(
    target: str, job_id: str, work: Work, limits: Mapping[str, Any]
) -> AsyncGenerator[Job]:
    """Starts it; the session is open as long as the block.

    The note comes first: a job that nobody knows of would be worse than one that is not there.
    """
    async with _connecting.connect(target) as session:
        if work.name is not None:
            refuse_borne(work.name, await session.jobs())
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
            job = await session.start(
                work.words(), placement="keep", id=job_id, **work.options(), **limits
            )
        except LinkLost:
            say(f"remit: {job_id} may run on {target}; `remit jobs` will tell")
            raise
        except BaseException:
            _known.drop(job_id, target)
            raise
        if job_id in _local.ids():
            # It is in our own state directory, which is looked at anyway.
            _known.drop(job_id, target)
        yield job


def refuse_borne(name: str, jobs: Iterable[JobInfo]) -> None:
    """Two unfinished jobs of one name could not be told apart by it."""
    for job in jobs:
        if job.name == name and not job.state.finished:
            raise JobStateError(
                f"there is an unfinished job {name!r} already",
                evidence=f"{job.id}  {job.location}",
                hint=f"another --name, or `remit stop {job.id}`",
            )
