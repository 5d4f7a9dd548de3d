"""What is asked of the jobs on a target together: all of them, the one of a name, the old ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import anyio.lowlevel

from remit._errors import JobNotFound, RemoteProtocolError
from remit._jobs.backing import Backing
from remit._jobs.kept_job import KeptJob
from remit._jobs.return_job import EndedJob
from remit._link.messages import JobMap, JobPage, PrunedPage
from remit._session.connection import Connection
from remit._types import JobInfo, Pruned
from remit._wire.requests import MAX_PAGE

_N = TypeVar("_N", JobInfo, JobMap)

# What is listed is held in memory: some 200 MB.
_MOST_LISTED = 200_000


async def listed(connection: Connection) -> list[JobInfo]:
    """As `Session.jobs`."""
    found = connection.jobs.returned.infos()
    walk = _Walk(f"the jobs on {connection.target}")
    while walk.goes_on:
        jobs, last = await page(connection, walk.after)
        found += jobs
        walk.take(len(jobs), last)
    return sorted(found, key=_age)


async def page(connection: Connection, after: str | None) -> tuple[list[JobInfo], str | None]:
    """Of what is kept there as many as come at once, the oldest of them first, and after which
    id the next ones come; None where these were the last."""
    answer = await connection.ask("jobs", {"after": after, "limit": MAX_PAGE}, JobPage)
    location, here = connection.location, connection.here
    return sorted((job.info(location, here=here) for job in answer.jobs), key=_age), answer.next


async def found(connection: Connection, name: str) -> Backing:
    """As `Session.job`."""
    mine = _fitting(name, connection.jobs.returned.infos())
    if len(mine) == 1 and name in (mine[0].id, mine[0].name):
        await anyio.lowlevel.checkpoint()
        return _returned(connection, mine[0])
    answer = await connection.ask("find", {"name": name}, JobPage)
    kept = _fitting(name, answer.jobs)  # a target may answer with whatever it likes
    ids = [job.id for job in mine] + [job.id for job in kept]
    if not ids and answer.gone:
        raise JobNotFound(f"job {name} was removed on {connection.target}", gone=True)
    if not ids:
        raise JobNotFound(
            f"no job {name!r} on {connection.target}",
            hint="an id, a name, or at least 4 characters of an id; `remit jobs` lists them",
        )
    if len(ids) > 1:
        raise JobNotFound(
            f"{name!r} matches {len(ids)} jobs on {connection.target}", evidence="\n".join(ids)
        )
    if mine:
        return _returned(connection, mine[0])
    job = KeptJob.found(connection, kept[0])
    await job.attend()
    return job


def _returned(connection: Connection, info: JobInfo) -> Backing:
    """A return job of the session's own."""
    live = connection.jobs.returned.handle(info.id)
    return live if isinstance(live, Backing) else EndedJob(connection, info)


async def is_gone(connection: Connection, job_id: str) -> bool | None:
    """Whether the target knows that the job was removed; None where it knows nothing of it."""
    answer = await connection.ask("find", {"name": job_id}, JobPage)
    return False if answer.jobs else True if answer.gone else None


async def pruned(
    connection: Connection, older_than: float | None, max_total: int | None, dry_run: bool
) -> list[Pruned]:
    """As `Session.prune`."""
    limits = {"older_than": older_than, "max_total": max_total, "dry_run": dry_run}
    gone: list[Pruned] = []
    walk = _Walk(f"what was pruned on {connection.target}")
    while walk.goes_on:
        answer = await connection.ask("prune", {**limits, "after": walk.after}, PrunedPage)
        gone += [job.pruned() for job in answer.jobs]
        walk.take(len(answer.jobs), answer.next)
    return gone


class _Walk:
    """Over pages that a target gives, each after the last item of the one before. One that goes in
    a circle, or never ends, is no sound one."""

    def __init__(self, what: str) -> None:
        self.after: Any = None  # the last item so far
        self.goes_on = True
        self._what = what
        self._count = 0

    def take(self, size: int, last: Any) -> None:
        """A page of so many items has come, and ``last`` is where the next begins; None: nowhere.
        Raises RemoteProtocolError."""
        self._count += 1 + size
        if last is not None and self.after is not None and not last > self.after:
            raise RemoteProtocolError(f"{self._what}: the list does not advance")
        if self._count > _MOST_LISTED:
            raise RemoteProtocolError(f"{self._what}: the list does not end")
        self.after = last
        self.goes_on = last is not None


def _age(job: JobInfo) -> float:
    return job.created.timestamp() if job.created else -math.inf


def _fitting(name: str, jobs: Sequence[_N]) -> list[_N]:
    exact = [job for job in jobs if job.id == name] or [job for job in jobs if job.name == name]
    if exact or len(name) < 4:
        return exact
    return [job for job in jobs if job.id.startswith(name)]
