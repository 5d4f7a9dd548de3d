"""A session: a live conversation with the agent on a target, over one link after another."""

from __future__ import annotations

import logging
import math
import os
import random
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, TypeVar, overload

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import attrs

from remit._amounts import count, seconds
from remit._errors import (
    ConnectError,
    JobNotFound,
    JobStateError,
    LinkLost,
    PluginError,
    RemitError,
    RemoteProtocolError,
    SessionClosed,
)
from remit._jobs.job import Job
from remit._jobs.kept_job import KeptJob
from remit._jobs.request import Function, Start, Stdin, Word, Work
from remit._jobs.return_job import EndedJob, ReturnJob
from remit._jobs.return_jobs import ReturnJobs
from remit._jobs.stores import Stores
from remit._link import bootstrap
from remit._link.background import Home, outlast
from remit._link.carrier import Carried, Carrier
from remit._link.link import Link, own_trouble
from remit._link.messages import Hello, JobMap, JobPage, PrunedPage
from remit._link.notify import Changes, Notifier
from remit._plugins import Plugins
from remit._session.calls import Calls, call
from remit._session.interpreters import Interpreter, path_of
from remit._session.seals import Seals
from remit._shipping import packages
from remit._shipping.shipment import Shipment
from remit._types import PIPE, CommandResult, JobInfo, JobState, Lease, Pruned, SessionState
from remit._version import version
from remit._wire.conversation import PROTOCOL
from remit._wire.sanitize import one_line
from remit.abc import Target, Transport

_T = TypeVar("_T")
_J = TypeVar("_J", bound=Job)
_N = TypeVar("_N", JobInfo, JobMap)
_log = logging.getLogger("remit")

# How long an orderly end may take: the agent gives its session-bound jobs 5 s between TERM and
# KILL, and as long again until the last of them is gone.
_CLOSE_GRACE = 15.0
# More than a frame can hold: the agent sends as many at once as fit.
_PAGE = 10_000
# What is listed is held in memory: some 200 MB.
_MOST_LISTED = 200_000
_LAST = (SessionState.BROKEN, SessionState.CLOSED)
# A start that was cancelled is taken back; the caller waits for that as long as this.
_TAKE_BACK_GRACE = 10.0
# How long plugins are not told that a function failed because it is not known how.
_FAILURE_GRACE = 5.0

# A session is to be back within 10 s of the link being possible, for as long as somebody may sit
# and wait for it (50 such pauses are the default of ``reconnect``); after that it may take longer.
_PROMPT_PAUSE = 6.0
_PROMPT_ATTEMPTS = 50
_LONGEST_PAUSE = 30.0
_DAY = 86400.0
_MOST_WORKERS = 1 << 16


class Callers:
    """What goes for all callers in this process, besides what each session says."""

    # Seconds that an agent waits for a caller that says nothing; None: those of ``silence``. A
    # program that is stopped or sleeps with its computer is silent, and comes back.
    patience: float | None = None
    # Seconds that an agent has for an orderly end.
    farewell = _CLOSE_GRACE
    _leaving: ClassVar[set[anyio.CancelScope]] = set()

    @classmethod
    def hurry(cls, seconds: float) -> None:
        """Whoever takes leave of an agent, now or later, waits no longer than this for its answer.
        An agent ends all the same once its link is gone."""
        cls.farewell = min(cls.farewell, seconds)
        for scope in cls._leaving:
            scope.deadline = min(scope.deadline, anyio.current_time() + seconds)

    @classmethod
    @contextmanager
    def leaving(cls) -> Iterator[None]:
        """The time that an orderly end may take."""
        with anyio.move_on_after(cls.farewell) as scope:
            cls._leaving.add(scope)
            try:
                yield
            finally:
                cls._leaving.discard(scope)


def _connect_timeout(value: object) -> float:
    return seconds("connect_timeout", value, above=0, infinite=True)


def _silence(value: object) -> float:
    # Both ends sleep by it, and a day without a sign of life is none.
    return seconds("silence", value, above=0, most=_DAY)


def _reconnect(value: object) -> float | None:
    return None if value is None else seconds("reconnect", value, least=0, infinite=True)


def _workers(value: object) -> int | None:
    return None if value is None else count("workers", value, least=1, most=_MOST_WORKERS)


def _calls_per_worker(value: object) -> int:
    return count("calls_per_worker", value, least=1)


@attrs.frozen
class Settings:
    """How a session connects and how long it waits. Times in seconds. Raises TypeError and
    ValueError for numbers that make no sense."""

    connect_timeout: float = attrs.field(default=30.0, converter=_connect_timeout)
    silence: float = attrs.field(default=15.0, converter=_silence)
    reconnect: float | None = attrs.field(default=300.0, converter=_reconnect)
    trust: bool = False
    workers: int | None = attrs.field(default=None, converter=_workers)
    calls_per_worker: int = attrs.field(default=1000, converter=_calls_per_worker)


def wait_before(attempt: int, jitter: float) -> float:
    """Seconds to wait before reconnect ``attempt`` (1, 2, …), times ``1 + jitter``: 0.5, 1, 2, 4,
    then 6 for some minutes, then 30. ``jitter`` is 0 to 0.2. Raises ValueError if ``attempt`` is
    under 1."""
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    if attempt > _PROMPT_ATTEMPTS:
        return _LONGEST_PAUSE * (1 + jitter)
    return min(0.5 * 2.0 ** min(attempt - 1, 10), _PROMPT_PAUSE) * (1 + jitter)


class Session:
    """Made by `remit.connect` and `Hub.connect`.

    A lost link is made anew for as long as ``reconnect`` says (``state`` RECONNECTING): kept jobs
    and those who read them go on where they were, calls wait, return jobs are LOST. After that the
    session is BROKEN and calls raise `LinkLost`.
    """

    def __init__(
        self, target: Target, transport: Transport, plugins: Plugins, settings: Settings
    ) -> None:
        self._target = target
        self._transport = transport
        self._carrier = Carrier(transport, plugins)
        self._plugins = plugins
        self._settings = settings
        self._state = SessionState.OPENING
        self._notifier = Notifier(f"the session with {target}")  # the state or the link changed
        self._link: Link | None = None
        self._trouble: RemitError | None = None
        self._closing = False  # it was asked to end
        self._parting = False  # and nothing more may be asked of it
        self._scope = anyio.CancelScope()
        self._gone = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self._home = Home(f"the session with {target}")
        self._undoing: set[anyio.Event] = set()  # what is being taken back
        self._seals = Seals()
        self._hello: Hello | None = None
        self._returned = ReturnJobs()
        self._stores = Stores()
        self._watched: weakref.WeakSet[KeptJob] = weakref.WeakSet()
        # Jobs with a lease that were started here: their session is a caller of theirs to its end,
        # over each new link, whether their handles are dropped or not.
        self._leased: set[KeptJob] = set()
        self._interpreters: dict[bytes | None, Interpreter] = {}
        self._calls: dict[Interpreter, Calls] = {}

    # -- what it is

    @property
    def target(self) -> str:
        """The target as it was given."""
        return str(self._target)

    @property
    def location(self) -> str:
        """Where jobs run, for people: the address, or ``localhost``."""
        return "localhost" if self._here else self._target.address

    @property
    def state(self) -> SessionState:
        return self._state

    def changes(self) -> AsyncIterator[SessionState]:
        """The states from now on, beginning with the present one; merged when several come at
        once. Ends after BROKEN or CLOSED."""
        return Changes(self._notifier, lambda: self._state, _LAST.__contains__)

    def __repr__(self) -> str:
        return one_line(f"<remit.Session {self.target} {self._state}>")

    @property
    def _here(self) -> bool:
        return self._carrier.here

    # -- jobs

    async def start(
        self,
        work: Work,
        *args: Any,
        placement: str = "return",
        lifetime: str | Lease | None = None,
        name: str | None = None,
        id: str | None = None,
        cwd: Word | None = None,
        env: Mapping[str, str] | None = None,
        stdin: Stdin = None,
        timeout: float | None = None,
        merge: bool = False,
        leftovers: str = "leave",
        full: str = "spill",
        buffer_limit: int = 8 << 20,
        max_output: int | None = None,
        on_max: str = "stop",
        python: str | None = None,
    ) -> Job:
        """Starts ``work`` and returns once the target has answered.

        ``work``: a sequence of words (no shell), or a str (a ``/bin/sh`` line). ``stdin``: bytes,
        an open binary file, an async iterable of bytes, `PIPE` (then `Job.send`), or None for
        nothing. ``merge`` sends stderr with stdout. ``timeout`` seconds after its start the job is
        stopped and FAILED. ``full`` tells what becomes of the output of a return job that nobody
        reads once ``buffer_limit`` bytes are held here: ``spill`` to a temporary file, ``block``
        the job, or ``drop`` the oldest (a `Gap` record stands for it).

        ``leftovers``: what becomes of processes that outlive a job which ends by itself: they run
        on and are named in `Outcome.left_behind`, or with ``"stop"`` are ended as well. A job that
        is ended (a stop, the time limit, a cancel, the end of its session) takes all with it.

        ``lifetime``: ``session``, ``detached``, or `lease` for a kept job that is stopped some time
        after its last caller has gone. ``max_output``: once stdout and stderr together pass so many
        bytes the job is stopped and FAILED (reason ``max-output``), and just these bytes are kept;
        with ``on_max="truncate"`` a kept job runs on, and the newest ``max_output``
        bytes of each stream are kept (a `Gap` record stands for what was freed before it was read).

        A job whose program or directory is missing is FAILED with reason ``start-failed``. Raises
        ValueError or TypeError, before anything is sent, for what can never be right; LinkLost,
        SessionClosed, TargetError (no state directory to keep in), JobStateError (the id is
        taken back). Cancelled, the start is taken back: the job, if it came to be, is stopped,
        removed and sealed.
        """
        self._home.check()
        request = Start.of(
            work,
            *args,
            placement=self._plugins.placement(placement),
            lifetime=lifetime,
            name=name,
            id=id,
            cwd=cwd,
            env=env,
            stdin=stdin,
            timeout=timeout,
            merge=merge,
            leftovers=leftovers,
            full=full,
            buffer_limit=buffer_limit,
            max_output=max_output,
            on_max=on_max,
            python=python,
            here=self._here,
        )
        if request.id in self._seals:
            raise JobStateError(f"job {request.id} was given up; its id is used up")
        job: Job = (
            KeptJob.asked(self, request) if request.placement.spools else ReturnJob(self, request)
        )
        try:
            await job._begin()
        except BaseException as exc:
            # What has failed was not run for us. What ran under an id that the caller named is an
            # earlier start's then, and its job's results are there to be fetched.
            lost = not isinstance(exc, Exception) or isinstance(exc, (LinkLost, SessionClosed))
            spare = id is not None and not lost
            await self._see_through(partial(job._take_back, spare=spare))
            raise
        return job

    @overload
    async def run(
        self, work: str | Sequence[Word], *, check: bool = False, **options: Any
    ) -> CommandResult: ...

    @overload
    async def run(self, work: Callable[..., _T], *args: Any, **options: Any) -> _T: ...

    async def run(self, work: Work, *args: Any, check: bool = False, **options: Any) -> Any:
        """Starts ``work`` and waits for its end. Of a command it returns what that left, of a
        function what it returned; the job is removed then.

        ``options`` are those of `start`, except for ``stdin=PIPE``. Raises JobFailed where a
        command did not end by exiting (no such program, a signal, the time limit, a lost link), and
        with ``check`` also for a non-zero exit status: its ``result`` is what was left all the
        same. Of a function it raises what `Job.result` raises. Cancelled, the job is stopped and
        removed.
        """
        if options.get("stdin") is PIPE:
            raise ValueError("stdin=PIPE is for start(): nobody could send to a job of run()")
        job = await self.start(work, *args, **options)
        try:
            return await job._outcome_within(options.get("timeout"), check)
        finally:
            await self._see_through(job._discard)

    async def call(self, fn: Callable[..., Any], *args: Any, python: str | None = None) -> Any:
        """Calls ``fn(*args)`` in a warm worker there and returns what it returns, as data; no job
        is made.

        A coroutine function's result is awaited there, a generator's items come as a list. Calls
        are safe to make from many tasks at once: as many run at the same time as there are workers
        (``workers`` of `connect`, by default the processors there), the others wait. A worker keeps
        what it has imported; it is replaced after ``calls_per_worker`` calls. What ``fn`` prints is
        dropped. ``python`` names the interpreter there.

        Raises JobFailed with the remote ``type`` and ``traceback`` where ``fn`` raised, or with the
        ``signal`` where its worker died (the other calls go on); ShippingError, before anything
        runs, for what cannot be sent; ResultError for a result that is no data; LinkLost (the call
        may have run) and SessionClosed. Cancelled, the call is interrupted there.
        """
        return await call(self, fn, args, python)

    async def ship(self, package: str | ModuleType, *, python: str | None = None) -> None:
        """Sends a pure-Python package or module, so that functions can import it there. It is on
        no disk of the target, and goes along with each new link. The same content again is not
        sent. Raises ShippingError for what is compiled, too large or not there."""
        made = await anyio.to_thread.run_sync(packages.package, package)
        await self._interpreter(python).ship(made)

    async def jobs(self) -> list[JobInfo]:
        """What this account keeps on the target, and this session's return jobs; oldest first."""
        found = self._returned.infos()
        walk = _Walk(f"the jobs on {self.target}")
        while walk.goes_on:
            page, last = await self._kept_jobs(walk.after)
            found += page
            walk.take(len(page), last)
        return sorted(found, key=_age)

    async def _kept_jobs(self, after: str | None) -> tuple[list[JobInfo], str | None]:
        """Of what is kept there as many as come at once, the oldest of them first, and after which
        id the next ones come; None where these were the last."""
        page = await self._ask("jobs", {"after": after, "limit": _PAGE}, JobPage)
        location = self.location
        return sorted(
            (job.info(location, here=self._here) for job in page.jobs), key=_age
        ), page.next

    async def job(self, name: str) -> Job:
        """A live handle of the job with this id, else this name, else this prefix of its id (at
        least 4 characters). Raises JobNotFound, also where several fit (it lists their ids)."""
        mine = _fitting(name, self._returned.infos())
        if len(mine) == 1 and name in (mine[0].id, mine[0].name):
            await anyio.lowlevel.checkpoint()
            return self._returned.handle(mine[0].id) or EndedJob(self, mine[0])
        page = await self._ask("find", {"name": name}, JobPage)
        found = _fitting(name, page.jobs)  # a target may answer with whatever it likes
        ids = [job.id for job in mine] + [job.id for job in found]
        if not ids and page.gone:
            raise JobNotFound(f"job {name} was removed on {self.target}", gone=True)
        if not ids:
            raise JobNotFound(
                f"no job {name!r} on {self.target}",
                hint="an id, a name, or at least 4 characters of an id; `remit jobs` lists them",
            )
        if len(ids) > 1:
            raise JobNotFound(
                f"{name!r} fits {len(ids)} jobs on {self.target}", evidence="\n".join(ids)
            )
        if mine:
            return self._returned.handle(mine[0].id) or EndedJob(self, mine[0])
        job = KeptJob.found(self, found[0])
        await job._attend()
        return job

    async def _is_gone(self, job_id: str) -> bool | None:
        """Whether the target knows that the job was removed; None where it knows nothing of it."""
        page = await self._ask("find", {"name": job_id}, JobPage)
        return False if page.jobs else True if page.gone else None

    async def prune(
        self,
        *,
        older_than: float | None = None,
        max_total: int | None = None,
        dry_run: bool = False,
    ) -> list[Pruned]:
        """Removes kept jobs that are over; returns them, the oldest first. With ``dry_run`` nothing
        is removed.

        Those that ended ``older_than`` seconds ago or earlier go, then the oldest until all that is
        kept here takes ``max_total`` bytes of disk at most. What runs, may run elsewhere, cannot be
        read or belongs to another open session stays; a LOST job goes for its age only. Nothing is
        pruned unless it is asked for: ValueError without a limit. Cancelled, it goes on there. What
        went before a link was lost over it is not among what is returned.
        """
        if older_than is None and max_total is None:
            raise ValueError("prune needs older_than or max_total")
        if older_than is not None:
            older_than = seconds("older_than", older_than, least=0, most=1e10)
        if max_total is not None:
            max_total = count("max_total", max_total, least=0, unit="bytes")
        limits = {"older_than": older_than, "max_total": max_total, "dry_run": dry_run}
        pruned: list[Pruned] = []
        walk = _Walk(f"what was pruned on {self.target}")
        while walk.goes_on:
            page = await self._ask("prune", {**limits, "after": walk.after}, PrunedPage)
            pruned += [job.pruned() for job in page.jobs]
            walk.take(len(page.jobs), page.next)
        return pruned

    # -- its end

    async def aclose(self) -> None:
        """Ends the session: its session-bound jobs are stopped, detached ones run on. Twice is
        quiet. Takes as long as those jobs take to stop, at most about 20 s, and where results go
        elsewhere until they are there, at most 40 s; a cancel does not shorten that."""
        self._home.check()
        if not self._closing:
            self._closing = True
            if self._tasks is None or self._state is not SessionState.OPEN:
                self._parting = True
                self._scope.cancel()
            else:
                self._tasks.start_soon(self._part)
        await outlast(self._gone)

    async def _part(self) -> None:
        """Lets what is being taken back come to its end, and takes leave of the agent."""
        with anyio.move_on_after(_TAKE_BACK_GRACE):
            while self._undoing:
                await next(iter(self._undoing)).wait()
        self._parting = True
        link = self._link
        if link is not None:
            link.goodbye()
            with Callers.leaving():
                while self._link is link:
                    await self._notifier.wait()
        self._scope.cancel()

    def _abandon(self) -> None:
        """Ends it without a word to the target, which may hear none: `aclose` has nothing to wait
        for then."""
        self._closing = True
        self._scope.cancel()

    # -- for jobs and stores

    async def _ask(self, verb: str, arguments: Mapping[str, Any], answer: type[_T]) -> _T:
        """One request and its answer; made again over the next link if one is lost meanwhile.
        Only for requests that may be made twice."""
        while True:
            link = await self._ready()
            try:
                return await link.ask(verb, arguments, answer)
            except LinkLost:
                await self._relinked(link)

    async def _relinked(self, lost: Link) -> None:
        """Waits until another link than ``lost`` is there. Raises what `_ready` raises."""
        while await self._ready() is lost:
            await self._notifier.wait()

    async def _ready(self) -> Link:
        """The link, once there is one. Raises SessionClosed, LinkLost, RemoteProtocolError."""
        self._home.check()
        while True:
            self._check()
            if self._link is not None and self._state is SessionState.OPEN:
                return self._link
            await self._notifier.wait()

    def _interpreter(self, python: str | None) -> Interpreter:
        path = path_of(python)
        if path not in self._interpreters:
            self._interpreters[path] = Interpreter(self, path)
        return self._interpreters[path]

    async def _shipment(self, function: Function) -> Shipment:
        """The function, made ready for the interpreter that is to run it. Raises ShippingError."""
        interpreter = self._interpreter(function.python)
        peer = await interpreter.peer()
        return Shipment.of(
            function.call, function.args, peer, interpreter.path, self._settings.trust
        )

    def _check(self) -> None:
        if self._state is SessionState.CLOSED or self._parting:
            raise SessionClosed(f"the session with {self.target} is closed")
        if self._state is SessionState.BROKEN:
            assert self._trouble is not None
            raise self._trouble.again()

    def _start_soon(
        self,
        function: Callable[..., Awaitable[Any]],
        *args: Any,
        failed: Callable[[Exception], None],
    ) -> None:
        """Runs it beside the session. What it raises is told to ``failed``: it is the trouble of
        whoever started it, and of nobody else."""
        if self._tasks is not None:
            self._tasks.start_soon(self._guarded, function, args, failed)

    async def _guarded(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        failed: Callable[[Exception], None],
    ) -> None:
        try:
            await function(*args)
        except Exception as exc:
            try:
                failed(exc)
            except Exception as another:
                self._break(own_trouble(another))

    async def _see_through(self, function: Callable[[], Awaitable[None]]) -> None:
        """Takes something back, out of reach of the caller's cancels, and waits for that for a
        while; the session does not take leave before. Raises nothing of its own."""
        if self._tasks is not None:
            await outlast(self._undo(function), _TAKE_BACK_GRACE)
            return
        # The session is over: there is only something to be let go of here, and nobody to ask.
        with anyio.CancelScope(shield=True):
            try:
                await function()
            except Exception as exc:
                self._note(exc)

    def _undo(self, function: Callable[[], Awaitable[None]]) -> anyio.Event:
        undone = anyio.Event()

        async def act() -> None:
            try:
                await function()
            finally:
                self._undoing.discard(undone)
                undone.set()

        if self._tasks is None:
            undone.set()  # the session is over, and took it along
        else:
            self._undoing.add(undone)
            self._start_soon(act, failed=self._note)
        return undone

    def _note(self, exc: Exception) -> None:
        """What went wrong where nobody waits who could be told."""
        if isinstance(exc, PluginError):
            self._plugins.report(exc.plugin, exc.method, exc.__cause__ or exc)
        elif not isinstance(exc, (LinkLost, SessionClosed)):
            _log.error("%s: %r", self, exc, exc_info=exc)

    def _break(self, exc: Exception) -> None:
        """The session is at its end by this."""
        self._trouble = own_trouble(exc)
        self._scope.cancel()

    async def _give_up(self, job_id: str, *, spare: bool = False) -> None:
        """Has ``job_id`` stopped, removed and sealed, so that it never runs again; with ``spare``
        only where it never ran. Where there is no link that is done over the next one, and nobody
        waits for it."""
        self._seals.owe(job_id, spare=spare)
        if self._link is None:
            self._undo(partial(self._settle_later, job_id))
        else:
            await self._settle(self._link, [job_id])

    async def _settle_later(self, job_id: str) -> None:
        await self._settle(await self._ready(), [job_id])

    async def _settle(self, link: Link, job_ids: list[str] | None = None) -> None:
        if not await self._seals.settle(link, job_ids):
            # Not as what is being taken back: no close waits for a target that refuses.
            self._start_soon(self._seals.insist, link, failed=self._note)

    def _watch(self, job: KeptJob) -> None:
        self._watched.add(job)

    def _watch_leased(self, job: KeptJob) -> None:
        self._leased = {each for each in self._leased if not each.state.finished} | {job}

    def _unwatch(self, job: KeptJob) -> None:
        self._watched.discard(job)
        self._leased.discard(job)

    def _notify(self, job: Job, old: JobState | None) -> None:
        """Has plugins told what is known of the job now."""
        info = job._info
        told = partial(self._plugins.notify, "remit_job_changed", job=info, old=old, new=info.state)
        asked = job._failed_by_itself and self._plugins.listens("remit_job_changed", "failure")
        if not asked or self._tasks is None:
            told(failure=None)
            return

        async def tell() -> None:
            failure = None
            try:
                with anyio.move_on_after(_FAILURE_GRACE):
                    failure = await job._failure_told()
            finally:
                told(failure=failure)

        self._undo(tell)

    # -- its life

    async def _serve(self) -> None:
        """Everything the session does by itself, in one task of its hub. Raises nothing."""
        try:
            async with self._stores.serving():
                await self._talk_on()
        finally:
            self._gone.set()

    async def _talk_on(self) -> None:
        """Its life but for what its stores still have to do."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    try:
                        await self._guarded(self._live, (), self._break)
                    finally:
                        self._tasks = None  # it takes no more
                    tasks.cancel_scope.cancel()
        finally:
            self._link = None
            broken = self._trouble is not None and not self._closing
            error = self._trouble or SessionClosed(f"the session with {self.target} is closed")
            self._state = SessionState.BROKEN if broken else SessionState.CLOSED
            self._tell_all(self._returned.running(), lambda job: job._link_over(error))
            self._tell_all(list(self._watched), KeptJob._link_down)
            self._undoing.clear()
            self._notifier.notify()

    def _tell_all(self, jobs: Sequence[_J], tell: Callable[[_J], None]) -> None:
        """What one job makes of it is no other's trouble."""
        for job in jobs:
            try:
                tell(job)
            except Exception as exc:
                self._note(exc)

    async def _live(self) -> None:
        """One link after another, until the session is closed or given up (`_trouble` says why)."""
        attempt = 0
        give_up_at = -math.inf
        while True:
            try:
                lost = await self._converse()
            except ConnectError as exc:
                if exc.lasting or anyio.current_time() >= give_up_at:
                    self._trouble = exc if self._trouble is None else self._given_up(exc)
                    return
            else:
                if self._closing or self._state is not SessionState.RECONNECTING:
                    self._trouble = lost
                    return
                attempt = 0
                limit = self._settings.reconnect
                give_up_at = math.inf if limit is None else anyio.current_time() + limit
            attempt += 1
            pause = wait_before(attempt, random.uniform(0, 0.2))
            await anyio.sleep(min(pause, max(0.0, give_up_at - anyio.current_time())))

    def _given_up(self, exc: ConnectError) -> LinkLost:
        assert self._trouble is not None
        why = f"for {self._settings.reconnect:g} s there was no new one"
        if exc.lasting:
            why = "no new one can be had"
        return LinkLost(
            f"{self._trouble.message}, and {why}",
            evidence="\n".join(filter(None, [self._trouble.evidence, f"last    {exc.message}"])),
            hint=exc.hint,
        )

    def _lose(self, link: Link, error: RemitError) -> None:
        """The link is over. Said at once: closing what carried it may take seconds."""
        assert self._link is link
        self._link = None
        self._trouble = error
        self._tell_all(self._returned.running(), lambda job: job._link_over(error))
        may_return = isinstance(error, LinkLost) and self._settings.reconnect != 0
        if may_return and not self._closing:
            self._state = SessionState.RECONNECTING
        self._tell_all(list(self._watched), KeptJob._link_down)
        self._notifier.notify()

    async def _converse(self) -> RemitError:
        """Connects, and serves the link until it is lost; tells why. Raises ConnectError."""
        for attempt in bootstrap.attempts(self._python()):
            heard = bootstrap.Heard()
            with anyio.CancelScope() as connecting:
                # What an earlier attempt took is not counted: it ended at once.
                connecting.deadline = anyio.current_time() + self._target.connect_timeout
                verdict = await self._try(attempt, connecting, heard)
            if connecting.cancelled_caught:
                raise bootstrap.late(self._target, self._carrier, attempt, heard)
            if verdict is not None and not heard.agent:
                raise verdict
            if verdict is not None:
                return verdict
        raise AssertionError("the last attempt has a verdict")

    async def _try(
        self, attempt: bootstrap.Attempt, connecting: anyio.CancelScope, heard: bootstrap.Heard
    ) -> RemitError | None:
        """A ConnectError where no agent came up, None where another attempt may do better, else
        why the link was lost."""
        try:
            async with self._carrier.open(self._target, attempt.argv) as stream:
                verdict = await self._talk(stream, attempt, connecting, heard)
                connecting.deadline = math.inf  # nor does leaving count
                return verdict
        except (ConnectError, PluginError) as exc:
            if self._link is None:
                raise
            self._lose(self._link, exc)  # a task of the transport's failed under the link
            return exc

    async def _talk(
        self,
        stream: Carried,
        attempt: bootstrap.Attempt,
        connecting: anyio.CancelScope,
        heard: bootstrap.Heard,
    ) -> RemitError | None:
        """As `_try`. Raises nothing: the transport's context may hold a task group, which would
        wrap it."""
        try:
            rest, opening = await bootstrap.reach(
                stream, attempt, self._target, self._carrier, heard
            )
        except bootstrap.NoPython:
            return None
        except (ConnectError, PluginError) as exc:
            return exc
        link = Link(stream, self._settings.silence, self.target)

        def met() -> None:
            connecting.deadline = math.inf
            self._open(link)
            heard.agent = True

        lost = await link.run(rest, opening, self._own_hello(), met)
        if self._link is link:
            if self._closing and link.goodbye_said is not None:
                lost = SessionClosed(f"the session with {self.target} is closed")
            self._lose(link, lost)
            return lost
        return await bootstrap.failed(stream, self._target, self._carrier, attempt, lost)

    def _python(self) -> str | None:
        """The one interpreter to try, where it is known."""
        return self._target.options.get("python") or (sys.executable if self._here else None)

    def _own_hello(self) -> dict[str, Any]:
        state = self._target.options.get("state")
        return {
            "protocol": PROTOCOL,
            "features": [],
            "silence": self._settings.silence,
            "patience": Callers.patience,
            "state": None if state is None else os.fsencode(state),
            "resume": None,
            "version": version(),
        }

    def _open(self, link: Link) -> None:
        assert link.hello is not None
        if link.hello.protocol != PROTOCOL:
            raise RemoteProtocolError(
                f"it speaks protocol {link.hello.protocol}, this remit speaks {PROTOCOL}"
            )
        if link.hello.problem is not None:
            raise RemoteProtocolError(f"no agent can work on {self.target}: {link.hello.problem}")
        self._hello = link.hello
        self._link = link
        self._trouble = None
        self._set(SessionState.OPEN)
        if self._seals:
            self._undo(partial(self._settle, link))
        self._tell_all(list(self._watched), lambda job: job._link_up(link))

    def _set(self, state: SessionState) -> None:
        self._state = state
        self._notifier.notify()


class _Walk:
    """Over pages that a target gives, each after the last item of the one before. One that goes in
    a circle, or never ends, is no sound one."""

    def __init__(self, what: str) -> None:
        self.after: Any = None  # the last item so far
        self.goes_on = True
        self._what = what
        self._count = 0

    def take(self, size: int, last: Any) -> None:
        """A page of so many items has come, and ``last`` is where the next begins; None: nowhere.
        Raises RemoteProtocolError."""
        self._count += 1 + size
        if last is not None and self.after is not None and not last > self.after:
            raise RemoteProtocolError(f"{self._what}: the list goes back from its place")
        if self._count > _MOST_LISTED:
            raise RemoteProtocolError(f"{self._what}: the list has no end")
        self.after = last
        self.goes_on = last is not None


def _age(job: JobInfo) -> float:
    return job.created.timestamp() if job.created else -math.inf


def _fitting(name: str, jobs: Sequence[_N]) -> list[_N]:
    exact = [job for job in jobs if job.id == name] or [job for job in jobs if job.name == name]
    if exact or len(name) < 4:
        return exact
    return [job for job in jobs if job.id.startswith(name)]
