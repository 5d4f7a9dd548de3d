"""Finding JOB: an id, a name or the beginning of an id, among the jobs that are known here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs

from remit import Job, JobInfo, JobNotFound, RemoteProtocolError, Session
from remit.cli import _connecting, _known, _local
from remit.cli._report import UsageError

# Shorter beginnings fit by accident.
SHORTEST_PREFIX = 4
# The one that was started last from here.
LAST = "@-"


@attrs.frozen
class Place:
    """Where a job is: the target to ask, and what it is called there."""

    target: str
    id: str
    name: str | None = None
    # Seconds since 1970, and whether it is known to be over.
    created: float = 0.0
    over: bool = False


def place(word: str, on: str | None, *, exact: bool = False) -> Place:
    """The place of JOB; with ``on`` it is for that target to find. Raises JobNotFound, and
    UsageError for what is no word. ``exact``: of a name that several jobs bear none is meant."""
    if not word.isprintable() or not word:
        raise UsageError(f"no job can be called {word!r}: names are printable characters")
    if on is not None:
        return Place(on, word)
    notes = [
        Place(note.target, note.id, note.name, note.created.timestamp()) for note in _known.read()
    ]
    here = [Place(_local.TARGET, job_id) for job_id in _local.ids()]
    for known in [*here, *notes]:
        if known.id == word:
            return known
    own = {place.id for place in here}
    named = [_of(job) for job in _local.jobs()]
    places = [*named, *(note for note in notes if note.id not in own)]
    if word == LAST and places:
        return max(places, key=lambda place: place.created)
    return choose(word, places, exact=exact)


def _of(job: JobInfo) -> Place:
    created = 0.0 if job.created is None else job.created.timestamp()
    return Place(_local.TARGET, job.id, job.name, created, job.state.finished)


def choose(word: str, known: Iterable[Place], *, exact: bool = True) -> Place:
    """The one place that ``word`` means: by exact id, else exact name, else beginning of the id.
    Of several jobs of one name it is the newest that may still run, else the newest, unless
    ``exact``."""
    places = list(known)
    fitting = [place for place in places if place.id == word]
    fitting = fitting or [place for place in places if place.name == word]
    if len(fitting) > 1 and not exact:
        unfinished = [place for place in fitting if not place.over]
        return max(unfinished or fitting, key=lambda place: place.created)
    if not fitting and len(word) >= SHORTEST_PREFIX:
        fitting = [place for place in places if place.id.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise JobNotFound(
            f"{word!r} matches {len(fitting)} jobs",
            evidence="\n".join(f"{place.id}  {place.target}" for place in fitting),
            hint="one of these ids",
        )
    raise JobNotFound(
        f"no job {word!r} is known here",
        hint="`remit jobs` lists those that are, --on TARGET finds any that is kept there",
    )


@asynccontextmanager
async def jobs(
    words: Sequence[str], on: str | None, *, exact: bool = False
) -> AsyncIterator[list[Job]]:
    """Live handles of the jobs, in order, over one session for each target."""
    places = [place(word, on, exact=exact) for word in words]
    async with AsyncExitStack() as stack:
        sessions: dict[str, Session] = {}
        for target in dict.fromkeys(place.target for place in places):
            sessions[target] = await stack.enter_async_context(_connecting.connect(target))
        yield [await _job(sessions[place.target], place, on) for place in places]


async def _job(session: Session, place: Place, on: str | None) -> Job:
    try:
        job = await session.job(place.id)
        if on is None and job.id != place.id:
            raise RemoteProtocolError(f"{place.target} gave job {job.id} for {place.id}")
        return job
    except JobNotFound as exc:
        if on is None and exc.gone:
            # It was removed over there, by somebody else.
            _known.drop(place.id, place.target)
        raise
