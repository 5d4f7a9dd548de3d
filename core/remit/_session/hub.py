"""Where sessions live: a hub's tasks, in a task of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack, overload

import anyio
import anyio.abc

from remit._jobs.job import Job
from remit._jobs.options import JobOptions, Word, Work
from remit._link.background import Home, outlast, spawn
from remit._plugins import plugins
from remit._public import named_as_written
from remit._session.farewell import Callers
from remit._session.session import Session
from remit._session.settings import Settings, connecting
from remit._session.shared import SharedSessions
from remit._target import parse_target
from remit._types import CommandResult, OnStatus
from remit.abc import Target, Transport

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class Hub:
    """Sessions opened and closed in any task of one event loop. Made by `open_hub` and used as a
    context manager, once; or by `Hub.open`, and closed by `aclose`. An exception of the body leaves
    it as it is.

    Its sessions live in a task of the hub's own: no cancel scope around them ends them, and what
    cleans up after a cancel still has them.
    """

    def __init__(self) -> None:
        self._home: Home | None = None
        self._tasks: anyio.abc.TaskGroup | None = None
        self._sessions: set[Session] = set()
        self._shared = SharedSessions(self._start_soon)

    def __repr__(self) -> str:
        state = "open" if self._tasks is not None else "not open"
        return f"<remit.Hub {state}, {len(self._sessions)} sessions>"

    @classmethod
    async def open(cls) -> Self:
        """An open hub, for programs without a block to leave: `aclose` it, from any task."""
        return await cls().__aenter__()

    async def __aenter__(self) -> Self:
        if self._home is not None:
            raise RuntimeError("a hub is entered once: open another by remit.open_hub()")
        self._home = Home("the hub")
        self._leave, self._gone, opened = anyio.Event(), anyio.Event(), anyio.Event()
        spawn(partial(self._live, opened))
        try:
            await outlast(opened)
        except BaseException:
            self._leave.set()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all sessions; see `Session.aclose`. Twice is quiet."""
        if self._home is None:
            return
        self._home.check()
        self._leave.set()
        await outlast(self._gone)

    async def _live(self, opened: anyio.Event) -> None:
        """Everything the hub does by itself. Raises nothing."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                opened.set()
                await self._leave.wait()
                async with anyio.create_task_group() as closing:
                    for session in list(self._sessions):
                        closing.start_soon(session.aclose)
        finally:
            self._tasks = None
            self._gone.set()

    async def connect(
        self,
        target: str,
        *,
        connect_timeout: float = 30.0,
        silence: float = 15.0,
        reconnect: float | None = 300.0,
        trust: bool = False,
        workers: int | None = None,
        calls_per_worker: int = 1000,
        via: Sequence[str] | None = None,
        on_status: OnStatus | None = None,
    ) -> Session:
        """Opens a session; see `remit.connect`. It lives until `Session.aclose`, or until the hub
        is left."""
        settings = Settings(**connecting(locals()))
        return await self._connect(target, settings)

    async def session(
        self,
        target: str,
        *,
        connect_timeout: float = 30.0,
        silence: float = 15.0,
        reconnect: float | None = 300.0,
        trust: bool = False,
        workers: int | None = None,
        calls_per_worker: int = 1000,
        via: Sequence[str] | None = None,
        on_status: OnStatus | None = None,
    ) -> Session:
        """The session that all share who ask for this target with these options; see `connect`.

        It is opened when it is first asked for, once however many ask at the same time, and again
        once it is BROKEN or CLOSED. An error of the opening goes to all who wait for it. Cancelled,
        the opening goes on for the others, and for who asks next. It lives until the hub is left.
        """
        settings = Settings(**connecting(locals()))
        self._check_open()
        return await self._shared.get((target, settings), partial(self._connect, target, settings))

    async def _connect(self, target: str, settings: Settings) -> Session:
        self._check_open()
        session = unopened(target, settings)
        self._open_soon(session)
        try:
            await session._connection.ready()
        except BaseException:
            await session.aclose()
            raise
        return session

    def _open_soon(self, session: Session) -> None:
        tasks = self._check_open()
        self._sessions.add(session)
        tasks.start_soon(self._serve, session)

    def _check_open(self) -> anyio.abc.TaskGroup:
        """The tasks of the hub. Raises RuntimeError in another event loop, and once it is left."""
        if self._home is not None:
            self._home.check()
        if self._tasks is None or self._leave.is_set():
            raise RuntimeError("the hub is not open")
        return self._tasks

    def _start_soon(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._check_open().start_soon(function)

    async def _serve(self, session: Session) -> None:
        try:
            await session._life.serve()
        finally:
            self._sessions.discard(session)


def unopened(target: str, settings: Settings, retries: int = 0) -> Session:
    """A session that a hub has not opened yet. Raises ValueError and TargetError."""
    return Session(*parsed(target, settings), plugins(), settings, retries)


def parsed(target: str, settings: Settings) -> tuple[Target, Transport]:
    """What is reached, and how. Raises ValueError and TargetError."""
    return parse_target(
        target,
        plugins(),
        via=settings.via,
        connect_timeout=settings.connect_timeout,
        persist=Callers.persist,
    )


def open_hub() -> Hub:
    """For applications: ``async with remit.open_hub() as hub: session = await hub.connect(…)``."""
    return Hub()


@asynccontextmanager
async def connect(
    target: str,
    *,
    connect_timeout: float = 30.0,
    silence: float = 15.0,
    reconnect: float | None = 300.0,
    trust: bool = False,
    workers: int | None = None,
    calls_per_worker: int = 1000,
    via: Sequence[str] | None = None,
    on_status: OnStatus | None = None,
) -> AsyncGenerator[Session]:
    """A session with ``target`` for the length of an ``async with``.

    Within ``connect_timeout`` seconds an agent must be up. A link on which nothing is heard for
    ``silence`` seconds is taken for dead and made anew for up to ``reconnect`` seconds (None: for
    ever, 0: not at all). ``trust`` accepts pickled results from the target. ``workers`` is how many
    processes there serve `Session.call` (None: one for each processor), and ``calls_per_worker``
    after how many calls each is replaced. ``via``: words that are put before the interpreter there
    (``["sudo", "-n", "-u", "postgres", "--"]``), as ``?via=`` in a target has them.

    ``on_status(stage, detail)`` is called in the event loop for what happens until an agent is up,
    and again for each new link; both are str. Stages: ``"starting"`` the transport's program is
    started, with the words it is to run; ``"heard"`` something was said before the agent speaks, a
    line of it; ``"python"`` an interpreter has answered, with its version; ``"open"`` an agent is
    up, with its account and host; ``"waiting"`` before another attempt, with the seconds. What it
    raises is logged, and it is not called again.

    Raises ValueError and TargetError before anything is started, ConnectError (also
    AuthenticationError, BootstrapError) where no agent came up. Leaving, or a cancel, closes the
    session: its session-bound jobs are stopped, detached ones run on.
    """
    options = connecting(locals())
    async with open_hub() as hub:
        yield await hub.connect(target, **options)


@overload
def start(
    target: str, work: str | Sequence[Word], **options: Unpack[JobOptions]
) -> AbstractAsyncContextManager[Job[CommandResult]]: ...


@overload
def start(
    target: str,
    work: Callable[[*_Args], Coroutine[Any, Any, _T]],
    *args: *_Args,
    **options: Unpack[JobOptions],
) -> AbstractAsyncContextManager[Job[_T]]: ...


@overload
def start(
    target: str,
    work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
    *args: *_Args,
    **options: Unpack[JobOptions],
) -> AbstractAsyncContextManager[Job[list[_T]]]: ...


@overload
def start(
    target: str,
    work: Callable[[*_Args], _T],
    *args: *_Args,
    **options: Unpack[JobOptions],
) -> AbstractAsyncContextManager[Job[_T]]: ...


@asynccontextmanager  # type: ignore[misc]  # mypy takes *args: Any for too few
async def start(target: str, work: Work, *args: Any, **options: Any) -> AsyncGenerator[Job]:
    """One job over a session of its own, its results returned here; the job ends with the block.

    ``options`` are those of `connect` and of `Session.start`.
    """
    settings = connecting(options)
    others = {name: value for name, value in options.items() if name not in settings}
    async with connect(target, **settings) as session:
        yield await session.start(work, *args, **others)


named_as_written(__name__)
