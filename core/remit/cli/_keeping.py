"""A job that is kept on its target, and a note here of where it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from remit import Job, LinkLost
from remit._jobs.options import StartSettings
from remit.cli import _connecting, _known, _local
from remit.cli._known import Note
from remit.cli._report import say
from remit.cli._work import Work


@asynccontextmanager
async def kept(
    target: str, job_id: str, work: Work, limits: Mapping[str, Any]
) -> AsyncGenerator[Job]:
    """Starts it; the session is open as long as the block. Raises JobStateError where an
    unfinished job there bears its name.

    The note comes first: a job that nobody knows of would be worse than one that is not there.
    """
    async with _connecting.connect(target) as session:
        _known.write(
            Note(
                id=job_id,
                target=target,
                name=work.name,
                group=work.group,
                command=work.command,
                location=session.location,
                created=datetime.now(UTC),
            )
        )
        try:
            settings = StartSettings(
                placement="keep",
                id=job_id,
                group=work.group,
                unique=True,
                **work.options(),
                **limits,
            )
            job: Job = Job(await session._begin(work.words(), (), settings))
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
