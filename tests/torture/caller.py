"""The caller of a play, a process of its own: ``python -m torture.caller DIRECTORY GENERATION``.

It may be killed at any moment; the next generation carries on. The last one, ``collect``, comes
when nothing goes wrong any more: it fetches all that was kept, and stops what was left behind.
"""

from __future__ import annotations

import math
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio

import remit
from remit._plugins import plugins
from torture import work
from torture.journal import Journal, Reel
from torture.order import Order, journal_path, reel_path
from torture.script import Cancel, Plan

COLLECT = "collect"
_COLLECTOR = 999  # its generation
# How long the collector gives each job, whose whole script takes less.
_PATIENCE = 60.0
# The slow readers of a job make up for lost time after so many.
_SLOW_RECORDS = 40


class _Caller:
    def __init__(self, directory: Path, generation: int) -> None:
        self.order = Order.load(directory)
        self.journal = Journal(journal_path(directory))
        self.generation = generation
        self._directory = directory
        self._passes = 0
        self._slowed = Counter[int]()  # records, by the numbers of jobs

    def note(self, what: str, plan: Plan | None = None, **facts: object) -> None:
        number = None if plan is None else plan.number
        self.journal.note(what, job=number, generation=self.generation, **facts)

    def note_end(self, what: str, plan: Plan, job: remit.Job) -> None:
        outcome = job.outcome or remit.Outcome()
        self.note(
            what,
            plan,
            state=str(job.state),
            exit_status=outcome.exit_status,
            signal=outcome.signal,
            reason=outcome.reason,
            error=outcome.error or "",
            has_more=job.has_more_data,
            left_behind=outcome.left_behind,
        )

    async def each(self, act: Callable[[remit.Session, Plan], Awaitable[None]]) -> None:
        """Does that for each job, all at once; what goes wrong with one is noted."""

        async def guarded(session: remit.Session, plan: Plan) -> None:
            try:
                await act(session, plan)
            except Exception as exc:
                text = "".join(traceback.format_exception(exc))
                self.note("error", plan, type=type(exc).__name__, text=text)

        async with remit.open_hub() as hub:
            session = await self._connect(hub)
            async with anyio.create_task_group() as tasks:
                for plan in self.order.script.jobs:
                    tasks.start_soon(guarded, session, plan)
                for cancel in self.order.script.cancels:
                    tasks.start_soon(self._begin_and_cancel, session, cancel)
        self.note("closed")

    async def _connect(self, hub: remit.Hub) -> remit.Session:
        """Nothing is promised for a first connection: it is tried until it is there."""
        while True:
            try:
                return await hub.connect(
                    self.order.target,
                    connect_timeout=8.0,
                    silence=self.order.script.silence,
                    reconnect=None,
                )
            except remit.ConnectError:
                await anyio.sleep(0.3)

    async def read(self, job: remit.Job, plan: Plan, kind: str, most: float = math.inf) -> bool:
        """One pass, left off after ``most`` records; whether it came to the end of the job."""
        self._passes += 1
        reel = Reel(reel_path(self._directory, plan, kind, self.generation, self._passes))
        keep = kind != "consume"
        seen = 0
        self.note("reading", plan, kind=kind, number=self._passes)
        try:
            async for record in job.receive(keep=keep, from_start=keep):
                reel.add(record)
                seen += 1
                if seen >= most:
                    return False
                if plan.slow and self._may_be_slow(plan):
                    await anyio.sleep(plan.slow)
        except (remit.JobFailed, remit.LinkLost):
            if job.state is not remit.JobState.LOST:
                raise
        finally:
            reel.close()
        self.note("read", plan, kind=kind, number=self._passes)
        return True

    def _may_be_slow(self, plan: Plan) -> bool:
        self._slowed[plan.number] += 1
        return self._slowed[plan.number] < _SLOW_RECORDS and self.generation != _COLLECTOR

    # -- while things go wrong

    async def call(self, session: remit.Session, plan: Plan) -> None:
        begin = self.order.begin + plan.at
        if plan.lifetime == "session" and self.generation and time.monotonic() > begin:
            return  # it went with the generation that was killed
        await anyio.sleep(max(0.0, begin - time.monotonic()))
        self.note("starting", plan)
        job = await session.start(
            self.order.command(plan),
            id=plan.id,
            placement=plan.placement,
            lifetime=plan.lifetime,
            leftovers=plan.leftovers,
            cwd="/",
        )
        self.note("started", plan, state=str(job.state))
        if plan.reading == "later":
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, job, plan)
            for kind in ("consume", "keep") if plan.reading == "both" else (plan.reading,):
                tasks.start_soon(self._read_on, job, plan, kind)
            await job.wait()
        self.note_end("waited", plan, job)

    async def _watch(self, job: remit.Job, plan: Plan) -> None:
        async for state in job.changes():
            self.note("state", plan, state=str(state))

    async def _read_on(self, job: remit.Job, plan: Plan, kind: str) -> None:
        for most in plan.leaves:
            if await self.read(job, plan, kind, most):
                return
            await anyio.sleep(0.05)
        await self.read(job, plan, kind)

    async def _begin_and_cancel(self, session: remit.Session, cancel: Cancel) -> None:
        """Once; the collector looks that nothing is left of it instead."""
        if self.generation == _COLLECTOR:
            await self._clear_away(session, cancel)
            return
        begin = self.order.begin + cancel.at
        if self.generation and time.monotonic() > begin:
            return
        await anyio.sleep(max(0.0, begin - time.monotonic()))
        facts: dict[str, Any] = {"cancel": cancel.number, "begin": time.monotonic()}
        self.note("cancelling", **facts)
        with anyio.move_on_after(cancel.after):
            try:
                await self._begin(session, cancel)
            except Exception as exc:
                facts["type"] = type(exc).__name__
                facts["text"] = "".join(traceback.format_exception(exc))
        self.note("cancelled", **facts)

    async def _begin(self, session: remit.Session, cancel: Cancel) -> None:
        heart = self.order.heart(cancel)
        if cancel.what == "call":
            await session.call(work.beat, heart)
            return
        given = (work.beat, heart) if cancel.function else (self.order.beating(cancel),)
        options: dict[str, Any] = {"placement": cancel.placement, "id": cancel.id, "cwd": "/"}
        if cancel.what == "run":
            await session.run(*given, **options)
            return
        job = await session.start(*given, **options)
        # What has been started is the caller's to end.
        with anyio.CancelScope(shield=True):
            await job.stop(grace=1.0)
            await job.remove(force=True)

    # -- when all is well again

    async def _clear_away(self, session: remit.Session, cancel: Cancel) -> None:
        try:
            job = await session.job(cancel.id)
        except remit.JobNotFound:
            return
        self.note("still-there", cancel=cancel.number, state=str(job.state))
        with anyio.fail_after(_PATIENCE):
            await job.remove(force=True)

    async def collect(self, session: remit.Session, plan: Plan) -> None:
        if plan.placement != "keep":
            return
        try:
            job = await session.job(plan.id)
        except remit.JobNotFound:
            self.note("not-found", plan)
            return
        with anyio.fail_after(_PATIENCE):
            await job.wait()
            await self.read(job, plan, "collect")
            await self._use_up(job, plan)
        await job.refresh()
        self.note_end("collected", plan, job)
        survivors = await job.stop(grace=1.0)
        self.note("stopped", plan, survivors=survivors)
        if plan.number % 2:
            await job.remove(force=True)
            self.note("removed", plan)

    async def _use_up(self, job: remit.Job, plan: Plan) -> None:
        try:
            await self.read(job, plan, "consume")
        except remit.RemitError as exc:
            # On a full disk nobody can write down what is used up, and is told so.
            if not (self.order.script.small and "No space left" in str(exc)):
                raise
            self.note("full", plan, text=str(exc))


class _Moves:
    """A plugin that notes every move of the plans' jobs."""

    def __init__(self, caller: _Caller) -> None:
        self._caller = caller
        self._plans = {plan.id: plan for plan in caller.order.script.jobs}

    @remit.hookimpl
    def remit_job_changed(
        self, job: remit.JobInfo, old: remit.JobState | None, new: remit.JobState
    ) -> None:
        if plan := self._plans.get(job.id):
            self._caller.note("move", plan, old=old and str(old), new=str(new))


async def _tell_where_it_hangs() -> None:
    """At SIGUSR1 prints what each task waits for."""
    with anyio.open_signal_receiver(signal.SIGUSR1) as signals:
        async for _ in signals:
            for task in anyio.get_running_tasks():
                print(task.name, " > ".join(_awaits(task.coro)), file=sys.stderr, flush=True)


def _awaits(step: Any) -> Iterator[str]:
    """Where a coroutine stands, and what it awaits, down to the last."""
    while step is not None:
        frame = getattr(step, "cr_frame", None) or getattr(step, "gi_frame", None)
        if frame is not None:
            yield f"{frame.f_code.co_qualname}:{frame.f_lineno}"
        step = getattr(step, "cr_await", None) or getattr(step, "gi_yieldfrom", None)


async def _main(directory: Path, word: str) -> None:
    generation = _COLLECTOR if word == COLLECT else int(word)
    caller = _Caller(directory, generation)
    plugins().add(_Moves(caller), "torture")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_tell_where_it_hangs)
        await caller.each(caller.collect if word == COLLECT else caller.call)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    _directory, _word = Path(sys.argv[1]), sys.argv[2]
    anyio.run(_main, _directory, _word, backend=Order.load(_directory).script.backend)
