"""Live handles of jobs: what users may ask of any."""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, cast, final

import anyio
import anyio.lowlevel

from remit._errors import JobFailed, JobNotFound, JobStateError, LinkLost, SessionClosed
from remit._jobs.backing import Backing
from remit._jobs.lines import Lines
from remit._jobs.receiver import Receiver
from remit._jobs.result import CommandOutput, FunctionResult
from remit._jobs.signals import signal_word
from remit._jobs.stdin import JobStdin
from remit._link.notify import Changes
from remit._public import named_as_written
from remit._types import JobInfo, JobState, Outcome
from remit._wire.sanitize import one_line
from remit.abc import Position

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    _T = TypeVar("_T", covariant=True, default=Any)
else:
    from typing import TypeVar

    _T = TypeVar("_T", covariant=True)

# Seconds over its time limit that the end of a job may take to arrive.
_PATIENCE = 20.0


@final
class Job(Generic[_T]):
    """A live handle of one job. Properties tell the last news and never block; `refresh` asks.

    Handles are made by `Session.start` and `Session.job`. ``Job[T]`` has a `result` of type ``T``.
    """

    def __init__(self, backing: Backing) -> None:
        self._backing = backing
        self._result: tuple[_T] | None = None  # once it was taken
        self._taking: anyio.Event | None = None  # while somebody takes it

    # -- what is known

    @property
    def info(self) -> JobInfo:
        """All of what is known now, frozen."""
        return self._backing.known

    @property
    def id(self) -> str:
        """``j`` and 12 of a-z2-7; the same for all handles of the job, anywhere."""
        return self._backing.info.id

    @property
    def name(self) -> str | None:
        """The name that it was started with."""
        return self._backing.info.name

    @property
    def state(self) -> JobState:
        """How it stands, by the last news."""
        return self._backing.info.state

    @property
    def location(self) -> str:
        """The address as it was given, ``localhost`` for this computer."""
        return self._backing.info.location

    @property
    def command(self) -> str | tuple[str, ...]:
        """The words of a command, the line of a shell, or a function's name and ``()``."""
        return self._backing.info.command

    @property
    def placement(self) -> str:
        """Where its results are: ``return``, ``keep``, or what a plugin brings."""
        return self._backing.info.placement

    @property
    def lifetime(self) -> str:
        """``session``, ``detached`` or ``lease``."""
        return self._backing.info.lifetime

    @property
    def has_more_data(self) -> bool:
        """True until the job has finished, then whether anything is left unused."""
        return self._backing.has_more_data

    @property
    def created(self) -> datetime | None:
        """When its start was asked for, by the target's clock."""
        return self._backing.info.created

    @property
    def started(self) -> datetime | None:
        """When its first process began; None before that, and where it never ran."""
        return self._backing.info.started

    @property
    def finished(self) -> datetime | None:
        """When it was over; None before that, and where its end is not known."""
        return self._backing.info.finished

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None until that is known."""
        return self._backing.info.outcome

    @property
    def group(self) -> str | None:
        """The id of the job group it belongs to, or None."""
        return self._backing.info.group

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return one_line(f"<remit.Job {self.id}{name} {self.state} on {self.location}>")

    def __eq__(self, other: object) -> bool:
        """Whether both are handles of the same job on the same target."""
        if not isinstance(other, Job):
            return NotImplemented
        return (self.id, self._backing.port.target) == (other.id, other._backing.port.target)

    def __hash__(self) -> int:
        return hash((self.id, self._backing.port.target))

    async def __aenter__(self) -> Self:
        """The job for the length of a block: at its end it is stopped if it still runs, and, where
        its results come back, removed."""
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._backing.port.tasks.see_through(self._leave)

    async def _leave(self) -> None:
        with suppress(LinkLost, SessionClosed, JobNotFound):
            if not self.state.finished:
                await self.stop()
            if not self._backing.is_kept:
                await self.remove(force=True)

    async def refresh(self) -> None:
        """Asks the target how the job stands."""
        await self._backing.refresh()

    # -- waiting

    async def wait(self, *, disconnected: bool = False) -> JobState:
        """Waits until the job has finished, and its results are where they go; returns its state.
        Cancelled, it leaves the job alone.

        With ``disconnected`` it also returns at DISCONNECTED. Raises LinkLost once reconnecting is
        given up, SessionClosed where the session was closed, JobStateError for a BLOCKED job
        that nobody reads (it would never finish), and what the target refused to tell its news for.
        """
        return await self._backing.wait(disconnected=disconnected)

    def changes(self) -> AsyncIterator[JobState]:
        """The states, beginning with the present one; merged when several come at once. Ends after
        a finished one. After DISCONNECTED it raises what `wait` raises."""
        backing = self._backing
        return Changes(
            backing.notifier,
            lambda: backing.info.state,
            lambda state: state.finished,
            backing.check_reachable,
        )

    # -- results

    def receive(
        self, *, keep: bool = False, wait: bool = True, from_start: bool = False
    ) -> Receiver:
        """The records of the job, as an async iterator that holds no task.

        From what is not yet used up on, or all with ``from_start``. ``wait=False``: what there is
        now, else until the job ends. Without ``keep`` a record is used up when the next is asked
        for, and the last one at the end: leaving the loop early loses nothing. One such reader at
        a time: a new one takes over, and the earlier gets JobStateError at its next step. With
        ``keep`` nothing is used up. Cancelled, the record comes at the next step.

        Who waits for the end is told, after the last record, where that is not the end of what the
        job produced: by LinkLost or SessionClosed where its output was cut, by JobFailed where the
        job is LOST, and by ResultError where there is less of it on the target. A value that cannot
        be read is told by ResultError, once: the next step goes on behind it.
        """
        position: Position | None = {} if from_start else None
        return self._backing.receive(position, follow=wait, consume=not keep)

    def lines(
        self,
        stream: Literal["stdout", "stderr"] = "stdout",
        *,
        keep: bool = False,
        wait: bool = True,
        from_start: bool = False,
    ) -> Lines:
        """The lines of one stream as text, without their ends, as an async iterator.

        It reads as `receive` does, and what it passes of other streams is used up with it; what is
        no UTF-8 is replaced. A line of more than 1 MiB comes in parts. A line is used up with the
        record that holds its end. Raises what `receive` raises.
        """
        if stream not in ("stdout", "stderr"):
            raise ValueError(f"stream must be 'stdout' or 'stderr', not {stream!r}")
        return Lines(self.receive(keep=keep, wait=wait, from_start=from_start), stream)

    async def result(self) -> _T:
        """Waits for the end. Of a command: a CommandResult of what is not yet used up, which then
        is. Of a function: what it returned; of a generator the list of its items that are not yet
        used up. All that it still printed or logged is then used up too.

        The handle remembers it: later calls, and those at the same time, get the same. All of it is
        held in memory. Raises JobFailed where the job is not COMPLETED, and ResultError where what
        a function returned is no data; then nothing is used up. Cancelled, it leaves the job and
        its results alone.
        """
        while self._taking is not None:
            self._backing.notifier.check()
            await self._taking.wait()
        if self._result is not None:
            await anyio.lowlevel.checkpoint()
        else:
            self._taking = taking = anyio.Event()
            try:
                self._result = (cast("_T", await result_of(self._backing, check=True)),)
            finally:
                self._taking = None
                taking.set()
        return self._result[0]

    # -- managing

    async def stop(self, grace: float = 5.0) -> list[str]:
        """Ends the whole process tree: TERM and CONT, after ``grace`` seconds KILL. Returns what
        survived even that, normally nothing. A finished job is left as it is, but processes that
        it left behind are stopped. Cancelled, it goes on there."""
        return await self._backing.stop(grace)

    async def suspend(self) -> None:
        """Stops the job's processes where they are (SIGSTOP). Raises JobStateError once it has
        finished."""
        await self._backing.change("suspend")

    async def resume(self) -> None:
        """Lets a suspended job go on (SIGCONT)."""
        await self._backing.change("resume")

    async def signal(self, signal: str | int) -> None:
        """Sends a signal to the process group of the job's first process, as Ctrl-C at a terminal
        does: ``"INT"``, ``"SIGINT"``, or a number as the target has it.

        What the job makes of it is its own: one that dies of it is FAILED, reason ``signalled``;
        `stop` is what ends a job for certain. A suspended job gets it once it goes on, but for
        KILL and CONT; STOP and CONT suspend and resume the group alone. A function gets INT as
        KeyboardInterrupt. Calls of `Session.call` are no jobs: to cancel one interrupts it.

        Raises JobStateError where the job has ended, or its first process has, TargetError for a
        signal that the target lacks, TypeError and ValueError for what is no signal anywhere.
        LinkLost: it may have been sent; nothing sends it twice. Cancelled, so too.
        """
        name = signal_word(signal)
        if self.state.finished:
            await anyio.lowlevel.checkpoint()
            raise JobStateError(f"job {self.id} is {self.state}: nothing of it is signalled")
        await self._backing.change("signal", signal=name)

    async def remove(self, force: bool = False) -> None:
        """Forgets the job and deletes its results. Raises JobStateError while it runs, unless
        ``force``: then it is stopped first."""
        await self._backing.remove(force)

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        """Copies a stream to a file on the computer where the results are; returns its path
        there. A relative path is relative to the account's home, for `local:` to the caller's
        directory. The file appears whole, or not at all, and an existing one keeps its mode. Of a
        stream whose oldest output was dropped or freed it holds what is left. Raises ValueError for
        a stream that is neither stdout nor stderr."""
        return await self._backing.save(path, stream)

    async def send(self, data: bytes) -> None:
        """Writes to the stdin of a job started with ``stdin=remit.PIPE``. Waits while the job
        does not read. Raises JobStateError once it no longer reads. Cancelled, a part may have
        been sent."""
        stdin = _stdin_of(self._backing)
        await self._backing.turn.wait()
        await stdin.send(data)

    async def send_eof(self) -> None:
        """Closes that stdin. Twice is quiet."""
        stdin = _stdin_of(self._backing)
        await self._backing.turn.wait()
        await stdin.send_eof()


async def result_of(backing: Backing, *, check: bool) -> Any:
    """As `Job.result`; without ``check`` that of a command that exited, whatever its status."""
    await backing.turn.wait()
    if backing.runs_function:
        return await FunctionResult(backing, backing.store, backing.teller).wait()
    return await CommandOutput(backing, backing.store).wait(check=check)


async def outcome_within(backing: Backing, timeout: float | None, check: bool) -> Any:
    """For `Session.run`. Raises JobFailed where the target does not end the job though its
    time is over."""
    limit = math.inf if timeout is None else float(timeout) + _PATIENCE
    with anyio.move_on_after(limit):
        return await result_of(backing, check=check)
    info = backing.known
    words = f"job {info.id} on {info.location} was not ended there in time"
    raise JobFailed(words, job=info, location=info.location, reason="timeout")


def _stdin_of(backing: Backing) -> JobStdin:
    if backing.stdin is None or not backing.stdin.piped:
        raise JobStateError(f"job {backing.info.id} was not started with stdin=remit.PIPE")
    return backing.stdin


named_as_written(__name__)
