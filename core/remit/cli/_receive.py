"""``remit receive``: what a job produced, to our own stdout and stderr."""

from __future__ import annotations

from collections.abc import AsyncIterator

import attrs

from remit import Job, JobFailed, JobState, Record, ResultError
from remit.cli import _endings, _where
from remit.cli._interrupts import Interrupts
from remit.cli._output import Outputs
from remit.cli._report import FAILED, OK, report, say
from remit.cli._shown import Places, Stamps, Tail


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
            if view.tail is not None:
                await showing.tail(view.tail, from_start=from_start)
            # After a tail this shows what is new, and uses up what is not to be kept.
            if wait or not keep or view.tail is None:
                await showing.all(keep=keep, wait=wait, from_start=from_start)
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

    async def all(self, *, keep: bool, wait: bool, from_start: bool) -> None:
        async for record in self._records(keep=keep, wait=wait, from_start=from_start):
            await self._show(record)

    async def tail(self, count: int, *, from_start: bool) -> None:
        """Uses nothing up: what it holds was not written yet."""
        tail = Tail(count)
        async for record in self._records(keep=True, wait=False, from_start=from_start):
            tail.add(record)
        for record in tail.records():
            await self._show(record)

    async def _records(self, *, keep: bool, wait: bool, from_start: bool) -> AsyncIterator[Record]:
        """Those that are to be shown, and were not yet."""
        reader = self._job.receive(keep=keep, wait=wait, from_start=from_start)
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
