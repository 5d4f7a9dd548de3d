"""`remit.Session` without ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal, TypeVar, TypeVarTuple, Unpack, overload

from remit._jobs import job as jobs
from remit._jobs.options import RunOptions, StartOptions, Word, Work
from remit._portal import Portal
from remit._session import mapping
from remit._session import session as sessions
from remit._types import CommandResult, JobInfo, Peer, Pruned, SessionState
from remit.blocking._jobs import Job
from remit.blocking._like import Steps, like

_T = TypeVar("_T")
_I = TypeVar("_I")
_Args = TypeVarTuple("_Args")


class Mapped(Steps[_T]):
    __doc__ = mapping.Mapped.__doc__

    def __init__(self, portal: Portal, values: mapping.Mapped[_T]) -> None:
        super().__init__(portal, values)
        self._values = values

    @like(mapping.Mapped.aclose)
    def aclose(self) -> None:
        self._fetched.clear()
        self._portal.call(self._values.aclose)

    def __del__(self) -> None:
        if self._portal.is_usable:
            self._portal.soon(self._values.aclose)


class Session:
    __doc__ = sessions.Session.__doc__

    def __init__(self, portal: Portal, session: sessions.Session) -> None:
        self._portal = portal
        self._session = session

    @property
    @like(sessions.Session.target)
    def target(self) -> str:
        return self._session.target

    @property
    @like(sessions.Session.location)
    def location(self) -> str:
        return self._session.location

    @property
    @like(sessions.Session.state)
    def state(self) -> SessionState:
        return self._session.state

    @property
    @like(sessions.Session.peer)
    def peer(self) -> Peer | None:
        return self._session.peer

    @like(sessions.Session.changes)
    def changes(self) -> Iterator[SessionState]:
        return Steps(self._portal, self._session.changes())

    def __repr__(self) -> str:
        return repr(self._session).replace("remit.Session", "remit.blocking.Session", 1)

    @overload
    def start(
        self, work: str | Sequence[Word], **options: Unpack[StartOptions]
    ) -> Job[CommandResult]: ...

    @overload
    def start(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        **options: Unpack[StartOptions],
    ) -> Job[_T]: ...

    @overload
    def start(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        **options: Unpack[StartOptions],
    ) -> Job[list[_T]]: ...

    @overload
    def start(
        self, work: Callable[[*_Args], _T], *args: *_Args, **options: Unpack[StartOptions]
    ) -> Job[_T]: ...

    @like(sessions.Session.start, signature=True)  # type: ignore[misc]
    def start(self, work: Work, *args: Any, **options: Any) -> Job:
        async def start() -> jobs.Job:
            job: jobs.Job = await self._session.start(work, *args, **options)
            return job

        return Job(self._portal, self._portal.call(start, undo=_take_back))

    @overload
    def run(self, work: str | Sequence[Word], **options: Unpack[RunOptions]) -> CommandResult: ...

    @overload
    def run(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        **options: Unpack[RunOptions],
    ) -> _T: ...

    @overload
    def run(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        **options: Unpack[RunOptions],
    ) -> list[_T]: ...

    @overload
    def run(
        self, work: Callable[[*_Args], _T], *args: *_Args, **options: Unpack[RunOptions]
    ) -> _T: ...

    @like(sessions.Session.run)  # type: ignore[misc]
    def run(self, work: Work, *args: Any, check: bool = False, **options: Any) -> Any:
        return self._portal.call(lambda: self._session.run(work, *args, check=check, **options))

    @overload
    def call(
        self,
        fn: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        python: str | None = None,
    ) -> _T: ...

    @overload
    def call(
        self,
        fn: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        python: str | None = None,
    ) -> list[_T]: ...

    @overload
    def call(self, fn: Callable[[*_Args], _T], *args: *_Args, python: str | None = None) -> _T: ...

    @like(sessions.Session.call)  # type: ignore[misc]
    def call(self, fn: Callable[..., Any], *args: Any, python: str | None = None) -> Any:
        return self._portal.call(lambda: self._session.call(fn, *args, python=python))

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

    @like(sessions.Session.map)
    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        limit: int | None = None,
        return_exceptions: bool = False,
        python: str | None = None,
    ) -> Mapped[Any]:
        async def mapped() -> mapping.Mapped[Any]:
            return self._session.map(
                fn, items, limit=limit, return_exceptions=return_exceptions, python=python
            )

        return Mapped(self._portal, self._portal.call(mapped))

    @like(sessions.Session.ship)
    def ship(self, package: str | ModuleType, *, python: str | None = None) -> None:
        self._portal.call(lambda: self._session.ship(package, python=python))

    @like(sessions.Session.jobs)
    def jobs(self) -> list[JobInfo]:
        return self._portal.call(self._session.jobs)

    @like(sessions.Session.job)
    def job(self, name: str) -> Job:
        return Job(self._portal, self._portal.call(lambda: self._session.job(name)))

    @like(sessions.Session.prune)
    def prune(
        self,
        *,
        older_than: float | None = None,
        max_total: int | None = None,
        dry_run: bool = False,
    ) -> list[Pruned]:
        return self._portal.call(
            lambda: self._session.prune(older_than=older_than, max_total=max_total, dry_run=dry_run)
        )

    @like(sessions.Session.aclose)
    def aclose(self) -> None:
        if self._portal.is_usable:  # else it went with its process, or stands in another
            self._portal.call(self._session.aclose)


async def _take_back(job: jobs.Job) -> None:
    await job.remove(force=True)
