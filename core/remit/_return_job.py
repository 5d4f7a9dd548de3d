"""Jobs whose output is sent here as it is produced, and which end with their session."""

from __future__ import annotations

import os
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import attrs

from remit import _stdin
from remit._conversation import Piece
from remit._errors import (
    JobStateError,
    LocalProtocolError,
    RemitError,
    RemoteProtocolError,
    SessionClosed,
)
from remit._job import Job, announced
from remit._messages import JobMap, moment
from remit._records import HEAD, Malformed, Splitter
from remit._request import Function, Start
from remit._task import TASK
from remit._words import PIPE, STREAMS, JobInfo, JobState, Outcome, Record
from remit.abc import Position, StoreReader

if TYPE_CHECKING:
    from remit._session import Session

# What the target may send before the store says more (`Channel.grant`).
_WINDOW = 1 << 20


class ReturnJob(Job):
    """See the module. Its results are in a store of this process."""

    def __init__(self, session: Session, request: Start) -> None:
        super().__init__(session, announced(session, request))
        self._request = request
        self._eof_sent = False
        self._stdin_error: str | None = None
        self._arrived = {"stdout": 0, "stderr": 0}
        self._splitter = Splitter(0)
        self._lent = 0  # credit granted for a record that is not whole yet
        self._told = session._plugins.listens("remit_record")

    async def _begin(self) -> None:
        request = self._request
        link = await self._session._ready()
        credit = min(request.buffer_limit, _WINDOW)
        arguments, task = request.arguments(), b""
        if isinstance(request.work, Function):
            more, task = (await self._session._task(request.work)).arguments()
            arguments.update(more)
            link = await self._session._ready()
        self._feed.open(link, "start", arguments, credit)
        if task:
            self._session._start_soon(self._feed_task, task)
        elif request.stdin is not None and request.stdin is not PIPE:
            self._session._start_soon(self._feed_stdin)
        await self._feed.answered.wait()
        if self._feed.error is not None:
            raise self._feed.error

    def _accepted(self, news: JobMap) -> None:
        self._info = attrs.evolve(self._info, created=moment(news.created))
        self._opened = self._request.placement.open_store(self.info, _Channel(self))
        self._session._returned[self.id] = self
        self._hear(news)

    def _take(self, piece: Piece) -> None:
        stream = STREAMS.get(piece.stream)
        time = moment(piece.time)
        if stream is None or piece.offset != self._arrived.get(stream, 0) or time is None:
            raise RemoteProtocolError(
                f"job {self.id}: stream {piece.stream} goes on at {piece.offset}"
            )
        self._arrived[stream] = piece.offset + len(piece.data)
        record = Record(stream, piece.data, piece.offset, piece.seq, time, self.id, self.location)
        if stream == "records":
            self._take_records(record)
            return
        self._store.append(record)
        self._notify_record(record)

    def _take_records(self, record: Record) -> None:
        """Of what a function says only whole records may be dropped, and told to plugins."""
        if not self._told and self._request.full != "drop":
            self._store.append(record)
            return
        try:
            said = self._splitter.feed(record.data)
        except Malformed as exc:
            raise RemoteProtocolError(f"job {self.id} said what is no record: {exc}") from exc
        if self._request.full != "drop":
            self._store.append(record)
        if self._request.full == "drop" and self._splitter.gathered > self._lent:
            # The store, which is to grant credit for it, gets it when it is whole.
            self._feed.grant(self._splitter.gathered - self._lent)
            self._lent = self._splitter.gathered
        for one in said:
            if self._request.full == "drop":
                data = HEAD.pack(one.kind, one.number, one.time, len(one.body)) + bytes(one.body)
                self._store.append(attrs.evolve(record, data=data, offset=one.at))
            told = self._teller.record(one, record.seq) if self._told else None
            if told is not None:
                self._notify_record(told)

    def _grant(self, size: int) -> None:
        paid = min(size, self._lent)
        self._lent -= paid
        self._feed.grant(size - paid)

    def _notify_record(self, record: Record) -> None:
        if self._told:
            self._session._plugins.notify("remit_record", job=self.info, record=record)

    def _over(self, news: JobMap) -> None:
        self._hear(news)
        if not self.state.finished:
            raise RemoteProtocolError(f"job {self.id} is over, and {self.state}")
        self._store.close(self.outcome)

    def _become(self, info: JobInfo) -> None:
        if self._stdin_error is not None and info.outcome is not None:
            info = attrs.evolve(info, outcome=attrs.evolve(info.outcome, error=self._stdin_error))
        super()._become(info)

    def _link_over(self, error: RemitError) -> None:
        """The link is gone, and with it the job."""
        if self.state.finished:
            return
        if isinstance(error, SessionClosed):
            self._set_state(JobState.STOPPED, Outcome(reason="session-ended"))
        else:
            self._set_state(JobState.LOST, Outcome(reason="link-lost", error=error.message))
        if self._opened is not None:
            self._opened.close(self.outcome)

    async def refresh(self) -> None:
        """The agent tells every change of a return job by itself; there is nothing to ask."""
        await anyio.lowlevel.checkpoint()

    async def stop(self, grace: float = 5.0) -> list[str]:
        if self.state.finished:
            return []
        return await super().stop(grace)

    async def remove(self, force: bool = False) -> None:
        if not self.state.finished:
            if not force:
                raise JobStateError(
                    f"job {self.id} is {self.state}", hint="stop it first, or remove(force=True)"
                )
            await self.stop()
        await self._take_back()

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        target = anyio.Path(path)
        partial = target.with_name(f".{target.name}.{self.id}")
        try:
            async with await partial.open("wb") as file:
                async for record in self.receive(keep=True, from_start=True):
                    if record.stream == stream:
                        await file.write(record.data)
            await partial.rename(target)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await partial.unlink(missing_ok=True)
            raise
        return str(await target.absolute())

    async def _take_back(self) -> None:
        """Nothing of it stays: at the close of the channel the agent stops it and forgets it."""
        self._session._returned.pop(self.id, None)
        self._feed.close()
        if not self.state.finished:
            self._set_state(JobState.STOPPED, Outcome(reason="stopped"))
        if self._opened is not None:
            self._opened.close(self.outcome)
            with anyio.CancelScope(shield=True):
                await self._opened.aclose()

    async def _discard(self) -> None:
        await self._take_back()

    # -- stdin

    async def send(self, data: bytes) -> None:
        if self._request.stdin is not PIPE:
            raise self._no_stdin()
        await self._send(data)

    async def send_eof(self) -> None:
        if self._request.stdin is not PIPE:
            raise self._no_stdin()
        await anyio.lowlevel.checkpoint()
        self._eof_sent = True
        self._feed.send_eof()

    async def _feed_task(self, task: bytes) -> None:
        await self._feed.send(task, self._bell, self._feed.answered.is_set, TASK)
        if self._request.stdin is not None and self._request.stdin is not PIPE:
            await self._feed_stdin()

    async def _feed_stdin(self) -> None:
        try:
            await _stdin.pour(self._request.stdin, self._send)
        except JobStateError:
            return  # it no longer reads: its own affair, as in a shell's pipeline
        except Exception as exc:
            # A job that got half of its input must not pass for one that got all.
            self._stdin_error = f"its stdin could not be read here: {exc!r}"
            await self.stop()
        else:
            self._feed.send_eof()

    async def _send(self, data: bytes | memoryview) -> None:
        await self._feed.send(data, self._bell, self._check_reads)
        await anyio.lowlevel.checkpoint()

    def _check_reads(self) -> bool:
        if self._eof_sent:
            raise JobStateError(f"the stdin of job {self.id} was closed by send_eof")
        if self.state.finished or self._feed.stdin_closed:
            raise JobStateError(f"job {self.id} no longer reads its stdin ({self.state})")
        return False


class _Channel:
    """What a placement is given of a return job: `remit.abc.Channel`."""

    def __init__(self, job: ReturnJob) -> None:
        # The job owns the store, which owns this.
        self._job = weakref.ref(job)
        self._request = job._request

    @property
    def full(self) -> str:
        return self._request.full

    @property
    def buffer_limit(self) -> int:
        return self._request.buffer_limit

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
        job = self._job()
        if job is not None:
            job._session._start_soon(function, *args)

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        raise LocalProtocolError("the results of this job are sent here, not spooled there")
