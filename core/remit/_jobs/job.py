"""Live handles of jobs: what all of them share."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, cast

import anyio
import anyio.lowlevel
import attrs

from remit._amounts import seconds
from remit._decoding import decode
from remit._errors import JobFailed, JobStateError, RemitError, RemoteProtocolError
from remit._function_records import FunctionFailure
from remit._jobs.function_output import Teller
from remit._jobs.receiver import Receiver
from remit._jobs.request import Function, Start
from remit._jobs.result import CommandOutput, FunctionResult
from remit._jobs.stores import Store
from remit._link.link import Link, Listener
from remit._link.messages import JobMap, JobNews, Stopped
from remit._link.notify import Changes, Notifier
from remit._public import named_as_written
from remit._types import CommandResult, JobInfo, JobState, Outcome
from remit._wire import states
from remit._wire.conversation import Piece
from remit._wire.sanitize import one_line
from remit._wire.streams import STDERR_TAIL
from remit.abc import Channel, Placement, Position

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from remit._jobs.port import Port

    _T = TypeVar("_T", covariant=True, default=Any)
else:
    from typing import TypeVar

    _T = TypeVar("_T", covariant=True)

# Pieces of stdin, so that several jobs' inputs go in turn.
_STDIN_PIECE = 1 << 16
# Seconds over its time limit that the end of a job may take to arrive.
_PATIENCE = 20.0


class JobChannel(Listener):
    """The channel on which the agent tells of one job: that of its start, or of a watch.

    The job holds it, and it holds the job weakly: when the handle is dropped, the channel is given
    up.
    """

    def __init__(self, job: Job) -> None:
        self._job = weakref.ref(job)
        self._link: Link | None = None
        self._number = 0
        self.answered = anyio.Event()
        self.error: RemitError | None = None
        self.stdin_closed = False

    def open(self, link: Link, verb: str, arguments: dict[str, Any], credit: int = 0) -> None:
        self._link = link
        self._number = link.open(verb, arguments, self, credit)

    def close(self) -> None:
        if self._link is not None:
            self._link.close(self._number)

    def __del__(self) -> None:
        if self._link is not None:
            self._link.abandon(self._number)

    def grant(self, size: int) -> None:
        if self._link is not None:
            self._link.grant(self._number, size)

    @property
    def granted(self) -> int:
        """How many bytes of output may come now."""
        return 0 if self._link is None else self._link.granted(self._number)

    async def ask(self, verb: str, arguments: dict[str, Any], answer: type[Any]) -> Any:
        """A request over the same link; raises LinkLost once that is over."""
        assert self._link is not None
        return await self._link.ask(verb, arguments, answer)

    async def send(
        self,
        data: bytes | memoryview,
        notifier: Notifier,
        over: Callable[[], bool],
        stream: int = 0,
    ) -> None:
        """Sends it as the job reads it. ``over`` is asked before each piece: True, and the rest is
        let be; it may also raise. ``notifier`` notifies when something happens to the job."""
        view = memoryview(data).cast("B")
        while view and not over():
            link = self._link
            assert link is not None
            room = min(link.credit(self._number), _STDIN_PIECE)
            if room:
                link.data(self._number, Piece(stream, 0, 0, 0.0, bytes(view[:room])))
                view = view[room:]
            elif link.congested:
                await link.drained()
            else:
                await notifier.wait()

    def send_eof(self) -> None:
        if self._link is not None:
            self._link.end(self._number)

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        job = self._job()
        if job is not None:
            job._accepted(decode(body, JobMap))
        self.answered.set()

    def refused(self, error: RemitError) -> None:
        self.error = error
        self.answered.set()
        job = self._job()
        if job is not None:
            job._unwatched(error)
        self._ring()

    def event(self, name: str, arguments: bytes) -> None:
        job = self._job()
        if name == "stdin-closed":
            self.stdin_closed = True
            self._ring()
            if job is not None:
                job._stdin_over()
        elif name == "job" and job is not None:
            job._hear(decode(arguments, JobMap))

    def data(self, piece: Piece) -> None:
        job = self._job()
        if job is not None:
            job._take(piece)

    def credit(self) -> None:
        self._ring()

    def ended(self, body: bytes) -> None:
        job = self._job()
        if job is not None:
            job._over(decode(body, JobNews).job)

    def failed(self, error: RemitError) -> None:
        job = self._job()
        if job is not None:
            job._untold(error)

    def lost(self, error: RemitError) -> None:
        if not self.answered.is_set():
            self.refused(error)

    def raised(self, error: RemitError) -> None:
        job = self._job()
        if not self.answered.is_set():
            self.refused(error)
        elif job is not None:
            job._fail(error)

    def _ring(self) -> None:
        job = self._job()
        if job is not None:
            job._notifier.notify()


class Job(Generic[_T]):
    """A live handle of one job. Properties tell the last news and never block; `refresh` asks.

    Handles are made by `Session.start` and `Session.job`. ``Job[T]`` has a `result` of type ``T``.
    """

    def __init__(self, port: Port, info: JobInfo) -> None:
        self._port = port
        self._info = info
        self._notifier = Notifier(f"job {info.id}")  # the state changed, or stdin has room
        self._feed = JobChannel(self)
        self._opened: Store | None = None
        self._receivers: weakref.WeakSet[Receiver] = weakref.WeakSet()
        self._is_known = False  # plugins know of it
        self._runs_function = False
        self._trouble: RemitError | None = None  # why nothing is told of it over a link that stands
        self._cause: BaseException | None = None  # of its failure, where that is ours
        self._result_at: int | None = None  # where a function's result is in what it said

    # -- what is known

    @property
    def info(self) -> JobInfo:
        """All of what is known now, frozen."""
        return attrs.evolve(self._info, has_more_data=self.has_more_data)

    @property
    def id(self) -> str:
        return self._info.id

    @property
    def name(self) -> str | None:
        return self._info.name

    @property
    def state(self) -> JobState:
        return self._info.state

    @property
    def location(self) -> str:
        """The address as it was given, ``localhost`` for this computer."""
        return self._info.location

    @property
    def command(self) -> str | tuple[str, ...]:
        return self._info.command

    @property
    def placement(self) -> str:
        return self._info.placement

    @property
    def lifetime(self) -> str:
        return self._info.lifetime

    @property
    def has_more_data(self) -> bool:
        """True until the job has finished, then whether anything is left unused."""
        if not self.state.finished or self._opened is None:
            return self._info.has_more_data
        used = self._opened.used
        return any(size > used.get(stream, 0) for stream, size in self._opened.size.items())

    @property
    def created(self) -> datetime | None:
        return self._info.created

    @property
    def started(self) -> datetime | None:
        return self._info.started

    @property
    def finished(self) -> datetime | None:
        return self._info.finished

    @property
    def outcome(self) -> Outcome | None:
        """How it ended; None until that is known."""
        return self._info.outcome

    @property
    def group(self) -> str | None:
        """The id of the job group it belongs to, or None."""
        return self._info.group

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return one_line(f"<remit.Job {self.id}{name} {self.state} on {self.location}>")

    async def refresh(self) -> None:
        """Asks the target how the job stands."""
        raise NotImplementedError

    # -- waiting

    async def wait(self, *, disconnected: bool = False) -> JobState:
        """Waits until the job has finished, and its results are where they go; returns its state.
        Cancelled, it leaves the job alone.

        With ``disconnected`` it also returns at DISCONNECTED. Raises LinkLost once reconnecting is
        given up, SessionClosed where the session was closed, JobStateError for a BLOCKED job
        that nobody reads (it would never finish), and what the target refused to tell its news for.
        """
        await anyio.lowlevel.checkpoint()
        while True:
            state = self.state
            if state.finished:
                if self._opened is not None:
                    await self._opened.drained()
                return state
            if disconnected and state is JobState.DISCONNECTED:
                return state
            if state is JobState.BLOCKED and not self._receivers:
                raise JobStateError(
                    f"job {self.id} is BLOCKED: its buffer is full and nobody reads it",
                    hint="job.receive(); full='spill' needs room for temporary files here",
                )
            self._check_reachable()
            await self._notifier.wait()

    def changes(self) -> AsyncIterator[JobState]:
        """The states, beginning with the present one; merged when several come at once. Ends after
        a finished one. After DISCONNECTED it raises what `wait` raises."""
        return Changes(
            self._notifier, lambda: self.state, lambda state: state.finished, self._check_reachable
        )

    def _check_reachable(self) -> None:
        """Raises where nothing more can be heard of it."""
        if self.state is JobState.DISCONNECTED:
            self._port.check()
            if self._trouble is not None:
                raise self._trouble.again()

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
        receiver = Receiver(
            self._store,
            self._teller,
            position,
            self._check_end,
            follow=wait,
            consume=not keep,
        )
        self._receivers.add(receiver)
        self._notifier.notify()
        return receiver

    async def result(self) -> _T:
        """Waits for the end. Of a command: a CommandResult of what is not yet used up, which then
        is. Of a function: what it returned; of a generator the list of its items that are not yet
        used up. All that it still printed or logged is then used up too.

        All of it is held in memory. Raises JobFailed where the job is not COMPLETED, and
        ResultError where what a function returned is no data; then nothing is used up. Cancelled,
        it leaves the job and its results alone.
        """
        if self._runs_function:
            return cast("_T", await FunctionResult(self, self._store, self._teller).wait())
        return cast("_T", await CommandOutput(self, self._store).wait(check=True))

    async def _outcome_within(self, timeout: float | None, check: bool) -> Any:
        """For `Session.run`. Raises JobFailed where the target does not end the job though its
        time is over."""
        limit = math.inf if timeout is None else float(timeout) + _PATIENCE
        with anyio.move_on_after(limit):
            if self._runs_function:
                return await self.result()
            return await CommandOutput(self, self._store).wait(check=check)
        words = f"job {self.id} on {self.location} was not ended there in time"
        raise JobFailed(words, job=self.info, location=self.location, reason="timeout")

    def _check_end(self) -> None:
        """Where all that came was read: raises unless it is known to be all."""
        if self.state is JobState.LOST:
            raise self._failure(b"")

    def _failure(self, stderr: bytes, result: CommandResult | None = None) -> JobFailed:
        outcome = self.outcome or Outcome()
        if outcome.signal is not None:
            how = f"was ended by {outcome.signal}"
        elif outcome.exit_status is not None:
            how = f"exited with status {outcome.exit_status}"
        else:
            how = f"is {self.state}"
        if outcome.reason and outcome.reason not in ("exited", "signalled"):
            how += f" ({outcome.reason})"
        if outcome.error:
            how += f": {outcome.error}"
        if outcome.note:
            how += f"; {outcome.note}"
        for stream, missing in (result.dropped if result else {}).items():
            how += f"; {missing} bytes of its {stream} were dropped before they were read"
        tail = stderr[-STDERR_TAIL:]
        lines = tail.decode("utf-8", "replace").strip().splitlines()[-5:]
        error = JobFailed(
            f"job {self.id} on {self.location} {how}",
            job=self.info,
            location=self.location,
            exit_status=outcome.exit_status,
            signal=outcome.signal,
            reason=outcome.reason,
            stderr_tail=tail,
            result=result,
            evidence="\n".join(f"stderr  {line}" for line in lines),
        )
        error.__cause__ = self._cause
        return error

    @property
    def _teller(self) -> Teller:
        return Teller(self.id, self.location, self._port.trust)

    @property
    def _store(self) -> Store:
        assert self._opened is not None  # from the target's answer on
        return self._opened

    def _open_store(
        self, placement: Placement, channel: Callable[[], Channel], *, takes: bool
    ) -> None:
        """Raises PluginError. ``channel`` is made when it can know of the store."""
        port, own = self._port, weakref.ref(self)

        def failed(exc: Exception) -> None:
            job = own()
            (port.tasks.note if job is None else job._fail)(exc)

        plugin = port.plugins.whose(placement)
        ours = port.plugins.is_ours(plugin)
        self._opened = Store(port.stores, plugin, failed, takes=takes, ours=ours)
        try:
            self._opened.open(placement, self._info, channel())
        except BaseException:
            self._opened = None
            raise
        if not self._opened.outlives:
            port.stores.own(self._opened, self)

    # -- managing

    async def stop(self, grace: float = 5.0) -> list[str]:
        """Ends the whole process tree: TERM and CONT, after ``grace`` seconds KILL. Returns what
        survived even that, normally nothing. A finished job is left as it is, but processes that
        it left behind are stopped. Cancelled, it goes on there."""
        answer: Stopped = await self._ask("stop", Stopped, grace=check_grace(grace))
        self._hear(answer.job)
        return answer.survivors

    async def suspend(self) -> None:
        """Stops the job's processes where they are (SIGSTOP). Raises JobStateError once it has
        finished."""
        self._hear(await self._ask("suspend", JobMap))

    async def resume(self) -> None:
        """Lets a suspended job go on (SIGCONT)."""
        self._hear(await self._ask("resume", JobMap))

    async def remove(self, force: bool = False) -> None:
        """Forgets the job and deletes its results. Raises JobStateError while it runs, unless
        ``force``: then it is stopped first."""
        raise NotImplementedError

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        """Copies a stream to a file on the computer where the results are; returns its path
        there. A relative path is relative to the account's home, for `local:` to the caller's
        directory. The file appears whole, or not at all, and an existing one keeps its mode. Of a
        stream whose oldest output was dropped or freed it holds what is left. Raises ValueError for
        a stream that is neither stdout nor stderr."""
        raise NotImplementedError

    async def send(self, data: bytes) -> None:
        """Writes to the stdin of a job started with ``stdin=remit.PIPE``. Waits while the job
        does not read. Raises JobStateError once it no longer reads. Cancelled, a part may have
        been sent."""
        raise self._no_stdin()

    async def send_eof(self) -> None:
        """Closes that stdin. Twice is quiet."""
        raise self._no_stdin()

    def _no_stdin(self) -> JobStateError:
        return JobStateError(f"job {self.id} was not started with stdin=remit.PIPE")

    # -- for the session

    async def _begin(self) -> None:
        """Asks the target to start it, and waits for the answer."""
        raise NotImplementedError

    async def _take_back(self, *, spare: bool = False) -> None:
        """After a start that was given up: nothing of the job may stay. ``spare``: but what ran
        under its id before."""
        raise NotImplementedError

    def _untold(self, error: RemitError) -> None:
        """The agent cannot tell of it any more, for an error of its own."""
        raise NotImplementedError

    def _unwatched(self, error: RemitError) -> None:
        """The agent refuses to tell of it."""

    async def _discard(self) -> None:
        """After `Session.run`: stopped if it runs, and removed."""
        raise NotImplementedError

    async def _ask(self, verb: str, answer: type[Any], **arguments: Any) -> Any:
        return await self._port.ask(verb, {"job": self.id, **arguments}, answer)

    def _hear(self, news: JobMap) -> None:
        """Takes what the agent tells."""
        if news.id != self.id:
            raise RemoteProtocolError(f"news of job {news.id} where {self.id} was meant")
        if news.command is not None:
            self._runs_function = news.command.function is not None
        if news.outcome is not None:
            self._result_at = news.outcome.result_at
        self._become(news.info(self._port.location, here=self._port.here))

    def _become(self, info: JobInfo) -> None:
        old = self._info
        if states.observed(old.state, info.state) != info.state:
            return  # older news than what is known
        self._info = info
        if info.state is not old.state:
            news = not self._is_known and old.state is JobState.PENDING
            self._is_known = True
            self._port.jobs.changed(self, None if news else old.state)
        self._notifier.notify()

    @property
    def _failed_by_itself(self) -> bool:
        """Whether it is a function that told how it failed."""
        return self.state is JobState.FAILED and self._result_at is not None

    async def _failure_told(self) -> FunctionFailure | None:
        """How its function failed, where that is still to be had. Uses nothing up."""
        return await FunctionResult(self, self._store, self._teller).failure()

    def _set_state(self, state: JobState, outcome: Outcome | None = None) -> None:
        self._become(attrs.evolve(self._info, state=state, outcome=outcome or self._info.outcome))

    # -- what its feed tells

    def _accepted(self, news: JobMap) -> None:
        raise NotImplementedError

    def _take(self, piece: Piece) -> None:
        raise RemoteProtocolError(f"output of job {self.id} that nobody asked for")

    def _over(self, news: JobMap) -> None:
        raise NotImplementedError

    def _stdin_over(self) -> None:
        """It reads no more of it."""

    def _fail(self, exc: Exception) -> None:
        """What was raised here while news of it were taken."""
        raise NotImplementedError


def check_grace(grace: object) -> float:
    """Raises TypeError and ValueError."""
    return seconds("grace", grace, least=0, most=3600)


def announced(port: Port, request: Start) -> JobInfo:
    """What is known of a job before the target has answered."""
    return JobInfo(
        id=request.id,
        name=request.settings.name,
        state=JobState.PENDING,
        location=port.location,
        command=f"{request.work.name}()" if isinstance(request.work, Function) else request.work,
        placement=request.placement.name,
        lifetime=request.lifetime,
        has_more_data=True,
    )


named_as_written(__name__)
