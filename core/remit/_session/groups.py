"""Job groups: what can be started on many targets, each child in its turn, and found again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import anyio
import attrs

from remit._errors import JobNotFound, LinkLost, RemitError, SessionClosed, text_of
from remit._jobs.backing import Live
from remit._jobs.group import JobGroup
from remit._jobs.job import Job
from remit._jobs.options import StartSettings, Work
from remit._jobs.request import Start
from remit._jobs.return_job import ReturnJob, prepare
from remit._jobs.stdin import repeatable
from remit._jobs.turn import At
from remit._link.background import spawn
from remit._session.halting import Turns
from remit._session.members import Member
from remit._session.session import Session
from remit._session.starting import announce
from remit._types import PIPE, JobState, Outcome, new_group_id
from remit._wire.names import GROUP, is_job_id

# What the return jobs of one piece of work hold here together, before they spill or block, unless
# ``buffer_limit`` says otherwise; and the least for each of them.
_HELD: Final = 64 << 20
_LEAST_HELD: Final = 64 << 10


def start_group(
    members: Sequence[Member],
    turns: Turns,
    work: Work,
    args: tuple[Any, ...],
    settings: StartSettings,
) -> JobGroup[Any]:
    """Its children are PENDING, and have their turns from now on. Raises ValueError, TypeError and
    PluginError."""
    group = new_group_id()
    settings = attrs.evolve(settings, group=group)
    jobs = [announce(one.session._connection, work, args, settings) for one in members]
    for job in jobs:
        if isinstance(job, ReturnJob):
            prepare(job)
    for member, job in zip(members, jobs, strict=True):
        child = _Child(member, job, turns)
        job.turn.wait_for(child.give_up)
        spawn(child.run)
    return JobGroup(group, [Job(job) for job in jobs])


class _Child:
    """One job of it, up to its end."""

    def __init__(self, member: Member, job: Live, turns: Turns) -> None:
        self._member = member
        self._connection = member.session._connection
        self._job = job
        self._turns = turns
        self._waiting = anyio.CancelScope()

    def give_up(self) -> None:
        """It does not have its turn any more."""
        self._waiting.cancel()
        self._never(JobState.STOPPED, Outcome(reason="stopped"))

    async def run(self) -> None:
        """In a task of its own. Raises nothing."""
        job = self._job
        if await self._has_turn():
            try:
                await self._begin_and_wait()
            finally:
                failed = job.info.state in (JobState.FAILED, JobState.LOST)
                self._turns.end(job, failed=failed)
        elif job.info.state is JobState.FAILED:
            self._turns.failed()

    async def _has_turn(self) -> bool:
        job, trouble, came = self._job, None, False
        with self._waiting:
            try:
                await self._member.ready()
                came = await self._turns.begin(job, self._stop_soon)
            except RemitError as exc:
                trouble = exc
        if self._waiting.cancel_called:
            if came:
                self._turns.end(job)
            return False
        if came:
            job.turn.move(At.STARTING)
            return True
        if trouble is not None:
            self._never(*_unreached(trouble), trouble)
        else:
            outcome = Outcome(reason="stopped", error=self._turns.halted)
            self._never(JobState.STOPPED, outcome)
        return False

    async def _begin_and_wait(self) -> None:
        job, tasks = self._job, self._connection.tasks
        try:
            await job.begin()
        except Exception as exc:
            if not job.info.state.finished:
                self._never(*_failed(exc), exc)
            # What is known of a return job stays: its channel is all that the target may have.
            if job.is_kept:
                await tasks.see_through(job.take_back)
            else:
                job.channel.close()
            return
        finally:
            job.turn.move(At.ANSWERED)
        try:
            while not job.info.state.finished:
                job.check_reachable()
                await job.notifier.wait()
        except RemitError:
            pass  # it is out of sight for good: who waits for it is told

    def _never(self, state: JobState, outcome: Outcome, cause: Exception | None = None) -> None:
        job = self._job
        job.turn.move(At.NEVER)
        job.cause = cause
        job.set_state(state, outcome)
        if job.opened is not None:
            job.opened.try_close(job.info.outcome)

    def _stop_soon(self) -> None:
        tasks = self._connection.tasks
        tasks.start_soon(partial(self._job.stop), failed=tasks.note)


def _unreached(trouble: RemitError) -> tuple[JobState, Outcome]:
    if isinstance(trouble, SessionClosed):
        return JobState.STOPPED, Outcome(reason="session-ended")
    return JobState.FAILED, Outcome(reason="connect-failed", error=trouble.message)


def _failed(exc: Exception) -> tuple[JobState, Outcome]:
    """What a start that raised that has come to."""
    if isinstance(exc, SessionClosed):
        return JobState.STOPPED, Outcome(reason="session-ended")
    words = exc.message if isinstance(exc, RemitError) else text_of(exc)
    if isinstance(exc, LinkLost):
        return JobState.LOST, Outcome(reason="link-lost", error=words)
    return JobState.FAILED, Outcome(reason="start-failed", error=words)


async def find_group(members: Sequence[Member], id: str) -> JobGroup[Any]:
    """As `Fleet.group`."""
    if not is_job_id(id, GROUP):
        raise ValueError(f"the id of a group is 'g' and 12 of a-z2-7, not {id!r}")
    found: list[list[Job[Any]]] = [[] for _ in members]
    troubles: list[Exception] = []

    async def look(number: int, session: Session) -> None:
        try:
            for info in await session.jobs():
                if info.group == id:
                    found[number].append(await session.job(info.id))
        except Exception as exc:
            troubles.append(exc)

    async with anyio.create_task_group() as tasks:
        for number, member in enumerate(members):
            tasks.start_soon(look, number, member.session)
    if troubles:
        raise troubles[0]
    children = [job for jobs in found for job in jobs]
    if not children:
        raise JobNotFound(f"no job of group {id} is kept on any of {len(found)} targets")
    return JobGroup(id, children)


def checked(
    members: Sequence[Member], work: Work, args: tuple[Any, ...], options: Mapping[str, Any]
) -> StartSettings:
    """Raises ValueError and TypeError for what can never be right on all of them."""
    if options.get("id") is not None:
        raise ValueError("id= names one job: each of a group has an id of its own")
    stdin = options.get("stdin")
    if len(members) > 1 and stdin is not PIPE and not repeatable(stdin):
        raise ValueError(
            "one stdin cannot be read for several targets: bytes can be given to each, and "
            "start(stdin=remit.PIPE) sends to all"
        )
    held = max(_LEAST_HELD, _HELD // len(members))
    settings = StartSettings(**{"buffer_limit": held, **options})
    connection = members[0].session._connection
    placement = connection.plugins.placement(settings.placement)
    Start.of(work, args, settings, placement, connection.in_own_directory)
    return settings
