"""What stands behind the handles of a job: what is known of it, its results, and its verbs.

One that runs, or is kept, is heard of (`Live`); one that is over and was let go is not.
"""

from __future__ import annotations

import logging
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import anyio.lowlevel
import attrs

from remit._amounts import seconds
from remit._errors import JobFailed, JobStateError, RemitError, RemoteProtocolError
from remit._function_records import FunctionFailure
from remit._jobs.channel import JobChannel
from remit._jobs.failure import job_failed
from remit._jobs.function_output import Teller
from remit._jobs.port import Port
from remit._jobs.receiver import Receiver
from remit._jobs.request import Function, Start
from remit._jobs.result import FunctionResult
from remit._jobs.stdin import JobStdin
from remit._jobs.stores import Store
from remit._jobs.turn import At, Turn
from remit._link.messages import JobMap, Stopped
from remit._link.notify import Notifier
from remit._types import CommandResult, JobInfo, JobState, Outcome
from remit._wire import states
from remit._wire.conversation import Piece
from remit._wire.sanitize import one_line
from remit.abc import Channel, Placement, Position

_log = logging.getLogger("remit.jobs")


class Backing(ABC):
    """What handles hold, and what they ask."""

    is_kept = False  # on the target
    stdin: JobStdin | None = None  # where there is one to send to

    def __init__(self, port: Port, info: JobInfo) -> None:
        self.port = port
        self.info = info  # the last news
        self.notifier = Notifier(f"job {info.id}")  # the state changed, or stdin has room
        self.turn = Turn(self.notifier)
        self.teller = Teller(info.id, info.location, port.trust)
        self.opened: Store | None = None
        self.receivers: weakref.WeakSet[Receiver] = weakref.WeakSet()
        self.runs_function = False
        self.result_at: int | None = None  # where a function's result is in what it said
        self.trouble: RemitError | None = None  # why nothing is told of it over a link that stands
        self.cause: BaseException | None = None  # of its failure, where that is ours

    @property
    def store(self) -> Store:
        """Its results. Raises JobStateError where they are gone."""
        assert self.opened is not None  # from the target's answer on
        return self.opened

    @property
    def has_more_data(self) -> bool:
        """As `Job.has_more_data`."""
        if not self.info.state.finished or self.opened is None:
            return self.info.has_more_data
        used = self.opened.used
        return any(size > used.get(stream, 0) for stream, size in self.opened.size.items())

    @property
    def known(self) -> JobInfo:
        """All of what is known now."""
        return attrs.evolve(self.info, has_more_data=self.has_more_data)

    async def wait(self, *, disconnected: bool = False) -> JobState:
        """As `Job.wait`."""
        await anyio.lowlevel.checkpoint()
        while True:
            state = self.info.state
            if state.finished:
                if self.opened is not None:
                    await self.opened.drained()
                return state
            if disconnected and state is JobState.DISCONNECTED:
                return state
            if state is JobState.BLOCKED and not self.receivers:
                raise JobStateError(
                    f"job {self.info.id} is BLOCKED: its buffer is full and nobody reads it",
                    hint="job.receive(); full='spill' needs room for temporary files here",
                )
            self.check_reachable()
            await self.notifier.wait()

    def check_reachable(self) -> None:
        """Raises where nothing more can be heard of it."""
        if self.info.state is JobState.DISCONNECTED:
            self.port.check()
            if self.trouble is not None:
                raise self.trouble.again()

    def check_end(self) -> None:
        """Where all that came was read: raises unless it is known to be all."""
        if self.info.state is JobState.LOST:
            raise self.failure(b"")

    def failure(self, stderr: bytes, result: CommandResult | None = None) -> JobFailed:
        error = job_failed(self.known, stderr, result)
        error.__cause__ = self.cause
        return error

    def receive(self, position: Position | None, *, follow: bool, consume: bool) -> Receiver:
        """As `Job.receive`, from that position on; None: from what is not used up."""
        receiver = Receiver(
            self.store, self.teller, position, self.check_end, follow=follow, consume=consume
        )
        receiver.before = self.turn.wait
        self.receivers.add(receiver)
        self.notifier.notify()
        return receiver

    async def refresh(self) -> None:
        """As `Job.refresh`. By default there is nothing to ask: each change is told by itself."""
        await anyio.lowlevel.checkpoint()

    @abstractmethod
    async def stop(self, grace: float = 5.0) -> list[str]:
        """As `Job.stop`."""

    @abstractmethod
    async def change(self, verb: str, **arguments: Any) -> None:
        """As `Job.suspend`, `resume` and `signal`, by their names."""

    @abstractmethod
    async def remove(self, force: bool = False) -> None:
        """As `Job.remove`."""

    @abstractmethod
    async def save(self, path: str | os.PathLike[str], stream: str) -> str:
        """As `Job.save`."""

    async def discard(self) -> None:
        """After `Session.run`: stopped if it runs, and removed."""
        await self.remove(force=True)


class Live(Backing):
    """One that the agent tells of: `remit._jobs.channel.Hearer`. Begun by its session."""

    def __init__(self, port: Port, info: JobInfo) -> None:
        super().__init__(port, info)
        self.channel = JobChannel(self)
        self._is_known = False  # plugins know of it

    def open_store(
        self, placement: Placement, channel: Callable[[], Channel], *, takes: bool
    ) -> None:
        """Raises PluginError. ``channel`` is made when it can know of the store."""
        port, own = self.port, weakref.ref(self)

        def failed(exc: Exception) -> None:
            job = own()
            (port.tasks.note if job is None else job.fail)(exc)

        plugin = port.plugins.whose(placement)
        ours = port.plugins.is_ours(plugin)
        self.opened = Store(port.stores, plugin, failed, takes=takes, ours=ours)
        try:
            self.opened.open(placement, self.info, channel())
        except BaseException:
            self.opened = None
            raise
        if not self.opened.outlives:
            port.stores.own(self.opened, self)

    # -- what is told of it

    def hear(self, news: JobMap) -> None:
        """Takes what the agent tells."""
        if news.id != self.info.id:
            raise RemoteProtocolError(f"news of job {news.id} where {self.info.id} was meant")
        if news.command is not None:
            self.runs_function = news.command.function is not None
        if news.outcome is not None:
            self.result_at = news.outcome.result_at
        self.become(news.info(self.port.location, here=self.port.here))

    def become(self, info: JobInfo) -> None:
        """All changes of its state come here."""
        old = self.info
        if states.observed(old.state, info.state) != info.state:
            return  # older news than what is known
        self.info = info
        if info.state is not old.state:
            _log.info("job %s on %s is %s", info.id, one_line(info.location), info.state)
            news = not self._is_known and old.state is JobState.PENDING
            self._is_known = True
            self.port.jobs.changed(self, None if news else old.state)
        self.notifier.notify()

    def set_state(self, state: JobState, outcome: Outcome | None = None) -> None:
        self.become(attrs.evolve(self.info, state=state, outcome=outcome or self.info.outcome))

    async def failure_told(self) -> FunctionFailure | None:
        """How its function failed, where that is still to be had. Uses nothing up."""
        return await FunctionResult(self, self.store, self.teller).failure()

    @abstractmethod
    def accepted(self, news: JobMap) -> None: ...

    def take(self, piece: Piece) -> None:
        raise RemoteProtocolError(f"output of job {self.info.id} that nobody asked for")

    def stdin_over(self) -> None:
        if self.stdin is not None:
            self.stdin.over(self.info.state)

    def over(self, news: JobMap) -> None:
        self.hear(news)
        if not self.info.state.finished:
            raise RemoteProtocolError(f"job {self.info.id} is over, and {self.info.state}")

    def unwatched(self, error: RemitError) -> None:
        """Its start was refused, and is told of there."""

    @abstractmethod
    def untold(self, error: RemitError) -> None: ...

    @abstractmethod
    def fail(self, exc: Exception) -> None: ...

    # -- what is asked of it

    @abstractmethod
    async def begin(self) -> None:
        """Asks the target to start it, and waits for the answer."""

    @abstractmethod
    async def take_back(self, *, spare: bool = False) -> None:
        """After a start that was given up: nothing of the job may stay. ``spare``: but what ran
        under its id before."""

    async def discard(self) -> None:
        await self.take_back()

    async def ask(self, verb: str, answer: type[Any], **arguments: Any) -> Any:
        await self.turn.check(f"job {self.info.id} is {self.info.state}")
        asked = {"job": self.info.id, **arguments}
        if verb == "signal":
            # Once: where the link is lost over it, it may have been sent.
            return await (await self.port.ready()).ask(verb, asked, answer)
        return await self.port.ask(verb, asked, answer)

    async def stop(self, grace: float = 5.0) -> list[str]:
        grace = check_grace(grace)
        self.turn.give_up()
        await self.turn.wait()
        if self.turn.at is At.NEVER:
            await anyio.lowlevel.checkpoint()
            return []
        answer: Stopped = await self.ask("stop", Stopped, grace=grace)
        self.hear(answer.job)
        return answer.survivors

    async def change(self, verb: str, **arguments: Any) -> None:
        self.hear(await self.ask(verb, JobMap, **arguments))


def check_grace(grace: object) -> float:
    """Raises TypeError and ValueError."""
    return seconds("grace", grace, least=0, most=3600)


def announced(port: Port, request: Start) -> JobInfo:
    """What is known of a job before the target has answered."""
    info = JobInfo(
        id=request.id,
        name=request.settings.name,
        state=JobState.PENDING,
        location=port.location,
        command=f"{request.work.name}()" if isinstance(request.work, Function) else request.work,
        placement=request.placement.name,
        lifetime=request.lifetime,
        has_more_data=True,
    )
    return attrs.evolve(info, group=request.settings.group)
