"""Jobs whose output is sent here as it is produced, and which end with their session."""

from __future__ import annotations

import contextlib
import errno
import os
import weakref
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import anyio
import anyio.lowlevel
import attrs

from remit._decoding import moment
from remit._errors import (
    JobStateError,
    LinkLost,
    LocalProtocolError,
    RemitError,
    RemoteProtocolError,
    ResultError,
    SessionClosed,
)
from remit._jobs import save
from remit._jobs import stdin as feeding
from remit._jobs.job import Job, announced, check_grace
from remit._jobs.request import Function, Start
from remit._jobs.stores import Store
from remit._jobs.surcharge import Surcharges
from remit._link.link import own_trouble
from remit._link.messages import JobMap
from remit._types import PIPE, STREAMS, Gap, JobInfo, JobState, Outcome, Record
from remit._wire.conversation import Piece
from remit._wire.records import HEAD, Malformed, Said, Splitter
from remit._wire.streams import TASK
from remit.abc import Position, StoreReader

if TYPE_CHECKING:
    from remit._jobs.port import Port

# What the target may send before the store says more (`Channel.grant`).
_WINDOW = 1 << 20
# A job that is over its time limit or has printed too much is ended there. If the target does not,
# it is over for us: so many seconds later where it sends more than so much meanwhile, else after
# twice that time.
_PATIENCE: Final = 10.0
_LAST_WORDS: Final = 16 << 20


@attrs.frozen
class Verdict:
    """Why a job is ended from here, whatever the target then tells of its end."""

    error: str
    reason: str = ""  # empty: it is STOPPED

    def on(self, info: JobInfo) -> JobInfo:
        """What is known of the job once it has ended."""
        outcome = attrs.evolve(info.outcome or Outcome(), error=self.error)
        if not self.reason:
            return attrs.evolve(info, outcome=outcome)
        outcome = attrs.evolve(outcome, reason=self.reason)
        return attrs.evolve(info, outcome=outcome, state=JobState.FAILED)


# No room here for what it says: of the disk, of the account, of descriptors.
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


class ReturnJob(Job):
    """See the module. Its results are in a store of this process."""

    def __init__(self, port: Port, request: Start) -> None:
        super().__init__(port, announced(port, request))
        self._request = request
        self._eof_sent = False
        self._stdin_scope: anyio.CancelScope | None = None  # of the task that pours it
        self._verdict: Verdict | None = None
        self._allowance: int | None = None  # bytes that may still be granted after the verdict
        self._cut: RemitError | None = None  # what kept its end from being recorded
        self._limits: list[anyio.CancelScope] = []  # of tasks that wait for it to be too long
        self._arrived = {"stdout": 0, "stderr": 0}
        self._splitter = Splitter(0)
        self._lent = 0  # credit granted for a record that is not whole yet
        self._surcharges = Surcharges(min(request.settings.buffer_limit, _WINDOW))
        self._told = port.plugins.listens("remit_record")

    async def _begin(self) -> None:
        request = self._request
        link = await self._port.ready()
        credit = min(request.settings.buffer_limit, _WINDOW)
        arguments, task = request.arguments(), b""
        if isinstance(request.work, Function):
            more, task = (await self._port.shipment(request.work)).arguments()
            arguments.update(more)
            link = await self._port.ready()
        self._feed.open(link, "start", arguments, credit)
        if task or request.settings.stdin not in (None, PIPE):
            self._port.tasks.start_soon(self._pour, task, failed=self._fail)
        await self._feed.answered.wait()
        if self._feed.error is not None:
            raise self._feed.error
        if request.settings.timeout is not None and not self.state.finished:
            self._port.tasks.start_soon(self._enforce, request.settings.timeout, failed=self._fail)

    def _accepted(self, news: JobMap) -> None:
        self._info = attrs.evolve(self._info, created=moment(news.created))
        request = self._request
        self._open_store(
            request.placement, lambda: _Channel(self), takes=request.settings.full == "block"
        )
        self._port.jobs.returned.add(self)
        self._hear(news)

    def _take(self, piece: Piece) -> None:
        stream = STREAMS.get(piece.stream)
        time = moment(piece.time)
        if stream is None or piece.offset != self._arrived.get(stream, 0) or time is None:
            raise RemoteProtocolError(
                f"job {self.id}: stream {piece.stream} goes on at {piece.offset}"
            )
        self._feed.grant(self._surcharges.arrived(len(piece.data)))
        data = piece.data if stream == "records" else self._within_limit(piece.data)
        self._arrived[stream] = piece.offset + len(piece.data)
        record = Record(stream, data, piece.offset, piece.seq, time, self.id, self.location)
        if stream == "records":
            self._take_records(record)
            return
        self._store.append(record)
        self._notify_record(record)

    def _within_limit(self, data: bytes) -> bytes:
        """As much of it as the job may print; it is ended where that is not all."""
        most = self._request.settings.max_output
        if most is None:
            return data
        room = max(0, most - self._arrived["stdout"] - self._arrived["stderr"])
        if len(data) <= room:
            return data
        if self._verdict is None:
            self._condemn(Verdict(f"it printed more than {most} bytes", "max-output"))
            self._port.tasks.start_soon(self._end, failed=self._fail)
        self._grant(len(data) - room)  # so that its end can come
        return data[:room]

    def _take_records(self, record: Record) -> None:
        """Of what a function says only whole records may be dropped, and told to plugins."""
        if not self._told and self._request.settings.full != "drop":
            self._store.append(record)
            return
        try:
            said = self._splitter.feed(record.data)
        except Malformed as exc:
            raise RemoteProtocolError(f"job {self.id} said what is no record: {exc}") from exc
        if self._request.settings.full != "drop":
            self._store.append(record)
        if self._request.settings.full == "drop" and self._splitter.gathered > self._lent:
            # The store, which is to grant credit for it, gets it when it is whole.
            self._feed.grant(self._splitter.gathered - self._lent)
            self._lent = self._splitter.gathered
        for one in said:
            if self._request.settings.full == "drop":
                data = HEAD.pack(one.kind, one.number, one.time, len(one.body)) + bytes(one.body)
                self._store.append(attrs.evolve(record, data=data, offset=one.at))
            if self._told:
                self._tell_said(one, record.seq)

    def _tell_said(self, said: Said, seq: int) -> None:
        # Who receives a value that is none is told so; here nobody can be.
        with contextlib.suppress(ResultError):
            told = self._teller.record(said, seq)
            if told is not None:
                self._notify_record(told)

    def _grant(self, size: int) -> None:
        if self._allowance is not None:
            size = min(size, self._allowance)
            self._allowance -= size
        paid = min(size, self._lent)
        self._lent -= paid
        self._feed.grant(size - paid + self._surcharges.settled(size))

    def _notify_record(self, record: Record) -> None:
        if self._told:
            self._port.plugins.notify("remit_record", job=self.info, record=record)

    # -- its end

    def _over(self, news: JobMap) -> None:
        self._hear(news)
        if not self.state.finished:
            raise RemoteProtocolError(f"job {self.id} is over, and {self.state}")
        self._close()

    def _become(self, info: JobInfo) -> None:
        if self._verdict is not None and info.state.finished:
            info = self._verdict.on(info)
        super()._become(info)
        if self.state.finished:
            self._stdin_over()
            for scope in self._limits:
                scope.cancel()

    def _untold(self, error: RemitError) -> None:
        self._link_over(error)  # and is stopped there: nobody could have its output

    def _fail(self, exc: Exception) -> None:
        """Something of it went wrong here, in its store most likely: there it is stopped."""
        error = own_trouble(exc)
        if self.state.finished:
            self._port.tasks.note(error)
            outcome = self.outcome or Outcome()
            note = outcome.note or f"its results may not be stored: {error.message}"
            self._set_state(self.state, attrs.evolve(outcome, note=note))
            return
        self._cause = error
        self._feed.close()
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in _NO_SPACE
        reason = "no-space" if full else "store-failed"
        self._set_state(JobState.FAILED, Outcome(reason=reason, error=error.message))
        self._close()

    def _link_over(self, error: RemitError) -> None:
        """The link is gone, and with it the job."""
        if self.state.finished:
            return
        self._cut = error
        if isinstance(error, SessionClosed):
            self._set_state(JobState.STOPPED, Outcome(reason="session-ended"))
        else:
            self._set_state(JobState.LOST, Outcome(reason="link-lost", error=error.message))
        self._close()

    def _close(self) -> None:
        """Nothing more of it will come."""
        if self._opened is not None:
            self._opened.try_close(self.outcome)
        self._port.jobs.returned.ended(self)

    def _check_end(self) -> None:
        if self._cut is not None:
            raise self._cut.again()
        if self.outcome is not None and self.outcome.reason == "session-ended":
            raise SessionClosed(f"job {self.id} was stopped with its session, which is closed")
        super()._check_end()

    def _condemn(self, verdict: Verdict) -> None:
        self._verdict = verdict
        self._allowance = _LAST_WORDS

    async def _enforce(self, timeout: float) -> None:
        """The time limit is the target's to see to. One that does not loses the job to us."""
        with anyio.CancelScope() as scope:
            self._limits.append(scope)
            await anyio.sleep(timeout)
            if self._verdict is None:
                self._allowance = _LAST_WORDS
                await self._outlast(Verdict("the target did not end it in time", "timeout"))

    async def _end(self) -> None:
        """Has the target end it, for what its verdict says."""
        assert self._verdict is not None
        with anyio.CancelScope() as scope:
            self._limits.append(scope)
            with suppress(RemitError), anyio.move_on_after(_PATIENCE):
                await self.stop()
            await self._outlast(self._verdict)

    async def _outlast(self, verdict: Verdict) -> None:
        """Waits for its end as long as that is bearable."""
        rounds = 0
        while rounds < 2:
            await anyio.sleep(_PATIENCE)
            if not self._allowance:
                break  # it goes on and on
            # Without credit it is held up: what it has printed is not read here.
            rounds += self._feed.granted > 0
        self._condemn(verdict)
        self._feed.close()
        self._set_state(JobState.STOPPED)
        self._close()

    async def refresh(self) -> None:
        """The agent tells every change of a return job by itself; there is nothing to ask."""
        await anyio.lowlevel.checkpoint()

    async def _ask(self, verb: str, answer: type[Any], **arguments: Any) -> Any:
        """Over its own link, which it does not outlive."""
        if self._cut is not None:
            raise self._cut.again()
        return await self._feed.ask(verb, {"job": self.id, **arguments}, answer)

    async def stop(self, grace: float = 5.0) -> list[str]:
        grace = check_grace(grace)
        if self.state.finished:
            await anyio.lowlevel.checkpoint()
            return []
        try:
            return await super().stop(grace)
        except LinkLost:
            if self._cut is None:
                raise
            return []  # as of one that was lost a moment ago

    async def remove(self, force: bool = False) -> None:
        if not self.state.finished:
            if not force:
                raise JobStateError(
                    f"job {self.id} is {self.state}", hint="stop it first, or remove(force=True)"
                )
            await self.stop()
        await self._take_back()

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        async with save.whole(path, stream) as file:
            async for record in self.receive(keep=True, from_start=True):
                if record.stream != stream:
                    continue
                if isinstance(record.data, Gap):
                    await file.begin_again()
                    continue
                await file.write(record.data)
        return file.path

    async def _take_back(self, *, spare: bool = False) -> None:
        """Nothing of it stays: at the close of the channel the agent stops it and forgets it."""
        self._port.jobs.returned.remove(self.id)
        self._feed.close()
        if not self.state.finished:
            self._set_state(JobState.STOPPED, Outcome(reason="stopped"))
        if self._opened is not None:
            self._opened.try_close(self.outcome)
            self._opened.cancel_tasks()
            await self._opened.try_aclose()
            self._port.stores.forget(self._opened)

    async def _discard(self) -> None:
        await self._take_back()

    # -- stdin

    async def send(self, data: bytes) -> None:
        if self._request.settings.stdin is not PIPE:
            raise self._no_stdin()
        await self._send(data)

    async def send_eof(self) -> None:
        if self._request.settings.stdin is not PIPE:
            raise self._no_stdin()
        await anyio.lowlevel.checkpoint()
        self._eof_sent = True
        self._feed.send_eof()

    async def _pour(self, task: bytes) -> None:
        """The rest of its task, then its stdin; not for longer than it reads."""
        with anyio.CancelScope() as self._stdin_scope:
            try:
                await self._feed.send(task, self._notifier, self._feed.answered.is_set, TASK)
                if self._request.settings.stdin not in (None, PIPE):
                    await feeding.pour(self._request.settings.stdin, self._send)
                    self._feed.send_eof()
            except JobStateError:
                pass  # it no longer reads: its own affair, as in a shell's pipeline
            except Exception as exc:
                # A job that got half of its input must not pass for one that got all.
                self._cause = exc
                self._condemn(Verdict(f"its stdin could not be read here: {exc!r}"))
                self._port.tasks.start_soon(self._end, failed=self._fail)
        self._stdin_scope = None

    def _stdin_over(self) -> None:
        if self._stdin_scope is not None:
            self._stdin_scope.cancel()

    async def _send(self, data: bytes | memoryview) -> None:
        await self._feed.send(data, self._notifier, self._check_reads)
        await anyio.lowlevel.checkpoint()

    def _check_reads(self) -> bool:
        if self._eof_sent:
            raise JobStateError(f"the stdin of job {self.id} was closed by send_eof")
        if self.state.finished or self._feed.stdin_closed:
            raise JobStateError(f"job {self.id} no longer reads its stdin ({self.state})")
        return False


class EndedJob(Job):
    """A finished return job whose handle was let go, and its results with it."""

    def __init__(self, port: Port, info: JobInfo) -> None:
        super().__init__(port, info)

    @property
    def _store(self) -> Store:
        raise _let_go(self.id)

    async def refresh(self) -> None:
        await anyio.lowlevel.checkpoint()

    async def stop(self, grace: float = 5.0) -> list[str]:
        check_grace(grace)
        await anyio.lowlevel.checkpoint()
        return []

    async def suspend(self) -> None:
        raise JobStateError(f"job {self.id} is {self.state}")

    resume = suspend

    async def remove(self, force: bool = False) -> None:
        self._port.jobs.returned.remove(self.id)
        await anyio.lowlevel.checkpoint()

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        save.check(stream)
        raise _let_go(self.id)


def _let_go(job_id: str) -> JobStateError:
    return JobStateError(
        f"the results of job {job_id} are gone: it had finished, and nobody held it any more",
        hint="keep what `start` returned for as long as its results are wanted",
    )


class _Channel:
    """What a placement is given of a return job: `remit.abc.Channel`."""

    def __init__(self, job: ReturnJob) -> None:
        # The job owns the store, which owns this.
        self._job = weakref.ref(job)
        self._store = weakref.ref(job._store)
        self._request = job._request

    @property
    def full(self) -> str:
        return self._request.settings.full

    @property
    def buffer_limit(self) -> int:
        return self._request.settings.buffer_limit

    @property
    def size(self) -> Position:
        return {}

    @property
    def used(self) -> Position:
        return {}

    def grant(self, size: int) -> None:
        job = self._job()
        if job is not None:
            job._grant(size)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        store = self._store()
        if store is not None:
            store.start_soon(function, *args)

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        raise LocalProtocolError("the results of this job are sent here, not spooled there")
