"""A job group: one job for each target, and the verbs of a job for all of them."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, final

import anyio
import anyio.lowlevel

from remit._errors import GroupFailed, JobFailed, JobStateError, LinkLost, RemitError
from remit._jobs.group_state import folded
from remit._jobs.interleaved import Interleaved
from remit._jobs.job import Job
from remit._link.notify import Changes, Notifier
from remit._public import named_as_written
from remit._types import JobInfo, JobState
from remit._wire.sanitize import one_line

if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    _T = _TypeVar("_T", default=Any)
else:
    _T = TypeVar("_T")

# Failures that the words of a GroupFailed name.
_NAMED: Final = 5


@final
class JobGroup(Generic[_T]):
    """One job for each target, as one: a group is waited for, read and stopped as a job is.

    Made by `Fleet.start` and `Fleet.group`. ``children`` are jobs of their own, in the order of the
    targets; a target named twice has two. Until its turn comes (``throttle``) a child is PENDING;
    one that is stopped before it is STOPPED with ``started`` None, and one whose target cannot be
    reached is FAILED with reason ``connect-failed``.
    """

    def __init__(self, id: str, children: Sequence[Job[_T]]) -> None:
        self._id = id
        self._children = tuple(children)
        self._notifier = Notifier(f"group {id}")
        for child in self._children:
            child._backing.notifier.hand_on(self._notifier)

    # -- what is known

    @property
    def id(self) -> str:
        """``g`` and 12 of a-z2-7; each child bears it as `Job.group`."""
        return self._id

    @property
    def children(self) -> tuple[Job[_T], ...]:
        """The jobs, in the order of the targets."""
        return self._children

    @property
    def name(self) -> str | None:
        """The name that all of them were started with."""
        return self._children[0].name

    @property
    def state(self) -> JobState:
        """BLOCKED where any child is; the least advanced of those that go on, where any does; else
        the first of DISCONNECTED, LOST, FAILED, STOPPED and COMPLETED that there is."""
        return folded({child.state for child in self._children})

    @property
    def location(self) -> str:
        """Those of the children, joined by commas."""
        return ",".join(child.location for child in self._children)

    @property
    def command(self) -> str | tuple[str, ...]:
        """As `Job.command`."""
        return self._children[0].command

    @property
    def placement(self) -> str:
        """As `Job.placement`."""
        return self._children[0].placement

    @property
    def lifetime(self) -> str:
        """As `Job.lifetime`."""
        return self._children[0].lifetime

    @property
    def has_more_data(self) -> bool:
        """Whether any child has."""
        return any(child.has_more_data for child in self._children)

    @property
    def created(self) -> datetime | None:
        """When the first of them was asked for, by its target's clock."""
        return min((at for child in self._children if (at := child.created)), default=None)

    @property
    def started(self) -> datetime | None:
        """When the first of them began, by its target's clock."""
        return min((at for child in self._children if (at := child.started)), default=None)

    @property
    def finished(self) -> datetime | None:
        """When the last of them was over, by its target's clock; None before that."""
        ends = [child.finished for child in self._children]
        known = [end for end in ends if end is not None]
        return max(known) if len(known) == len(ends) else None

    def __repr__(self) -> str:
        count = len(self._children)
        return one_line(f"<remit.JobGroup {self._id} {self.state}, {count} jobs>")

    async def __aenter__(self) -> Self:
        """The group for the length of a block: at its end those that still run are stopped, and,
        where results come back, all are removed."""
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._each(lambda child: child.__aexit__(kind, exc, traceback))

    # -- waiting

    async def wait(self, *, disconnected: bool = False) -> JobState:
        """Waits until all are finished; returns the group's state. With ``disconnected`` those that
        are DISCONNECTED count as well. Raises what `Job.wait` raises, of the first child in the
        order of the targets, once the others are over. Cancelled, it leaves them alone."""
        await self._each(lambda child: child.wait(disconnected=disconnected))
        return self.state

    def changes(self) -> AsyncIterator[JobState]:
        """The states of the group, beginning with the present one; merged when several come at
        once. Ends after a finished one."""
        return Changes(
            self._notifier,
            lambda: self.state,
            lambda state: state.finished,
            lambda: self._children[0]._backing.notifier.check(),
        )

    # -- results

    def receive(
        self, *, keep: bool = False, wait: bool = True, from_start: bool = False
    ) -> Interleaved:
        """The records of all children as they come, each with its ``job`` and ``location``; for
        each child as `Job.receive`. A record is used up when the next is asked for.

        Of each child one record is read ahead, and used up only once it was given. What
        `Job.receive` raises at the end of one child's records is raised after the last record of
        all, for the first such child; a value that cannot be read is told of at once, and the next
        step goes on.
        """
        return Interleaved(
            self._id,
            [
                child.receive(keep=keep, wait=wait, from_start=from_start)
                for child in self._children
            ],
        )

    async def result(self) -> list[_T]:
        """Waits for the end of all. What `Job.result` returns for each, in the order of the
        targets. Raises GroupFailed where any did not succeed, once all are over: its ``results``
        has those of the others, and None for each that failed; its ``failures`` are in that order,
        too. Cancelled, it leaves the jobs and their results alone."""
        results = await self._tried(lambda child: child.result())
        return _all_of(results, self._children)

    # -- managing

    async def refresh(self) -> None:
        """As `Job.refresh`, for each."""
        await self._each(lambda child: child.refresh())

    async def stop(self, grace: float = 5.0) -> list[str]:
        """Stops all at the same time, also those whose turn has not come; see `Job.stop`. Returns
        what survived, each with its location. Of a child whose target cannot be reached it raises
        what `Job.stop` raises, once the others are stopped."""
        survivors = await self._each(lambda child: child.stop(grace))
        return [
            f"{child.location}: {process}"
            for child, processes in zip(self._children, survivors, strict=True)
            for process in processes
        ]

    async def suspend(self) -> None:
        """As `Job.suspend`, for those that are not finished."""
        await self._each(lambda child: child.suspend(), unfinished=True)

    async def resume(self) -> None:
        """As `Job.resume`, for those that are not finished."""
        await self._each(lambda child: child.resume(), unfinished=True)

    async def signal(self, signal: str | int) -> None:
        """As `Job.signal`, for those that are not finished."""
        await self._each(lambda child: child.signal(signal), unfinished=True)

    async def remove(self, force: bool = False) -> None:
        """As `Job.remove`, for each."""
        await self._each(lambda child: child.remove(force))

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> list[str]:
        """As `Job.save`, for each: to the same path on each target. Return jobs of several targets
        would all write the same file here: a ValueError."""
        if len(self._children) > 1 and not all(one._backing.is_kept for one in self._children):
            raise ValueError("the results of all would go to one file here: save each child's")
        return await self._each(lambda child: child.save(path, stream))

    async def send(self, data: bytes) -> None:
        """As `Job.send`, to all; those that no longer read are left out, until none does. Waits for
        the slowest."""
        await self._fed(lambda child: child.send(data))

    async def send_eof(self) -> None:
        """As `Job.send_eof`, for all."""
        await self._fed(lambda child: child.send_eof())

    async def _fed(self, verb: Callable[[Job[_T]], Awaitable[Any]]) -> None:
        answers = await self._tried(verb)
        others = [one for one in answers if not isinstance(one, JobStateError)]
        for answer in others or answers:
            if isinstance(answer, Exception):
                raise answer

    async def _each(
        self, verb: Callable[[Job[_T]], Awaitable[Any]], *, unfinished: bool = False
    ) -> list[Any]:
        """What it returns for each. What the first raised is raised once it was tried on all."""
        answers = await self._tried(verb, unfinished=unfinished)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return answers

    async def _tried(
        self, verb: Callable[[Job[_T]], Awaitable[Any]], *, unfinished: bool = False
    ) -> list[Any]:
        """What it returns or raises for each child; None where it is not asked."""
        answers: list[Any] = [None] * len(self._children)

        async def one(number: int, child: Job[_T]) -> None:
            try:
                answers[number] = await verb(child)
            except Exception as exc:
                answers[number] = exc

        async with anyio.create_task_group() as tasks:
            for number, child in enumerate(self._children):
                if not (unfinished and child.state.finished):
                    tasks.start_soon(one, number, child)
        return answers


def _all_of(results: list[Any], children: Sequence[Job[Any]]) -> list[Any]:
    """Raises GroupFailed, or what is no child's failure."""
    failures: list[JobFailed] = []
    for result, child in zip(results, children, strict=True):
        if isinstance(result, Exception):
            failures.append(failure_of(result, child.location, child.info))
    if failures:
        values = [None if isinstance(one, Exception) else one for one in results]
        raise group_failed(values, failures)
    return results


def failure_of(error: Exception, location: str, info: JobInfo | None = None) -> JobFailed:
    """As a JobFailed; its cause is ``error`` where that is none. Raises what is no error of
    remit's."""
    if isinstance(error, JobFailed):
        return error
    if not isinstance(error, RemitError):
        raise error
    failed = JobFailed(
        error.message,
        evidence=error.evidence,
        hint=error.hint,
        job=info,
        location=location,
        reason="link-lost" if isinstance(error, LinkLost) else "",
    )
    failed.__cause__ = error
    return failed


def group_failed(results: list[Any], failures: list[JobFailed]) -> GroupFailed:
    """The error that has them all."""
    named = [f"{one.location}: {one.message.splitlines()[0]}" for one in failures[:_NAMED]]
    if len(failures) > _NAMED:
        named.append(f"and {len(failures) - _NAMED} more")
    return GroupFailed(
        f"{len(failures)} of {len(results)} jobs failed",
        evidence="\n".join(named),
        results=results,
        failures=failures,
    )


named_as_written(__name__)
