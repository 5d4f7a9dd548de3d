"""Jobs whose output is kept on the target; they are watched from here, over any link."""

from __future__ import annotations

import os
import warnings
import weakref
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio

from remit._errors import (
    JobNotFound,
    LinkLost,
    RemitError,
    RemoteProtocolError,
)
from remit._jobs import save
from remit._jobs import stdin as feeding
from remit._jobs.job import Job, JobChannel, announced
from remit._jobs.receiver import SpoolReader
from remit._jobs.request import Function, Start, own_directory
from remit._link.link import Link, own_trouble
from remit._link.messages import JobMap, JobPage, Nothing, Saved
from remit._types import JobInfo, JobState, LogoutWarning, Outcome
from remit._wire.sanitize import one_line
from remit._wire.streams import TASK
from remit.abc import Placement, Position, StoreReader

if TYPE_CHECKING:
    from remit._jobs.port import Port


class KeptJob(Job):
    """See the module. Any number of handles, in any process, may stand for one such job."""

    def __init__(self, port: Port, info: JobInfo, placement: Placement) -> None:
        super().__init__(port, info)
        self._placement = placement
        self._sizes: dict[str, int] = {}
        self._used: dict[str, int] = {}
        self._request: Start | None = None
        self._consumer: weakref.ref[SpoolReader] | None = None
        self._began = False
        self._warning: str | None = None  # of the target, when it was started
        self._open_store(placement, lambda: _Channel(self), takes=False)

    @classmethod
    def asked(cls, port: Port, request: Start) -> KeptJob:
        """A handle of a job that is to be started."""
        self = cls(port, announced(port, request), request.placement)
        self._request = request
        return self

    @classmethod
    def found(cls, port: Port, job: JobMap) -> KeptJob:
        """A handle of a job that is there."""
        # One whose plugin is not here is read as what it is there: a job directory.
        known = port.plugins.placements
        placement = known.get(job.placement) or port.plugins.placement("keep")
        if not placement.spools:  # a return job of elsewhere, collected there
            placement = port.plugins.placement("keep")
        self = cls(port, job.info(port.location, here=port.here), placement)
        self._began = True
        self._hear(job)
        return self

    async def _begin(self) -> None:
        """Starting is idempotent: where the answer was lost, the same id is asked again."""
        assert self._request is not None
        stdin = self._request.settings.stdin
        while True:
            arguments, task = self._request.arguments(), b""
            if isinstance(self._request.work, Function):
                more, task = (await self._port.shipment(self._request.work)).arguments()
                arguments.update(more)
            link = await self._port.ready()
            self._feed = JobChannel(self)
            self._feed.open(link, "start", arguments)
            trouble = await self._answer(task, stdin)
            if trouble is None:
                self._began = True
                self._port.jobs.watch(self)
                if self.lifetime == "lease":
                    self._port.jobs.watch_leased(self)
                if self._warning is not None:
                    words = f"job {self.id} on {self.location}: {self._warning}"
                    warnings.warn(one_line(words), LogoutWarning, stacklevel=2)
                return
            if not isinstance(trouble, LinkLost) or not feeding.repeatable(stdin):
                raise trouble
            await self._port.relinked(link)

    async def _answer(self, task: bytes, stdin: object) -> Exception | None:
        """Gives the job the rest of its task and its stdin while waiting for the agent's answer.
        Returns what went wrong."""
        trouble: list[Exception] = []

        async def give() -> None:
            try:
                await self._feed.send(task, self._notifier, self._feed.answered.is_set, TASK)
                if stdin is None:
                    return
                await feeding.pour(stdin, self._send)
            except Exception as exc:
                trouble.append(exc)
                self._feed.answered.set()
            else:
                self._feed.send_eof()

        async with anyio.create_task_group() as tasks:
            if task or stdin is not None:
                tasks.start_soon(give)
            await self._feed.answered.wait()
            tasks.cancel_scope.cancel()
        return self._feed.error or (trouble[0] if trouble else None)

    async def _send(self, data: bytes | memoryview) -> None:
        # An answer before all was sent: the start was refused, or the link is lost.
        await self._feed.send(data, self._notifier, self._feed.answered.is_set)

    async def _attend(self) -> None:
        """Has the agent tell the news of a job that was found."""
        self._link_up(await self._port.ready())
        self._port.jobs.watch(self)
        await self._feed.answered.wait()
        if self._feed.error is not None and not isinstance(self._feed.error, LinkLost):
            raise self._feed.error

    # -- what its feed and its session tell

    def _accepted(self, news: JobMap) -> None:
        self._warning = news.warning
        self._hear(news)

    def _fail(self, exc: Exception) -> None:
        self._untold(own_trouble(exc))

    def _over(self, news: JobMap) -> None:
        self._hear(news)
        if not self.state.finished:
            raise RemoteProtocolError(f"job {self.id} is over, and {self.state}")
        self._store.try_close(self.outcome)

    def _hear(self, news: JobMap) -> None:
        _raise_to(self._sizes, news.sizes.position())
        _raise_to(self._used, news.used.position())
        super()._hear(news)

    def _read(self, position: Position | None, *, follow: bool, consume: bool) -> SpoolReader:
        reader = SpoolReader(self, position, follow=follow, consume=consume)
        if consume:
            # The target's own rule, kept here already: what the earlier one used up is then
            # written down there before the new one begins.
            earlier = None if self._consumer is None else self._consumer()
            if earlier is not None:
                earlier.supersede()
            self._consumer = weakref.ref(reader)
        return reader

    def _mark_used(self, used: Position) -> None:
        _raise_to(self._used, used)

    def _unwatched(self, error: RemitError) -> None:
        if not self._began or isinstance(error, LinkLost):
            return
        if isinstance(error, JobNotFound):
            # It was removed while nobody here looked: how it ended cannot be known any more.
            self._set_state(JobState.LOST, Outcome(reason="removed", error=error.message))
        else:
            self._untold(error)

    def _untold(self, error: RemitError) -> None:
        self._trouble = error
        self._link_down()

    def _link_up(self, link: Link) -> None:
        self._trouble = None
        self._feed = JobChannel(self)
        self._feed.open(link, "watch", {"job": self.id})

    def _link_down(self) -> None:
        if not self.state.finished:
            self._set_state(JobState.DISCONNECTED)
        self._notifier.notify()

    # -- managing

    async def refresh(self) -> None:
        page = await self._port.ask("find", {"name": self.id}, JobPage)
        for job in page.jobs:
            if job.id == self.id:
                self._hear(job)
                if self._trouble is not None and not self.state.finished:
                    self._link_up(await self._port.ready())
                return
        error = JobNotFound(f"job {self.id} is not kept on {self._port.target} any more")
        self._unwatched(error)
        raise error

    async def remove(self, force: bool = False) -> None:
        await self._remove(force=force)

    async def _remove(self, *, force: bool, leave: bool = False) -> None:
        """``leave``: what the job has left behind, if it is over, runs on."""
        if force and not self.state.finished:
            await self.stop()  # so that this handle knows how it ended
        await self._ask_removal(force=force, leave=leave)
        self._port.jobs.unwatch(self)
        self._feed.close()

    async def _ask_removal(self, **how: bool) -> None:
        """Asked again where a link is lost over it: what is gone by then was removed."""
        port = self._port
        again = False
        while True:
            link = await port.ready()
            try:
                await link.ask("remove", {"job": self.id, **how}, Nothing)
            except LinkLost:
                again = True
                await port.relinked(link)
            except JobNotFound:
                if again:
                    return
                raise
            else:
                return

    async def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> str:
        save.check(stream)
        saved = await self._ask(
            "save",
            Saved,
            path=os.fsencode(path),
            cwd=own_directory() if self._port.here else None,
            stream=stream,
        )
        return os.fsdecode(saved.path)

    async def _take_back(self, *, spare: bool = False) -> None:
        self._port.jobs.unwatch(self)
        if self._began:
            await self._discard()
        else:
            # An agent that has the request takes it back at the close. Where the request or the
            # close was lost with a link, sealing the id over the next one does it.
            self._feed.close()
            await self._port.give_up(self.id, spare=spare)

    async def _discard(self) -> None:
        try:
            await self._remove(force=True, leave=True)
        except RemitError:
            # The link is lost or the job is gone.
            await self._port.give_up(self.id)


class _Channel:
    """What a placement is given of a kept job: `remit.abc.Channel`."""

    full = "spill"
    buffer_limit = 1 << 20

    def __init__(self, job: KeptJob) -> None:
        # The job owns the store, which owns this.
        self._job = weakref.ref(job)
        self._store = weakref.ref(job._store)

    def _kept(self) -> KeptJob:
        job = self._job()
        assert job is not None  # who reads holds the store, and through its reader the job
        return job

    @property
    def size(self) -> Position:
        return dict(self._kept()._sizes)

    @property
    def used(self) -> Position:
        return dict(self._kept()._used)

    def grant(self, size: int) -> None:
        """Nothing is sent here unasked: `open_reader` looks after its own credit."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        store = self._store()
        if store is not None:
            store.start_soon(function, *args)

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        return self._kept()._read(position, follow=follow, consume=consume)


def _raise_to(position: dict[str, int], told: Position) -> None:
    for stream, value in told.items():
        position[stream] = max(position.get(stream, 0), value)
