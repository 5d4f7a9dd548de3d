"""``remit run``: a command there that looks like one here."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress

import anyio

import remit
from remit import Job, RemitError
from remit.cli import _connecting, _endings, _given, _hints
from remit.cli._interrupts import STOP, TOLD, Presses, beside
from remit.cli._output import Outputs
from remit.cli._report import BROKEN_PIPE, report, say
from remit.cli._stdin import Stdin
from remit.cli._work import Work

# Sessions that are opened at the same time.
THROTTLE = 32
# Seconds that a stop may take, and that the last output may then take to arrive.
_STOP_LIMIT = 10.0
_LAST_WORDS = 1.0
# As of a program that Ctrl-C ends, where nothing ran that could say so.
_INTERRUPTED = 130


async def run(
    targets: Sequence[str],
    work: Work,
    *,
    raw: bool,
    no_stdin: bool = False,
    as_json: bool = False,
    keep: bool = False,
) -> int:
    """Runs ``work`` on each target at the same time; returns the worst exit status. ``keep``: as a
    job that stays there, whatever becomes of us."""
    together = _Run(
        targets, work, Outputs(raw=raw, as_json=as_json), stdin=not (no_stdin or keep), keep=keep
    )
    async with (
        beside(together.presses.watch, together.stdin.pump),
        anyio.create_task_group() as tasks,
    ):
        for target in targets:
            tasks.start_soon(together.one, target, tasks.cancel_scope)
    if keep and not no_stdin and work.stdin is None and _given.waits():
        say("remit: stdin was not passed on; `--stdin -` gives it to the job")
    return together.presses.status or together.worst


class _Run:
    """One command on some targets, with one stdin and one stdout."""

    def __init__(
        self, targets: Sequence[str], work: Work, outputs: Outputs, *, stdin: bool, keep: bool
    ) -> None:
        self._takes_stdin = stdin
        self._keep = keep
        self._jobs: list[Job] = []
        self._asked_to_stop: set[str] = set()  # news of that may come after us
        self.presses = Presses(self._runs, self._leave, lets_go=keep)
        self.stdin = Stdin(len(targets))
        self.worst = 0
        self._work = work
        self._outputs = outputs
        self._several = len(targets) > 1
        self._opening = anyio.CapacityLimiter(THROTTLE)

    def _runs(self) -> bool:
        return any(not job.state.finished for job in self._jobs)

    def _leave(self) -> None:
        """Says what is left."""
        for job in self._jobs:
            if not job.state.finished:
                self._tell_left(job)

    def _tell_left(self, job: Job) -> None:
        place = f"remit: {job.id} on {job.location}"
        if not self._keep:
            say(f"{place} is left; it is stopped there within 30 s")
            return
        stopping = job.id in self._asked_to_stop or job.state is remit.JobState.STOPPING
        does = "is being stopped" if stopping else "goes on"
        say(f"{place} {does}; `remit receive {job.id}` shows the rest")

    async def one(self, target: str, everyone: anyio.CancelScope) -> None:
        """The command on one target. Its trouble is told here, and is not the others'."""
        jobs: list[Job] = []
        try:
            status = await self._interruptible(target, jobs)
        except BrokenPipeError:
            status = BROKEN_PIPE
            everyone.cancel()
        except (RemitError, OSError) as exc:
            status = report(exc)
        finally:
            if self._keep and jobs and not jobs[0].state.finished:
                self._tell_left(jobs[0])
        self.worst = max(self.worst, status)

    async def _interruptible(self, target: str, jobs: list[Job]) -> int:
        scope = anyio.CancelScope()

        async def obey() -> None:
            await self.presses.reached(TOLD)
            if jobs and self.presses.level < STOP:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_interrupt, jobs[0])
                    await self.presses.reached(STOP)
                    tasks.cancel_scope.cancel()
            if jobs and not self.presses.is_leaving:
                self._asked_to_stop.add(jobs[0].id)
                await _stop(jobs[0])
                await anyio.sleep(_LAST_WORDS)
            scope.cancel()

        async with beside(obey):
            with scope:
                return await self._streamed(target, jobs)
        # One that we leave with its link is Lost by that: no news to anybody.
        if jobs and jobs[0].state.finished and jobs[0].state is not remit.JobState.LOST:
            return self._status(jobs[0], jobs[0].state)
        return _INTERRUPTED

    async def _streamed(self, target: str, jobs: list[Job]) -> int:
        async with AsyncExitStack() as stack:
            try:
                async with self._opening:
                    job = await self._started(target, stack)
                jobs.append(job)
                self._jobs.append(job)
            finally:
                self.stdin.add(jobs[0] if jobs and self._takes_stdin else None)
            output = self._outputs.of(job.location if self._several else None)
            # Where the end is missing, the job's state says so below.
            with suppress(remit.LinkLost, remit.JobFailed):
                async for record in job.receive():
                    await output.show(record)
            await output.finish()
            return self._status(job, await job.wait())

    async def _started(self, target: str, stack: AsyncExitStack) -> Job:
        """In a session that is open as long as the stack."""
        if self._keep:
            from remit.cli import _keeping  # with notes of jobs, which others do not make

            kept = _keeping.kept(target, remit.new_job_id(), self._work, {})
            return await stack.enter_async_context(kept)
        options = self._work.options()
        options["stdin"] = remit.PIPE if self._takes_stdin else None
        session = await stack.enter_async_context(_connecting.connect(target, reconnect=0))
        return await session.start(
            self._work.words(),
            placement="return",
            **options,
            # A slow reader of ours holds the job up, as a pipe would.
            full="block",
        )

    def _status(self, job: Job, state: remit.JobState) -> int:
        outcome = job.outcome
        if outcome is not None and not self._is_expected(outcome):
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

    def _is_expected(self, outcome: remit.Outcome) -> bool:
        """Whether it ended as somebody at our terminal wanted it to."""
        by_press = self.presses.level == TOLD and outcome.signal == "SIGINT"
        return self.presses.level >= STOP or (by_press and not outcome.left_behind)


async def _interrupt(job: Job) -> None:
    try:
        await job.signal("INT")
    except RemitError as exc:
        if not job.state.finished:
            say(f"remit: {exc.message}; Ctrl-C again stops it")


async def _stop(job: Job) -> None:
    with suppress(RemitError), anyio.move_on_after(_STOP_LIMIT):
        for process in await job.stop():
            say(f"remit: {job.location}: still there: {process}")
