"""``remit receive``: what a job produced, to our own stdout and stderr."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs

from remit import Job, JobFailed, JobState, Position, Record, ResultError
from remit._jobs import tail
from remit.cli import _endings, _where
from remit.cli._interrupts import Interrupts
from remit.cli._output import Outputs
from remit.cli._report import FAILED, OK, report, say
from remit.cli._shown import OUTPUTS, Places, Stamps, Tail


@attrs.frozen
class View:
    """What is shown of a job's output, and how. ``tail``: the last lines of what there is, and
    what comes; ``since``: from that byte of each stream on."""

    stream: str | None = None
    raw: bool = False
    as_json: bool = False
    timestamps: bool = False
    tail: int | None = None
    since: int | None = None


async def receive(
    word: str, on: str | None, view: View, *, keep: bool, wait: bool, from_start: bool
) -> int:
    """Returns the exit status: FAILED where the end of the job's output can no longer come.

    A piece counts as used up once it has been written: whoever stops reading gets it again.
    """
    interrupts = Interrupts()

    async def pass_on() -> int:
        async with _where.jobs([word], on) as (job,):
            showing = _Showing(job, view)
            await showing.begin(from_start=from_start)
            if view.tail is not None:
                await showing.tail(view.tail)
            # After a tail this shows what is new, and uses up what is not to be kept.
            if wait or not keep or view.tail is None:
                await showing.all(keep=keep, wait=wait)
            await showing.output.finish()
            return _told(job, showing.status)

    return await interrupts.around(pass_on)


class _Showing:
    """One job's records on their way to our stdout and stderr."""

    def __init__(self, job: Job, view: View) -> None:
        self.output = Outputs(raw=view.raw, as_json=view.as_json).of()
        self.status = OK
        self._job = job
        self._view = view
        self._stamps = Stamps() if view.timestamps else None
        self._places = Places(view.since or 0)
        self._begin: Position | None = None  # what is not used up

    async def begin(self, *, from_start: bool) -> None:
        """Finds where to begin, so that what is not to be shown need not be carried here."""
        view, backing = self._view, self._job._backing
        size = backing.store.size
        if from_start:
            since = view.since or 0
            self._begin = {each: min(since, size.get(each, 0)) for each in OUTPUTS}
        if view.tail is None:
            return
        place = await tail.begin(backing, max(1, view.tail), view.stream)
        if place is not None:
            first = self._begin or backing.store.used
            self._begin = {each: max(at, first.get(each, 0)) for each, at in place.items()}

    async def all(self, *, keep: bool, wait: bool) -> None:
        async for record in self._records(keep=keep, wait=wait):
            await self._show(record)

    async def tail(self, count: int) -> None:
        """Uses nothing up: what it holds was not written yet."""
        last = Tail(count)
        async for record in self._records(keep=True, wait=False):
            last.add(record)
        for record in last.records():
            await self._show(record)

    async def _records(self, *, keep: bool, wait: bool) -> AsyncIterator[Record]:
        """Those that are to be shown, and were not yet."""
        reader = self._job._backing.receive(self._begin, follow=wait, consume=not keep)
        while True:
            try:
                record = await anext(reader)
            except ResultError as exc:
                self.status = report(exc)  # of one value: the others come all the same
                continue
            except (StopAsyncIteration, JobFailed):
                return  # JobFailed: it is Lost, as is said below
            fresh = self._places.new(record)
            if fresh is not None and self._view.stream in (None, record.stream):
                yield fresh

    async def _show(self, record: Record) -> None:
        await self.output.show(record if self._stamps is None else self._stamps.stamped(record))


def _told(job: Job, status: int) -> int:
    """Says how it ended where its output does not."""
    if job.state is JobState.LOST:
        words = _endings.words(job.outcome) or "its end can no longer be known"
        say(f"remit: {job.id} is Lost: {words}")
        return FAILED
    if job._backing.runs_function and job.outcome is not None and job.outcome.error:
        # What a command has to say stands in its stderr; of a function this is left.
        say(f"remit: {job.id} is {job.state.capitalize()}: {job.outcome.error}")
    return status
