"""``remit jobs``: what is known here, or what is kept on a target."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import anyio

from remit import JobInfo, RemitError, Session
from remit.cli import _connecting, _known, _local
from remit.cli._descriptor import Descriptor
from remit.cli._interrupts import beside
from remit.cli._known import Note
from remit.cli._render import JobListing
from remit.cli._report import say

# Seconds that one target may take to answer; it is shown as Disconnected then.
ASK_LIMIT = 10.0
_UNKNOWN = (
    "its target knows nothing of it now: the directory that it is kept in may be away; "
    "`remit rm --force` forgets it here"
)
# A younger note may be of a job whose start is still on its way.
_NEW = 60.0


async def show_kept(target: str, listing: JobListing) -> None:
    """Prints what this account keeps there, as it comes: a target may hold more than anybody would
    wait for. Within what comes at once the oldest is first. Raises BrokenPipeError once nobody
    reads."""
    stdout = Descriptor(1)
    async with _connecting.connect(target) as session:
        after = None
        while True:
            page, after = await session._kept_jobs(after)
            await stdout.write(listing.part(page).encode("utf-8", "backslashreplace"))
            if after is None:
                break
    await stdout.write(listing.end().encode())


async def show_known(show: Callable[[Sequence[JobInfo]], None]) -> None:
    """Has the jobs of this computer shown, and those noted elsewhere as their targets tell them
    now; once all have told, whether they let us go or not.

    A target that gives no answer is told on stderr, and its jobs are DISCONNECTED. So is a job of
    which its target knows nothing: the directory that it is kept in may be away for a while. A note
    is dropped where the target knows that the job was removed.
    """
    here = _local.jobs()
    own = {job.id for job in here}
    notes = [note for note in _known.read() if note.id not in own]
    by_target: dict[str, list[Note]] = {}
    for note in notes:
        by_target.setdefault(note.target, []).append(note)
    answers = _Answers(len(by_target))
    async with beside(*(partial(_ask, *group, answers) for group in by_target.items())):
        await answers.complete()
        order = {note.id: number for number, note in enumerate(notes)}
        show(here + sorted(answers.jobs, key=lambda job: order[job.id]))


class _Answers:
    """What targets have told, of which there are ``missing`` more."""

    def __init__(self, missing: int) -> None:
        self.jobs: list[JobInfo] = []
        self._missing = missing
        self._complete = anyio.Event()

    def add(self, jobs: Iterable[JobInfo]) -> None:
        self.jobs += jobs
        self._missing -= 1
        self._complete.set()

    async def complete(self) -> None:
        while self._missing:
            self._complete = anyio.Event()
            await self._complete.wait()


async def _ask(target: str, notes: Sequence[Note], answers: _Answers) -> None:
    answered = False
    limit = _connecting.timeout or ASK_LIMIT
    problem = f"no answer in {limit:g} s"
    with anyio.move_on_after(limit):
        try:
            connected = _connecting.connect(target, connect_timeout=limit, reconnect=0)
            async with connected as session:
                answers.add(await _told(session, notes))
                answered = True
        except RemitError as exc:
            problem = exc.message
    if not answered:
        whose = "" if problem.startswith(f"{target}: ") else f"{target}: "
        say(f"remit: {whose}{problem}")
        answers.add(note.unreachable(problem) for note in notes)


async def _told(session: Session, notes: Sequence[Note]) -> list[JobInfo]:
    """What its target tells of each."""
    there = {job.id: job for job in await session.jobs()}
    jobs: list[JobInfo] = []
    for note in notes:
        if note.id in there:
            jobs.append(there[note.id])
        elif not await session._is_gone(note.id):
            jobs.append(note.unreachable(_UNKNOWN))
        elif note.age() > _NEW:
            _known.drop(note.id, note.target)
    return jobs
