"""`remit.connect_many` and its fleet without ``await``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import (
    Any,
    Literal,
    Self,
    TypeVar,
    TypeVarTuple,
    Unpack,
    overload,
)

from remit._jobs import group as groups
from remit._jobs.options import ConnectOptions, RunOptions, StartOptions, Word, Work
from remit._portal import Portal, portal
from remit._session import fleet as fleets
from remit._session import fleet_map, spread
from remit._types import CommandResult
from remit.blocking._groups import FleetMapped, JobGroup, Results
from remit.blocking._like import like
from remit.blocking._session import Session

_T = TypeVar("_T")
_I = TypeVar("_I")
_Args = TypeVarTuple("_Args")


class Fleet:
    __doc__ = fleets.Fleet.__doc__

    def __init__(self, portal: Portal, fleet: fleets.Fleet) -> None:
        self._portal = portal
        self._fleet = fleet

    @property
    @like(fleets.Fleet.targets)
    def targets(self) -> tuple[str, ...]:
        return self._fleet.targets

    @property
    @like(fleets.Fleet.sessions)
    def sessions(self) -> tuple[Session, ...]:
        return tuple(Session(self._portal, session) for session in self._fleet.sessions)

    def __repr__(self) -> str:
        return repr(self._fleet).replace("remit.Fleet", "remit.blocking.Fleet", 1)

    def __enter__(self) -> Self:
        fleet = self._fleet
        self._portal.call(lambda: self._portal.open_fleet(fleet), undo=self._portal.close_hub)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.aclose()

    @like(fleets.Fleet.aclose)
    def aclose(self) -> None:
        if self._portal.is_usable:  # else it went with its process, or is another's
            self._portal.call(lambda: self._portal.close_hub(self._fleet))

    @overload
    def start(
        self,
        work: str | Sequence[Word],
        *,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[CommandResult]: ...

    @overload
    def start(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[_T]: ...

    @overload
    def start(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[list[_T]]: ...

    @overload
    def start(
        self,
        work: Callable[[*_Args], _T],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[_T]: ...

    @like(fleets.Fleet.start)  # type: ignore[misc]
    def start(
        self,
        work: Work,
        *args: Any,
        throttle: int | None = None,
        halt: str = "never",
        **options: Any,
    ) -> JobGroup[Any]:
        async def start() -> groups.JobGroup[Any]:
            group: groups.JobGroup[Any] = await self._fleet.start(
                work, *args, throttle=throttle, halt=halt, **options
            )
            return group

        return JobGroup(self._portal, self._portal.call(start, undo=_take_back))

    @like(fleets.Fleet.group)
    def group(self, id: str) -> JobGroup[Any]:
        return JobGroup(self._portal, self._portal.call(lambda: self._fleet.group(id)))

    @overload
    def run(
        self,
        work: str | Sequence[Word],
        *,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[RunOptions],
    ) -> Results[CommandResult]: ...

    @overload
    def run(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[RunOptions],
    ) -> Results[_T]: ...

    @overload
    def run(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[RunOptions],
    ) -> Results[list[_T]]: ...

    @overload
    def run(
        self,
        work: Callable[[*_Args], _T],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[RunOptions],
    ) -> Results[_T]: ...

    @like(fleets.Fleet.run)  # type: ignore[misc]
    def run(
        self,
        work: Work,
        *args: Any,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        **options: Any,
    ) -> Results[Any]:
        async def run() -> spread.Results[Any]:
            results: spread.Results[Any] = self._fleet.run(
                work, *args, throttle=throttle, halt=halt, check=check, **options
            )
            return results

        return Results(self._portal, self._portal.call(run))

    @overload
    def call(
        self,
        fn: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        python: str | None = None,
    ) -> Results[_T]: ...

    @overload
    def call(
        self,
        fn: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        python: str | None = None,
    ) -> Results[list[_T]]: ...

    @overload
    def call(
        self,
        fn: Callable[[*_Args], _T],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        python: str | None = None,
    ) -> Results[_T]: ...

    @like(fleets.Fleet.call)  # type: ignore[misc]
    def call(
        self,
        fn: Callable[..., Any],
        *args: Any,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        python: str | None = None,
    ) -> Results[Any]:
        async def call() -> spread.Results[Any]:
            results: spread.Results[Any] = self._fleet.call(
                fn, *args, throttle=throttle, halt=halt, check=check, python=python
            )
            return results

        return Results(self._portal, self._portal.call(call))

    @overload
    def map(
        self,
        fn: Callable[[_I], Coroutine[Any, Any, _T]],
        items: Iterable[_I],
        *,
        ordered: bool = True,
        limit: int | None = None,
        retries: int | None = None,
        return_exceptions: Literal[False] = False,
        python: str | None = None,
    ) -> FleetMapped[_T]: ...

    @overload
    def map(
        self,
        fn: Callable[[_I], Iterator[_T] | AsyncIterator[_T]],
        items: Iterable[_I],
        *,
        ordered: bool = True,
        limit: int | None = None,
        retries: int | None = None,
        return_exceptions: Literal[False] = False,
        python: str | None = None,
    ) -> FleetMapped[list[_T]]: ...

    @overload
    def map(
        self,
        fn: Callable[[_I], _T],
        items: Iterable[_I],
        *,
        ordered: bool = True,
        limit: int | None = None,
        retries: int | None = None,
        return_exceptions: Literal[False] = False,
        python: str | None = None,
    ) -> FleetMapped[_T]: ...

    @overload
    def map(
        self,
        fn: Callable[[_I], Any],
        items: Iterable[_I],
        *,
        ordered: bool = True,
        limit: int | None = None,
        retries: int | None = None,
        return_exceptions: bool,
        python: str | None = None,
    ) -> FleetMapped[Any]: ...

    @like(fleets.Fleet.map)
    def map(
        self,
        fn: Callable[[Any], Any],
        items: Iterable[Any],
        *,
        ordered: bool = True,
        limit: int | None = None,
        retries: int | None = None,
        return_exceptions: bool = False,
        python: str | None = None,
    ) -> FleetMapped[Any]:
        async def mapped() -> fleet_map.FleetMapped[Any]:
            return self._fleet.map(
                fn,
                items,
                ordered=ordered,
                limit=limit,
                retries=retries,
                return_exceptions=return_exceptions,
                python=python,
            )

        return FleetMapped(self._portal, self._portal.call(mapped))


async def _take_back(group: groups.JobGroup[Any]) -> None:
    await group.remove(force=True)


@like(fleets.connect_many)
def connect_many(
    targets: Iterable[str],
    *,
    throttle: int = 32,
    retries: int = 0,
    **options: Unpack[ConnectOptions],
) -> Fleet:
    fleet = fleets.connect_many(targets, throttle=throttle, retries=retries, **options)
    return Fleet(portal(), fleet)
