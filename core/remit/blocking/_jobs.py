"""`remit.Job` and `remit.Receiver` without ``await``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self

from remit._jobs import job as jobs
from remit._jobs import lines as line_iterators
from remit._jobs import receiver as receivers
from remit._portal import Portal
from remit._types import AnyRecord, JobInfo, JobState, Outcome
from remit.blocking._like import Steps, like

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    _T = TypeVar("_T", covariant=True, default=Any)
else:
    from typing import TypeVar

    _T = TypeVar("_T", covariant=True)


class Receiver(Steps[AnyRecord]):
    __doc__ = receivers.Receiver.__doc__

    def __init__(self, portal: Portal, receiver: receivers.Receiver) -> None:
        super().__init__(portal, receiver)
        self._receiver = receiver

    def __repr__(self) -> str:
        return repr(self._receiver).replace("remit.Receiver", "remit.blocking.Receiver", 1)

    @like(receivers.Receiver.aclose)
    def aclose(self) -> None:
        self._fetched.clear()
        self._portal.call(self._receiver.aclose)


class Lines(Steps[str]):
    __doc__ = line_iterators.Lines.__doc__

    def __init__(self, portal: Portal, lines: line_iterators.Lines) -> None:
        super().__init__(portal, lines)
        self._lines = lines

    @like(line_iterators.Lines.aclose)
    def aclose(self) -> None:
        self._fetched.clear()
        self._portal.call(self._lines.aclose)


class Job(Generic[_T]):
    __doc__ = jobs.Job.__doc__

    def __init__(self, portal: Portal, job: jobs.Job[_T]) -> None:
        self._portal = portal
        self._job = job

    @property
    @like(jobs.Job.info)
    def info(self) -> JobInfo:
        return self._job.info

    @property
    @like(jobs.Job.id)
    def id(self) -> str:
        return self._job.id

    @property
    @like(jobs.Job.name)
    def name(self) -> str | None:
        return self._job.name

    @property
    @like(jobs.Job.state)
    def state(self) -> JobState:
        return self._job.state

    @property
    @like(jobs.Job.location)
    def location(self) -> str:
        return self._job.location

    @property
    @like(jobs.Job.command)
    def command(self) -> str | tuple[str, ...]:
        return self._job.command

    @property
    @like(jobs.Job.placement)
    def placement(self) -> str:
        return self._job.placement

    @property
    @like(jobs.Job.lifetime)
    def lifetime(self) -> str:
        return self._job.lifetime

    @property
    @like(jobs.Job.has_more_data)
    def has_more_data(self) -> bool:
        return self._job.has_more_data

    @property
    @like(jobs.Job.created)
    def created(self) -> datetime | None:
        return self._job.created

    @property
    @like(jobs.Job.started)
    def started(self) -> datetime | None:
        return self._job.started

    @property
    @like(jobs.Job.finished)
    def finished(self) -> datetime | None:
        return self._job.finished

    @property
    @like(jobs.Job.outcome)
    def outcome(self) -> Outcome | None:
        return self._job.outcome

    @property
    @like(jobs.Job.group)
    def group(self) -> str | None:
        return self._job.group

    def __repr__(self) -> str:
        return repr(self._job).replace("remit.Job", "remit.blocking.Job", 1)

    def __eq__(self, other: object) -> bool:
        return self._job == other._job if isinstance(other, Job) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._job)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._portal.is_usable:  # else it went with its process, or is another's
            self._portal.call(lambda: self._job.__aexit__(None, None, None))

    @like(jobs.Job.refresh)
    def refresh(self) -> None:
        self._portal.call(self._job.refresh)

    @like(jobs.Job.wait)
    def wait(self, *, disconnected: bool = False) -> JobState:
        return self._portal.call(lambda: self._job.wait(disconnected=disconnected))

    @like(jobs.Job.changes)
    def changes(self) -> Iterator[JobState]:
        return Steps(self._portal, self._job.changes())

    @like(jobs.Job.receive)
    def receive(
        self, *, keep: bool = False, wait: bool = True, from_start: bool = False
    ) -> Receiver:
        async def receive() -> receivers.Receiver:
            return self._job.receive(keep=keep, wait=wait, from_start=from_start)

        return Receiver(self._portal, self._portal.call(receive))

    @like(jobs.Job.lines)
    def lines(
        self,
        stream: Literal["stdout", "stderr"] = "stdout",
        *,
        keep: bool = False,
        wait: bool = True,
        from_start: bool = False,
    ) -> Lines:
        async def lines() -> line_iterators.Lines:
            return self._job.lines(stream, keep=keep, wait=wait, from_start=from_start)

        return Lines(self._portal, self._portal.call(lines))

    @like(jobs.Job.result)
    def result(self) -> _T:
        return self._portal.call(self._job.result)

    @like(jobs.Job.stop)
    def stop(self, grace: float = 5.0) -> list[str]:
        return self._portal.call(lambda: self._job.stop(grace))

    @like(jobs.Job.suspend)
    def suspend(self) -> None:
        self._portal.call(self._job.suspend)

    @like(jobs.Job.resume)
    def resume(self) -> None:
        self._portal.call(self._job.resume)

    @like(jobs.Job.signal)
    def signal(self, signal: str | int) -> None:
        self._portal.call(lambda: self._job.signal(signal))

    @like(jobs.Job.remove)
    def remove(self, force: bool = False) -> None:
        self._portal.call(lambda: self._job.remove(force))

    @like(jobs.Job.save)
    def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        return self._portal.call(lambda: self._job.save(path, stream))

    @like(jobs.Job.send)
    def send(self, data: bytes) -> None:
        self._portal.call(lambda: self._job.send(data))

    @like(jobs.Job.send_eof)
    def send_eof(self) -> None:
        self._portal.call(self._job.send_eof)
