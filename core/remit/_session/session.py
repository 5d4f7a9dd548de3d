"""A session: what users ask of the agent on a target."""

from __future__ import annotations

import os
from collections.abc import (
    AsyncIterator,
    Callable,
    Coroutine,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from types import ModuleType
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack, overload

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from remit._amounts import count, seconds
from remit._jobs.backing import Live
from remit._jobs.job import Job, outcome_within
from remit._jobs.options import (
    Full,
    Leftovers,
    Lifetime,
    OnMax,
    RunOptions,
    StartOptions,
    StartSettings,
    Stdin,
    Word,
    Work,
)
from remit._link.carrier import Carrier
from remit._link.messages import Hello
from remit._link.statuses import Statuses
from remit._plugins import Plugins
from remit._public import named_as_written
from remit._session import listing, starting
from remit._session.calls import call
from remit._session.connection import Connection
from remit._session.dialing import Dialer
from remit._session.life import Life
from remit._session.mapping import Mapped, mapped
from remit._session.settings import Settings
from remit._types import PIPE, CommandResult, JobInfo, Lease, Peer, Pruned, SessionState
from remit.abc import Target, Transport

_T = TypeVar("_T")
_I = TypeVar("_I")
_Args = TypeVarTuple("_Args")


class Session:
    """Made by `remit.connect` and `Hub.connect`.

    A lost link is made anew for as long as ``reconnect`` says (``state`` RECONNECTING): kept jobs
    and those who read them go on where they were, calls wait, return jobs are LOST. After that the
    session is BROKEN and calls raise `LinkLost`.
    """

    def __init__(
        self,
        target: Target,
        transport: Transport,
        plugins: Plugins,
        settings: Settings,
        retries: int = 0,
    ) -> None:
        """``retries``: how often the first link is tried for again."""
        carrier = Carrier(transport, plugins)
        self._connection = Connection(target, carrier, plugins, settings)
        statuses = Statuses(str(target), settings.on_status)
        dialer = Dialer(target, carrier, settings.silence, statuses)
        self._life = Life(self._connection, dialer, retries)

    # -- what it is

    @property
    def target(self) -> str:
        """The target as it was given."""
        return self._connection.target

    @property
    def location(self) -> str:
        """Where jobs run, for people: the address, or ``localhost``."""
        return self._connection.location

    @property
    def state(self) -> SessionState:
        """How it stands, by the last news; `changes` has each change."""
        return self._connection.state

    def changes(self) -> AsyncIterator[SessionState]:
        """The states from now on, beginning with the present one; merged when several come at
        once. Ends after BROKEN or CLOSED."""
        return self._connection.changes()

    @property
    def peer(self) -> Peer | None:
        """What the target tells of itself; None before the first link."""
        hello = self._connection.hello
        if hello is None:
            return None
        return Peer(
            hostname=hello.hostname,
            user=hello.user,
            python=hello.python,
            platform=hello.platform,
            version=hello.version,
            state=None if hello.state is None else os.fsdecode(hello.state),
        )

    def __repr__(self) -> str:
        return repr(self._connection)

    @property
    def _hello(self) -> Hello | None:
        """What the agent has told of itself; None before the first link."""
        return self._connection.hello

    # -- jobs

    @overload
    async def start(
        self, work: str | Sequence[Word], **options: Unpack[StartOptions]
    ) -> Job[CommandResult]: ...

    @overload
    async def start(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        **options: Unpack[StartOptions],
    ) -> Job[_T]: ...

    @overload
    async def start(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        **options: Unpack[StartOptions],
    ) -> Job[list[_T]]: ...

    @overload
    async def start(
        self,
        work: Callable[[*_Args], _T],
        *args: *_Args,
        **options: Unpack[StartOptions],
    ) -> Job[_T]: ...

    async def start(  # type: ignore[misc]  # mypy takes *args: Any for too few
        self,
        work: Work,
        *args: Any,
        placement: str = "return",
        lifetime: Lifetime | Lease | None = None,
        name: str | None = None,
        id: str | None = None,
        cwd: Word | None = None,
        env: Mapping[str, str | None] | None = None,
        stdin: Stdin = None,
        login: bool = False,
        timeout: float | None = None,
        merge: bool = False,
        leftovers: Leftovers = "leave",
        full: Full = "spill",
        buffer_limit: int = 8 << 20,
        max_output: int | None = None,
        on_max: OnMax = "stop",
        python: str | None = None,
    ) -> Job:
        """Starts ``work`` and returns once the target has answered.

        ``work``: a sequence of words (no shell), a str (a ``/bin/sh`` line), or a function.
        ``stdin``: bytes, an open binary file, an async iterable of bytes, `PIPE` (then `Job.send`).
        ``env``: variables that are added; those that are None are removed. With ``login`` a line is
        run by the account's login shell, for what only logins read: profile, modules, conda.
        ``merge`` sends stderr with stdout. ``timeout`` seconds after its start the job is stopped
        and FAILED. ``full``: what becomes of the output of a return job that nobody reads once
        ``buffer_limit`` bytes are held here: ``spill`` to a temporary file, ``block`` the job, or
        ``drop`` the oldest (a `Gap` record stands for it). ``leftovers``: processes that outlive a
        job which ends by itself run on, named in `Outcome.left_behind`; with ``"stop"`` they end.
        A job that is ended takes all with it. ``lifetime``: ``session``, ``detached``, or `lease`
        for a kept job that is stopped some time after its last caller has gone. ``max_output``:
        once stdout and stderr together pass so many bytes the job is stopped and FAILED, and just
        these are kept; with ``on_max="truncate"`` a kept job runs on, and the newest of each stream
        are kept (a `Gap` stands for what was freed before it was read).

        A job whose program or directory is missing is FAILED with reason ``start-failed``. Raises
        ValueError or TypeError (JobRefused: a plugin did), before anything is sent; LinkLost,
        SessionClosed, TargetError (no state directory to keep in), JobStateError (the id is taken
        back). Cancelled, the start is taken back: the job is stopped, removed and sealed.
        """
        self._connection.home.check()
        settings = StartSettings(
            *(placement, lifetime, name, id, cwd, env, stdin, login),
            *(timeout, merge, leftovers, full, buffer_limit, max_output, on_max, python),
        )
        return Job(await self._begin(work, args, settings))

    async def _begin(self, work: Work, args: tuple[Any, ...], settings: StartSettings) -> Live:
        job = starting.announce(self._connection, work, args, settings)
        await starting.begin(self._connection, job, named=settings.id is not None)
        return job

    @overload
    async def run(
        self, work: str | Sequence[Word], **options: Unpack[RunOptions]
    ) -> CommandResult: ...

    @overload
    async def run(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        **options: Unpack[RunOptions],
    ) -> _T: ...

    @overload
    async def run(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        **options: Unpack[RunOptions],
    ) -> list[_T]: ...

    @overload
    async def run(
        self,
        work: Callable[[*_Args], _T],
        *args: *_Args,
        **options: Unpack[RunOptions],
    ) -> _T: ...

    async def run(  # type: ignore[misc]
        self, work: Work, *args: Any, check: bool = False, **options: Any
    ) -> Any:
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
            return await outcome_within(job._backing, options.get("timeout"), check)
        finally:
            await self._connection.tasks.see_through(job._backing.discard)

    @overload
    async def call(
        self,
        fn: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        python: str | None = None,
    ) -> _T: ...

    @overload
    async def call(
        self,
        fn: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        python: str | None = None,
    ) -> list[_T]: ...

    @overload
    async def call(
        self,
        fn: Callable[[*_Args], _T],
        *args: *_Args,
        python: str | None = None,
    ) -> _T: ...

    async def call(  # type: ignore[misc]
        self, fn: Callable[..., Any], *args: Any, python: str | None = None
    ) -> Any:
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
        return await call(self._connection, fn, args, python)

    @overload
    def map(
        self,
        fn: Callable[[_I], Coroutine[Any, Any, _T]],
        items: Iterable[_I],
        *,
        limit: int | None = None,
        return_exceptions: Literal[False] = False,
        python: str | None = None,
    ) -> Mapped[_T]: ...

    @overload
    def map(
        self,
        fn: Callable[[_I], Iterator[_T] | AsyncIterator[_T]],
        items: Iterable[_I],
        *,
        limit: int | None = None,
        return_exceptions: Literal[False] = False,
        python: str | None = None,
    ) -> Mapped[list[_T]]: ...

    @overload
    def map(
        self,
        fn: Callable[[_I], _T],
        items: Iterable[_I],
        *,
        limit: int | None = None,
        return_exceptions: Literal[False] = False,
        python: str | None = None,
    ) -> Mapped[_T]: ...

    @overload
    def map(
        self,
        fn: Callable[[_I], Any],
        items: Iterable[_I],
        *,
        limit: int | None = None,
        return_exceptions: bool,
        python: str | None = None,
    ) -> Mapped[Any]: ...

    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        limit: int | None = None,
        return_exceptions: bool = False,
        python: str | None = None,
    ) -> Mapped[Any]:
        """Calls ``fn`` with each of ``items``, as `call` does; an async iterator of the values, in
        the order of the items.

        They begin in that order too. At most ``limit`` calls are under way or have a value that was
        not taken yet (None: two for each worker there), and only so many items are taken ahead. The
        first call that fails cancels the rest and is raised where its value would be; with
        ``return_exceptions`` what it raised takes the value's place. A step that is cancelled gives
        its value at the next one. Leaving early, or ``aclose()``, cancels what has not come. Raises
        ValueError for a limit under 1.
        """
        if limit is not None:
            limit = count("limit", limit, least=1)
        return mapped(self._connection, fn, items, limit, return_exceptions, python)

    async def ship(self, package: str | ModuleType, *, python: str | None = None) -> None:
        """Sends a pure-Python package or module, so that functions can import it there. It is on
        no disk of the target, and goes along with each new link. The same content again is not
        sent. Raises ShippingError for what is compiled, too large or not there."""
        from remit._shipping import packages

        made = await anyio.to_thread.run_sync(packages.package, package)
        await self._connection.interpreter(python).ship(made)

    async def jobs(self) -> list[JobInfo]:
        """What this account keeps on the target, and this session's return jobs; oldest first."""
        return await listing.listed(self._connection)

    async def _kept_jobs(self, after: str | None) -> tuple[list[JobInfo], str | None]:
        """Of what is kept there as many as come at once, the oldest of them first, and after which
        id the next ones come; None where these were the last."""
        return await listing.page(self._connection, after)

    async def job(self, name: str) -> Job:
        """A live handle of the job with this id, else this name, else this prefix of its id (at
        least 4 characters). Raises JobNotFound, also where several fit (it lists their ids)."""
        return Job(await listing.found(self._connection, name))

    async def _is_gone(self, job_id: str) -> bool | None:
        """Whether the target knows that the job was removed; None where it knows nothing of it."""
        return await listing.is_gone(self._connection, job_id)

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
        return await listing.pruned(self._connection, older_than, max_total, dry_run)

    # -- its end

    async def aclose(self) -> None:
        """Ends the session: its session-bound jobs are stopped, detached ones run on. Twice is
        quiet. Takes as long as those jobs take to stop, at most about 20 s, and where results go
        elsewhere until they are there, at most 40 s, and 6 s more where a store's own tasks go on
        in spite of a cancel; a cancel of who waits does not shorten that."""
        await self._life.aclose()


named_as_written(__name__)
