"""``remit jobs``: what is known here, or what is kept on a target."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import anyio

import remit
from remit import JobInfo, RemitError
from remit.cli import _known, _local
from remit.cli._descriptor import Descriptor
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
    async with remit.connect(target) as session:
        after = None
        while True:
            page, after = await session._kept_jobs(after)
            await stdout.write(listing.part(page).encode("utf-8", "backslashreplace"))
            if after is None:
                break
    await stdout.write(listing.end().encode())


async def known_here() -> list[JobInfo]:
    """The jobs of this computer and those noted elsewhere, as their targets tell them now.

    A target that gives no answer is told on stderr, and its jobs are DISCONNECTED. So is a job of
    which its target knows nothing: the directory that it is kept in may be away for a while. A note
    is dropped where the target knows that the job was removed.
    """
    here = _local.jobs()
    own = {job.id for job in here}
    notes = [note for note in _known.read() if note.id not in own]
    answers: list[JobInfo] = []
    async with anyio.create_task_group() as tasks:
        by_target = sorted(notes, key=lambda note: note.target)
        for target, group in groupby(by_target, key=lambda note: note.target):
            tasks.start_soon(_ask, target, list(group), answers)
    order = {note.id: number for number, note in enumerate(notes)}
    return here + sorted(answers, key=lambda job: order[job.id])


async def _ask(target: str, notes: Sequence[Note], answers: list[JobInfo]) -> None:
    there: dict[str, JobInfo] | None = None
    gone: set[str] = set()
    problem = f"no answer in {ASK_LIMIT:g} s"
    with anyio.move_on_after(ASK_LIMIT):
        try:
            async with remit.connect(target, connect_timeout=ASK_LIMIT, reconnect=0) as session:
                found = {job.id: job for job in await session.jobs()}
                for note in notes:
                    if note.id not in found and await session._is_gone(note.id):
                        gone.add(note.id)
                there = found
        except RemitError as exc:
            problem = exc.message
    if there is None:
        say(f"remit: {target}: {problem}")
        answers += [note.unreachable(problem) for note in notes]
        return
    for note in notes:
        if note.id in there:
            answers.append(there[note.id])
        elif note.id not in gone:
            answers.append(note.unreachable(_UNKNOWN))
        elif note.age() > _NEW:
            _known.drop(note.id, target)
