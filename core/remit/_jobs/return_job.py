"""Jobs whose output is sent here as it is produced, and which end with their session."""

from __future__ import annotations

import errno
import os
import weakref
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio.lowlevel
import attrs

from remit._decoding import moment
from remit._errors import (
    JobStateError,
    LinkLost,
    LocalProtocolError,
    RemitError,
    SessionClosed,
)
from remit._jobs import save
from remit._jobs.backing import Backing, Live, announced, check_grace
from remit._jobs.limits import Limits, Verdict
from remit._jobs.output import Output, window
from remit._jobs.port import Port
from remit._jobs.request import Function, Start
from remit._jobs.stdin import JobStdin
from remit._jobs.stores import Store
from remit._link.listener import own_trouble
from remit._link.messages import JobMap
from remit._types import PIPE, JobInfo, JobState, Outcome
from remit._wire.conversation import Piece
from remit.abc import Position, StoreReader

# No room here for what it says: of the disk, of the account, of descriptors.
_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE})


class ReturnJob(Live):
    """See the module. Its results are in a store of this process."""

    stdin: JobStdin

    def __init__(self, port: Port, request: Start) -> None:
        super().__init__(port, announced(port, request))
        self._request = request
        self._cut: RemitError | None = None  # what kept its end from being recorded
        self._limits = Limits(self.channel)
        self.output = Output(request, self.channel, self._limits, self.teller, port.plugins)
        piped = request.settings.stdin is PIPE
        self.stdin = JobStdin(request.id, self.channel, piped=piped)

    async def begin(self) -> None:
        request = self._request
        link = await self.port.ready()
        arguments, task = request.arguments(), b""
        if isinstance(request.work, Function):
            more, task = (await self.port.shipment(request.work)).arguments()
            arguments.update(more)
            link = await self.port.ready()
        self.channel.open(link, "start", arguments, window(request))
        if task or request.settings.stdin not in (None, PIPE):
            self.port.tasks.start_soon(self._pour, task, failed=self.fail)
        await self.channel.answered.wait()
        if self.channel.error is not None:
            raise self.channel.error
        if request.settings.timeout is not None and not self.info.state.finished:
            enforce = self._limits.enforce
            self.port.tasks.start_soon(enforce, self, request.settings.timeout, failed=self.fail)

    async def _pour(self, task: bytes) -> None:
        try:
            await self.stdin.pour(task, self._request.settings.stdin)
        except Exception as exc:
            # A job that got half of its input must not pass for one that got all.
            self.cause = exc
            self._condemn(Verdict(f"its stdin could not be read here: {exc!r}"))

    # -- what is told of it

    def accepted(self, news: JobMap) -> None:
        self.info = attrs.evolve(self.info, created=moment(news.created))
        if self.opened is None:
            prepare(self)
        self.port.jobs.returned.add(self)
        self.hear(news)

    def take(self, piece: Piece) -> None:
        self.output.take(self, piece)

    def become(self, info: JobInfo) -> None:
        super().become(self._limits.on(info))
        if self.info.state.finished:
            self.stdin_over()
            self._limits.lift()

    # -- its end

    def over(self, news: JobMap) -> None:
        super().over(news)
        self._close()

    def fail(self, exc: Exception) -> None:
        """Something of it went wrong here, in its store most likely: there it is stopped."""
        error = own_trouble(exc)
        if self.info.state.finished:
            self.port.tasks.note(error)
            outcome = self.info.outcome or Outcome()
            note = outcome.note or f"its results may not be stored: {error.message}"
            self.set_state(self.info.state, attrs.evolve(outcome, note=note))
            return
        self.cause = error
        self.channel.close()
        cause = error.__cause__
        full = isinstance(cause, OSError) and cause.errno in _NO_SPACE
        reason = "no-space" if full else "store-failed"
        self.set_state(JobState.FAILED, Outcome(reason=reason, error=error.message))
        self._close()

    def link_over(self, error: RemitError) -> None:
        """The link is gone, and with it the job."""
        if self.info.state.finished:
            return
        self._cut = error
        if isinstance(error, SessionClosed):
            self.set_state(JobState.STOPPED, Outcome(reason="session-ended"))
        else:
            self.set_state(JobState.LOST, Outcome(reason="link-lost", error=error.message))
        self._close()

    # It is stopped there: nobody could have its output.
    untold = link_over

    def _close(self) -> None:
        """Nothing more of it will come."""
        if self.opened is not None:
            self.opened.try_close(self.info.outcome)
        self.port.jobs.returned.ended(self)

    def check_end(self) -> None:
        if self._cut is not None:
            raise self._cut.again()
        if self.info.outcome is not None and self.info.outcome.reason == "session-ended":
            words = f"job {self.info.id} was stopped with its session, which is closed"
            raise SessionClosed(words)
        super().check_end()

    # -- its limits

    def printed_too_much(self, most: int) -> None:
        if self._limits.verdict is None:
            self._condemn(Verdict(f"it printed more than {most} bytes", "max-output"))

    def _condemn(self, verdict: Verdict) -> None:
        self._limits.condemn(verdict)
        self.port.tasks.start_soon(self._limits.end, self, failed=self.fail)

    def outlived(self) -> None:
        self.set_state(JobState.STOPPED)
        self._close()

    # -- what is asked of it

    async def ask(self, verb: str, answer: type[Any], **arguments: Any) -> Any:
        """Over its own link, which it does not outlive."""
        await self.turn.check(f"job {self.info.id} is {self.info.state}")
        if self._cut is not None:
            raise self._cut.again()
        return await self.channel.ask(verb, {"job": self.info.id, **arguments}, answer)

    async def stop(self, grace: float = 5.0) -> list[str]:
        grace = check_grace(grace)
        if self.info.state.finished:
            await anyio.lowlevel.checkpoint()
            return []
        try:
            return await super().stop(grace)
        except LinkLost:
            if self._cut is None:
                raise
            return []  # as of one that was lost a moment ago

    async def remove(self, force: bool = False) -> None:
        state = self.info.state
        if not state.finished:
            if not force:
                raise JobStateError(
                    f"job {self.info.id} is {state}", hint="stop it first, or remove(force=True)"
                )
            await self.stop()
        await self.take_back()

    async def save(self, path: str | os.PathLike[str], stream: str) -> str:
        return await save.save(path, stream, self.receive({}, follow=True, consume=False))

    async def take_back(self, *, spare: bool = False) -> None:
        """Nothing of it stays: at the close of the channel the agent stops it and forgets it."""
        self.port.jobs.returned.remove(self.info.id)
        self.channel.close()
        if not self.info.state.finished:
            self.set_state(JobState.STOPPED, Outcome(reason="stopped"))
        if self.opened is not None:
            self.opened.try_close(self.info.outcome)
            self.opened.cancel_tasks()
            await self.opened.try_aclose()
            self.port.stores.forget(self.opened)


def prepare(job: ReturnJob) -> None:
    """Opens its store, before it is asked for or once it is accepted. Raises PluginError."""
    takes = job._request.settings.full == "block"
    job.open_store(job._request.placement, lambda: _Channel(job), takes=takes)


class EndedJob(Backing):
    """A finished return job whose handle was let go, and its results with it."""

    @property
    def store(self) -> Store:
        raise _let_go(self.info.id)

    async def stop(self, grace: float = 5.0) -> list[str]:
        check_grace(grace)
        await anyio.lowlevel.checkpoint()
        return []

    async def change(self, verb: str, **arguments: Any) -> None:
        raise JobStateError(f"job {self.info.id} is {self.info.state}")

    async def remove(self, force: bool = False) -> None:
        self.port.jobs.returned.remove(self.info.id)
        await anyio.lowlevel.checkpoint()

    async def save(self, path: str | os.PathLike[str], stream: str) -> str:
        save.check(stream)
        raise _let_go(self.info.id)


def _let_go(job_id: str) -> JobStateError:
    return JobStateError(
        f"the results of job {job_id} are gone: it had finished, and its last handle was dropped",
        hint="keep what `start` returned for as long as its results are wanted",
    )


class _Channel:
    """What a placement is given of a return job: `remit.abc.Channel`."""

    def __init__(self, job: ReturnJob) -> None:
        # The job owns the store, which owns this.
        self._job = weakref.ref(job)
        self._store = weakref.ref(job.store)
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
            job.output.grant(size)

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        store = self._store()
        if store is not None:
            store.start_soon(function, *args)

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        raise LocalProtocolError("the results of this job are sent here, not spooled there")
