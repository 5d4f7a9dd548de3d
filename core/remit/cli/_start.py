"""``remit start``: a job that goes on without us."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import anyio

import remit
from remit import RemitError
from remit._types import new_group_id
from remit._wire.requests import ON_MAX
from remit.cli import _amounts, _endings, _given, _hints, _keeping
from remit.cli._interrupts import Interrupts
from remit.cli._report import BROKEN_PIPE, FAILED, OK, UsageError, answer, report, say
from remit.cli._work import Work

# Entered once the job is there, with what is to be said where nothing of it runs.
Begin = Callable[[str, str, Work], AbstractAsyncContextManager[list[str]]]


def limits(*, keep: bool, lease: str | None, max_output: str | None, on_max: str) -> dict[str, Any]:
    """What `Session.start` is told beside the work, for kept jobs alone. Raises UsageError."""
    told: dict[str, Any] = {}
    if lease is not None:
        told["lifetime"] = remit.lease(_amounts.seconds("--lease", lease, positive=True))
    if max_output is not None:
        told["max_output"] = _amounts.size("--max-output", max_output, positive=True)
        told["on_max"] = on_max
    if on_max not in ON_MAX or (on_max != "stop" and max_output is None):
        raise UsageError(
            f"--on-max {on_max!r}", hint="--max-output 10M --on-max truncate, or --on-max stop"
        )
    if told and not keep:
        raise UsageError("--lease and --max-output are for jobs that are kept there", hint="--keep")
    return told


async def start(
    targets: Sequence[str],
    work: Work,
    *,
    keep: bool,
    throttle: int,
    kept: Mapping[str, Any] | None = None,
) -> int:
    """Prints each job's id once its target has answered, in the order of the targets; returns the
    worst exit status.

    ``kept``: what `limits` says.
    """
    begin: Begin = partial(_kept, limits=kept or {}) if keep else _collected
    if len(targets) > 1:
        work = work.of_group(new_group_id())
    lines = _Lines(targets)
    status = OK
    limiter = anyio.CapacityLimiter(throttle)
    interrupts = Interrupts()

    async def one(number: int, target: str) -> None:
        nonlocal status
        job_id = remit.new_job_id()
        try:
            async with limiter, begin(target, job_id, work) as problem:
                # At once: a target that lets nobody go is not to keep it from who asked.
                status = max(status, lines.tell(number, job_id))
                if problem:
                    status = max(status, FAILED)
                    say(*problem)
        except (RemitError, OSError) as exc:
            status = max(status, report(exc), lines.tell(number, None))

    async def each() -> int:
        try:
            async with anyio.create_task_group() as tasks:
                for number, target in enumerate(targets):
                    tasks.start_soon(one, number, target)
        finally:
            lines.tell_rest()
        return status

    # Whatever ends us before a job is there also takes it back.
    done = await interrupts.around(each)
    if work.stdin is None and _given.waits():
        say("remit: stdin was not passed on; `--stdin -` gives it to the job")
    return done


class _Lines:
    """What is printed of each target, in their order, each as soon as those before it are there."""

    def __init__(self, targets: Sequence[str]) -> None:
        self._targets = targets
        self._ready: dict[int, str | None] = {}
        self._next = 0

    def tell(self, number: int, job_id: str | None) -> int:
        """None: nothing came to be there. Returns an exit status."""
        self._ready[number] = job_id
        status = OK
        while self._next in self._ready:
            status = max(status, self._print(self._next))
            self._next += 1
        return status

    def tell_rest(self) -> None:
        """Where we end before all have answered: nobody else knows of those that have."""
        for number in sorted(self._ready):
            self._print(number)

    def _print(self, number: int) -> int:
        """Where that cannot be, the job runs all the same: then it is said on stderr."""
        job_id, target = self._ready.pop(number), self._targets[number]
        if job_id is None:
            return OK
        try:
            answer(job_id if len(self._targets) == 1 else f"{job_id}\t{target}")
        except OSError as exc:
            say(f"remit: {job_id} runs on {target}")
            return BROKEN_PIPE if isinstance(exc, BrokenPipeError) else report(exc)
        return OK


def _problem(problem: str, hint: str, place: str) -> list[str]:
    """Lines that say why nothing of a job runs."""
    if not problem:
        return []
    return [f"remit: {place}: {problem}", *([f"  try     {hint}"] if hint else [])]


@asynccontextmanager
async def _collected(target: str, job_id: str, work: Work) -> AsyncGenerator[list[str]]:
    from remit.cli import _collecting

    told = await _collecting.collect(target, job_id, work)
    yield _problem(told.problem, told.hint, target)


@asynccontextmanager
async def _kept(
    target: str, job_id: str, work: Work, *, limits: Mapping[str, Any]
) -> AsyncGenerator[list[str]]:
    async with _keeping.kept(target, job_id, work, limits) as job:
        outcome = job.outcome
        if outcome is None or outcome.reason != "start-failed":
            yield []
        else:
            hint = _hints.hint(work.command, work.cwd, outcome)
            yield _problem(_endings.words(outcome), hint, job.location)
