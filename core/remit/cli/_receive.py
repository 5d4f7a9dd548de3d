"""``remit receive``: what a job produced, to our own stdout and stderr."""

from __future__ import annotations

from remit import JobFailed, JobState, ResultError
from remit.cli import _endings, _where
from remit.cli._interrupts import Interrupts
from remit.cli._output import Outputs
from remit.cli._report import FAILED, OK, report, say


async def receive(
    word: str,
    on: str | None,
    *,
    keep: bool,
    wait: bool,
    from_start: bool,
    stream: str | None,
    raw: bool,
) -> int:
    """Returns the exit status: FAILED where the end of the job's output can no longer come.

    A piece counts as used up once it has been written: whoever stops reading gets it again.
    """
    interrupts = Interrupts()

    async def pass_on() -> int:
        async with _where.jobs([word], on) as (job,):
            output = Outputs(raw=raw).of()
            status = OK
            reader = job.receive(keep=keep, wait=wait, from_start=from_start)
            while True:
                try:
                    record = await anext(reader)
                except ResultError as exc:
                    status = report(exc)  # of one value: the others come all the same
                    continue
                except (StopAsyncIteration, JobFailed):
                    break  # JobFailed: it is Lost, as is said below
                if stream in (None, record.stream):
                    await output.write(record.stream, record.data)
            await output.finish()
            if job.state is JobState.LOST:
                words = _endings.words(job.outcome) or "its end can no longer be known"
                say(f"remit: {job.id} is Lost: {words}")
                return FAILED
            if job._runs_function and job.outcome is not None and job.outcome.error:
                # What a command has to say stands in its stderr; of a function this is left.
                say(f"remit: {job.id} is {job.state.capitalize()}: {job.outcome.error}")
        return status

    return await interrupts.around(pass_on)
