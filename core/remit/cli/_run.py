"""``remit run``: a command there that looks like one here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import anyio

import remit
from remit import Job, RemitError
from remit.cli import _connecting, _endings, _hints
from remit.cli._interrupts import Interrupts, beside
from remit.cli._output import Outputs
from remit.cli._report import BROKEN_PIPE, report, say
from remit.cli._stdin import Stdin
from remit.cli._work import Work

# Sessions that are opened at the same time.
THROTTLE = 32
# Seconds that a stop may take, and that the last output may then take to arrive.
_STOP_LIMIT = 10.0
_LAST_WORDS = 1.0


async def run(
    targets: Sequence[str], work: Work, *, raw: bool, no_stdin: bool = False, as_json: bool = False
) -> int:
    """Runs ``work`` on each target at the same time; returns the worst exit status."""
    together = _Run(targets, work, Outputs(raw=raw, as_json=as_json), stdin=not no_stdin)
    async with (
        beside(together.interrupts.watch, together.stdin.pump),
        anyio.create_task_group() as tasks,
    ):
        for target in targets:
            tasks.start_soon(together.one, target, tasks.cancel_scope)
    return together.interrupts.status or together.worst


class _Run:
    """One command on some targets, with one stdin and one stdout."""

    def __init__(
        self, targets: Sequence[str], work: Work, outputs: Outputs, *, stdin: bool
    ) -> None:
        self._takes_stdin = stdin
        self.interrupts = Interrupts()
        self.stdin = Stdin(len(targets))
        self.worst = 0
        self._work = work
        self._outputs = outputs
        self._several = len(targets) > 1
        self._opening = anyio.CapacityLimiter(THROTTLE)

    async def one(self, target: str, everyone: anyio.CancelScope) -> None:
        """The command on one target. Its trouble is told here, and is not the others'."""
        try:
            status = await self._interruptible(target)
        except BrokenPipeError:
            status = BROKEN_PIPE
            everyone.cancel()
        except (RemitError, OSError) as exc:
            status = report(exc)
        self.worst = max(self.worst, status)

    async def _interruptible(self, target: str) -> int:
        jobs: list[Job] = []
        scope = anyio.CancelScope()

        async def obey() -> None:
            await self.interrupts.wait()
            with suppress(RemitError), anyio.move_on_after(_STOP_LIMIT):
                for job in jobs:
                    for process in await job.stop():
                        say(f"remit: {job.location}: still there: {process}")
            if jobs:
                await anyio.sleep(_LAST_WORDS)
            scope.cancel()

        async with beside(obey):
            with scope:
                return await self._streamed(target, jobs)
        return self.interrupts.status

    async def _streamed(self, target: str, jobs: list[Job]) -> int:
        async with AsyncExitStack() as stack:
            try:
                options = self._work.options()
                options["stdin"] = remit.PIPE if self._takes_stdin else None
                async with self._opening:
                    session = await stack.enter_async_context(
                        _connecting.connect(target, reconnect=0)
                    )
                    job = await session.start(
                        self._work.words(),
                        placement="return",
                        **options,
                        # A slow reader of ours holds the job up, as a pipe would.
                        full="block",
                    )
                jobs.append(job)
            finally:
                self.stdin.add(jobs[0] if jobs and self._takes_stdin else None)
            output = self._outputs.of(job.location if self._several else None)
            # Where the end is missing, the job's state says so below.
            with suppress(remit.LinkLost, remit.JobFailed):
                async for record in job.receive():
                    await output.show(record)
            await output.finish()
            return self._status(job, await job.wait())

    def _status(self, job: Job, state: remit.JobState) -> int:
        outcome = job.outcome
        if outcome is not None and not self.interrupts.status:
            words = _endings.words(outcome)
            # A plain exit status needs no words: it becomes our own.
            more = outcome.note or outcome.left_behind
            if words and (outcome.reason != "exited" or more or self._several):
                say(f"remit: {job.location}: {words}")
                if hint := _hints.hint(self._work.command, self._work.cwd, outcome):
                    say(f"  try     {hint}")
        if state is remit.JobState.LOST:
            say(f"remit: the link to {job.location} was lost; how the job ended is not known")
        return _endings.exit_status(state, outcome)
