"""`remit.Hub`, `remit.connect` and `remit.start` without ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack, overload

from remit._jobs.options import JobOptions, Word, Work
from remit._portal import portal
from remit._session import hub as hubs
from remit._session import session as sessions
from remit._session.settings import connecting
from remit._types import CommandResult, OnStatus
from remit.blocking._jobs import Job
from remit.blocking._like import like
from remit.blocking._session import Session

_T = TypeVar("_T")
_Args = TypeVarTuple("_Args")


class Hub:
    __doc__ = hubs.Hub.__doc__

    def __init__(self) -> None:
        self._portal = portal()
        self._hub: hubs.Hub | None = None

    def __repr__(self) -> str:
        if self._hub is None:
            return "<remit.blocking.Hub not open>"
        return repr(self._hub).replace("remit.Hub", "remit.blocking.Hub", 1)

    @classmethod
    @like(hubs.Hub.open)
    def open(cls) -> Self:
        return cls().__enter__()

    def __enter__(self) -> Self:
        if self._hub is not None:
            raise RuntimeError("a hub is entered once: open another by remit.open_hub()")
        self._hub = self._portal.call(self._portal.open_hub, undo=self._portal.close_hub)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.aclose()

    @like(hubs.Hub.aclose)
    def aclose(self) -> None:
        hub = self._hub
        if hub is None or not self._portal.is_usable:  # it went with its process
            return
        close = partial(self._portal.close_hub, hub)
        if self._portal.is_here:  # where a hub that was forgotten is collected
            self._portal.soon(close)
        else:
            self._portal.call(close)

    @like(hubs.Hub.connect)
    def connect(
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
        options = connecting(locals())
        hub = self._opened()
        opened = self._portal.call(
            lambda: hub.connect(target, **options), undo=sessions.Session.aclose
        )
        return Session(self._portal, opened)

    @like(hubs.Hub.session)
    def session(
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
        options = connecting(locals())
        hub = self._opened()
        return Session(self._portal, self._portal.call(lambda: hub.session(target, **options)))

    def _opened(self) -> hubs.Hub:
        self._portal.check()
        if self._hub is None:
            raise RuntimeError("the hub is not open")
        return self._hub


@like(hubs.open_hub)
def open_hub() -> Hub:
    return Hub()


@contextmanager
@like(hubs.connect)
def connect(
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
) -> Generator[Session]:
    options = connecting(locals())
    with open_hub() as hub:
        yield hub.connect(target, **options)


@overload
def start(
    target: str, work: str | Sequence[Word], **options: Unpack[JobOptions]
) -> AbstractContextManager[Job[CommandResult]]: ...


@overload
def start(
    target: str,
    work: Callable[[*_Args], Coroutine[Any, Any, _T]],
    *args: *_Args,
    **options: Unpack[JobOptions],
) -> AbstractContextManager[Job[_T]]: ...


@overload
def start(
    target: str,
    work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
    *args: *_Args,
    **options: Unpack[JobOptions],
) -> AbstractContextManager[Job[list[_T]]]: ...


@overload
def start(
    target: str, work: Callable[[*_Args], _T], *args: *_Args, **options: Unpack[JobOptions]
) -> AbstractContextManager[Job[_T]]: ...


@contextmanager  # type: ignore[misc]  # mypy takes *args: Any for too few
@like(hubs.start)
def start(target: str, work: Work, *args: Any, **options: Any) -> Generator[Job]:
    settings = connecting(options)
    others = {name: value for name, value in options.items() if name not in settings}
    with connect(target, **settings) as session:
        yield session.start(work, *args, **others)
