"""Finding JOB: an id, a name or the beginning of an id, among the jobs that are known here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import attrs

from remit import Job, JobNotFound, RemoteProtocolError, Session
from remit.cli import _connecting, _known, _local
from remit.cli._report import UsageError

# Shorter beginnings fit by accident.
SHORTEST_PREFIX = 4


@attrs.frozen
class Place:
    """Where a job is: the target to ask, and what it is called there."""

    target: str
    id: str
    name: str | None = None


def place(word: str, on: str | None) -> Place:
    """The place of JOB; with ``on`` it is for that target to find. Raises JobNotFound, and
    UsageError for what is no word."""
    if not word.isprintable() or not word:
        raise UsageError(f"no job can be called {word!r}: names are printable characters")
    if on is not None:
        return Place(on, word)
    notes = [Place(note.target, note.id, note.name) for note in _known.read()]
    here = [Place(_local.TARGET, job_id) for job_id in _local.ids()]
    for known in [*here, *notes]:
        if known.id == word:
            return known
    own = {place.id for place in here}
    named = [Place(_local.TARGET, job.id, job.name) for job in _local.jobs()]
    return choose(word, [*named, *(note for note in notes if note.id not in own)])


def choose(word: str, known: Iterable[Place]) -> Place:
    """The one place that ``word`` means: by exact id, else exact name, else beginning of the id."""
    places = list(known)
    fitting = [place for place in places if place.id == word]
    fitting = fitting or [place for place in places if place.name == word]
    if not fitting and len(word) >= SHORTEST_PREFIX:
        fitting = [place for place in places if place.id.startswith(word)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise JobNotFound(
            f"{word!r} fits {len(fitting)} jobs",
            evidence="\n".join(f"{place.id}  {place.target}" for place in fitting),
            hint="one of these ids",
        )
    raise JobNotFound(
        f"no job {word!r} is known here",
        hint="`remit jobs` lists those that are, --on TARGET finds any that is kept there",
    )


@asynccontextmanager
async def jobs(words: Sequence[str], on: str | None) -> AsyncIterator[list[Job]]:
    """Live handles of the jobs, in order, over one session for each target."""
    places = [place(word, on) for word in words]
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
