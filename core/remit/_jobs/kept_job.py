"""Jobs whose output is kept on the target; they are watched from here, over any link."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel

from remit._errors import JobNotFound, LinkLost, RemitError
from remit._jobs import save
from remit._jobs import stdin as feeding
from remit._jobs.backing import Live, announced
from remit._jobs.channel import JobChannel
from remit._jobs.port import Port
from remit._jobs.request import Function, Start, own_directory
from remit._jobs.spool_reader import Spool
from remit._jobs.turn import At
from remit._link.link import Link
from remit._link.listener import own_trouble
from remit._link.messages import JobMap, JobPage, Nothing, Saved
from remit._types import JobInfo, JobState, LogoutWarning, Outcome, Record
from remit._wire.sanitize import one_line
from remit._wire.streams import TASK
from remit.abc import Placement, Position, StoreReader


class KeptJob(Live):
    """See the module. Any number of handles, in any process, may stand for one such job."""

    is_kept = True

    def __init__(self, port: Port, info: JobInfo, placement: Placement) -> None:
        super().__init__(port, info)
        self.spool = Spool()
        self._request: Start | None = None
        self._began = False
        self._warning: str | None = None  # of the target, when it was started
        self.open_store(placement, lambda: _Channel(self), takes=False)

    @classmethod
    def asked(cls, port: Port, request: Start) -> KeptJob:
        """One that is to be started."""
        self = cls(port, announced(port, request), request.placement)
        self._request = request
        return self

    @classmethod
    def found(cls, port: Port, job: JobMap) -> KeptJob:
        """One that is there."""
        # One whose plugin is not here is read as what it is there: a job directory.
        known = port.plugins.placements
        placement = known.get(job.placement) or port.plugins.placement("keep")
        if not placement.spools:  # a return job of elsewhere, collected there
            placement = port.plugins.placement("keep")
        self = cls(port, job.info(port.location, here=port.here), placement)
        self._began = True
        self.hear(job)
        return self

    async def begin(self) -> None:
        """Starting is idempotent: where the answer was lost, the same id is asked again."""
        assert self._request is not None
        stdin = self._request.settings.stdin
        while True:
            arguments, task = self._request.arguments(), b""
            if isinstance(self._request.work, Function):
                more, task = (await self.port.shipment(self._request.work)).arguments()
                arguments.update(more)
            link = await self.port.ready()
            self.channel = JobChannel(self)
            self.channel.open(link, "start", arguments)
            trouble = await _answer(self.channel, task, stdin)
            if trouble is None:
                self._has_begun()
                return
            if not isinstance(trouble, LinkLost) or not feeding.repeatable(stdin):
                raise trouble
            await self.port.relinked(link)

    def _has_begun(self) -> None:
        self._began = True
        self.port.jobs.watch(self)
        if self.info.lifetime == "lease":
            self.port.jobs.watch_leased(self)
        if self._warning is not None:
            words = f"job {self.info.id} on {self.info.location}: {self._warning}"
            warnings.warn(one_line(words), LogoutWarning, stacklevel=3)

    async def attend(self) -> None:
        """Has the agent tell the news of a job that was found."""
        self.link_up(await self.port.ready())
        self.port.jobs.watch(self)
        await self.channel.answered.wait()
        if self.channel.error is not None and not isinstance(self.channel.error, LinkLost):
            raise self.channel.error

    # -- what its channel and its session tell

    def accepted(self, news: JobMap) -> None:
        self._warning = news.warning
        self.hear(news)

    def hear(self, news: JobMap) -> None:
        self.spool.hear(news)
        super().hear(news)

    def over(self, news: JobMap) -> None:
        super().over(news)
        self.store.try_close(self.info.outcome)

    def unwatched(self, error: RemitError) -> None:
        if not self._began or isinstance(error, LinkLost):
            return
        if isinstance(error, JobNotFound):
            # It was removed while nobody here looked: how it ended cannot be known any more.
            self.set_state(JobState.LOST, Outcome(reason="removed", error=error.message))
        else:
            self.untold(error)

    def untold(self, error: RemitError) -> None:
        self.trouble = error
        self.link_down()

    def fail(self, exc: Exception) -> None:
        self.untold(own_trouble(exc))

    def link_up(self, link: Link) -> None:
        self.trouble = None
        self.channel = JobChannel(self)
        self.channel.open(link, "watch", {"job": self.info.id})

    def link_down(self) -> None:
        if not self.info.state.finished:
            self.set_state(JobState.DISCONNECTED)
        self.notifier.notify()

    # -- what is asked of it

    async def refresh(self) -> None:
        if not await self.turn.is_known():
            return
        page = await self.port.ask("find", {"name": self.info.id}, JobPage)
        for job in page.jobs:
            if job.id == self.info.id:
                self.hear(job)
                if self.trouble is not None and not self.info.state.finished:
                    self.link_up(await self.port.ready())
                return
        error = JobNotFound(f"job {self.info.id} is not kept on {self.port.target} any more")
        self.unwatched(error)
        raise error

    async def remove(self, force: bool = False, *, leave: bool = False) -> None:
        """``leave``: what the job has left behind, if it is over, runs on."""
        if force and not self.info.state.finished:
            await self.stop()  # so that its handles know how it ended
        if self.turn.at is At.NEVER:
            return
        await self.turn.check(f"job {self.info.id} is {self.info.state}")
        await _ask_removal(self.port, self.info.id, force=force, leave=leave)
        self.port.jobs.unwatch(self)
        self.channel.close()

    async def save(self, path: str | os.PathLike[str], stream: str) -> str:
        save.check(stream)
        saved = await self.ask(
            "save",
            Saved,
            path=os.fsencode(path),
            cwd=own_directory() if self.port.here else None,
            stream=stream,
        )
        return os.fsdecode(saved.path)

    async def take_back(self, *, spare: bool = False) -> None:
        self.port.jobs.unwatch(self)
        if self._began:
            await self.discard()
        else:
            # An agent that has the request takes it back at the close. Where the request or the
            # close was lost with a link, sealing the id over the next one does it.
            self.channel.close()
            await self.port.give_up(self.info.id, spare=spare)

    async def discard(self) -> None:
        try:
            await self.remove(force=True, leave=True)
        except RemitError:
            # The link is lost or the job is gone.
            await self.port.give_up(self.info.id)


async def _answer(channel: JobChannel, task: bytes, stdin: object) -> Exception | None:
    """Gives the job the rest of its task and its stdin while waiting for the agent's answer.
    Returns what went wrong."""
    trouble: list[Exception] = []

    async def give() -> None:
        try:
            await channel.send(task, TASK)
            if stdin is None:
                return
            await feeding.pour(stdin, channel.send)
        except Exception as exc:
            trouble.append(exc)
            channel.answered.set()
        else:
            channel.send_eof()

    async with anyio.create_task_group() as tasks:
        if task or stdin is not None:
            tasks.start_soon(give)
        await channel.answered.wait()
        tasks.cancel_scope.cancel()
    return channel.error or (trouble[0] if trouble else None)


async def _ask_removal(port: Port, job_id: str, **how: bool) -> None:
    """Asked again where a link is lost over it: what is gone by then was removed."""
    again = False
    while True:
        link = await port.ready()
        try:
            await link.ask("remove", {"job": job_id, **how}, Nothing)
        except LinkLost:
            again = True
            await port.relinked(link)
        except JobNotFound:
            if again:
                return
            raise
        else:
            return


class _Empty:
    """The results of a job that was never asked for: `remit.abc.StoreReader`."""

    async def next(self) -> Record | None:
        await anyio.lowlevel.checkpoint()
        return None

    def used(self, record: Record) -> None: ...

    def close(self) -> None: ...


class _Channel:
    """What a placement is given of a kept job: `remit.abc.Channel`."""

    full = "spill"
    buffer_limit = 1 << 20

    def __init__(self, job: KeptJob) -> None:
        # The job owns the store, which owns this.
        self._job = weakref.ref(job)
        self._store = weakref.ref(job.store)

    def _kept(self) -> KeptJob:
        job = self._job()
        assert job is not None  # who reads holds the store, and through its reader the job
        return job

    @property
    def size(self) -> Position:
        return dict(self._kept().spool.sizes)

    @property
    def used(self) -> Position:
        return dict(self._kept().spool.used)

    def grant(self, size: int) -> None:
        """Nothing is sent here unasked: `open_reader` looks after its own credit."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        store = self._store()
        if store is not None:
            store.start_soon(function, *args)

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        job = self._kept()
        if job.turn.at is At.NEVER:
            return _Empty()
        return job.spool.read(job, position, follow=follow, consume=consume)
