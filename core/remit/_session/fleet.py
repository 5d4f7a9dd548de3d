"""Many targets as one: `remit.connect_many`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, TypeVarTuple, Unpack, overload

import anyio

from remit._amounts import count
from remit._jobs.group import JobGroup
from remit._jobs.options import (
    ConnectOptions,
    RunOptions,
    StartOptions,
    StartSettings,
    Word,
    Work,
)
from remit._public import named_as_written
from remit._session.fleet_map import FleetMapped
from remit._session.groups import checked, find_group, start_group
from remit._session.halting import Halt, Turns
from remit._session.hub import Hub, parsed, unopened
from remit._session.members import Member, Opening
from remit._session.session import Session
from remit._session.settings import Settings
from remit._session.spread import Results
from remit._types import PIPE, CommandResult

_T = TypeVar("_T")
_I = TypeVar("_I")
_Args = TypeVarTuple("_Args")


class Fleet:
    """Sessions with many targets, and the verbs of a session for all of them. Made by
    `connect_many` and used as a context manager, once.

    The sessions are opened beside its body, ``throttle`` at a time; what is asked for meanwhile
    begins on each target as soon as that can be reached. One that cannot be is the trouble of what
    is asked of it alone.
    """

    def __init__(
        self, targets: Sequence[str], settings: Settings, throttle: int, retries: int
    ) -> None:
        self._hub = Hub()
        self._throttle = throttle
        self._retries = retries
        self._settings = settings
        self._targets = tuple(targets)
        self._members: list[Member] = []
        self._opening: anyio.CancelScope | None = None

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets as they were given, in their order."""
        return self._targets

    @property
    def sessions(self) -> tuple[Session, ...]:
        """A session for each, in their order; those whose turn has not come are OPENING."""
        return tuple(member.session for member in self._members)

    def __repr__(self) -> str:
        states = [member.session.state for member in self._members]
        known = {state: states.count(state) for state in dict.fromkeys(states)}
        how = ", ".join(f"{number} {state}" for state, number in known.items())
        return f"<remit.Fleet of {len(self._targets)} targets{': ' if how else ''}{how}>"

    async def __aenter__(self) -> Self:
        await self._hub.__aenter__()
        self._opening = anyio.CancelScope()
        self._members = [
            Member(unopened(target, self._settings, self._retries)) for target in self._targets
        ]
        self._hub._start_soon(self._open_all)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes all sessions at the same time; see `Session.aclose`. Twice is quiet."""
        if self._opening is not None:
            self._opening.cancel()
        await self._hub.aclose()

    async def _open_all(self) -> None:
        assert self._opening is not None
        opening = Opening(self._members, self._throttle)
        try:
            with self._opening:
                await opening.run(self._hub._start_soon, self._hub._open_soon)
        finally:
            if self._opening.cancel_called:
                for member in self._members:
                    member.session._life.never_begin()

    # -- jobs

    @overload
    async def start(
        self,
        work: str | Sequence[Word],
        *,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[CommandResult]: ...

    @overload
    async def start(
        self,
        work: Callable[[*_Args], Coroutine[Any, Any, _T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[_T]: ...

    @overload
    async def start(
        self,
        work: Callable[[*_Args], Iterator[_T] | AsyncIterator[_T]],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[list[_T]]: ...

    @overload
    async def start(
        self,
        work: Callable[[*_Args], _T],
        *args: *_Args,
        throttle: int | None = None,
        halt: str = "never",
        **options: Unpack[StartOptions],
    ) -> JobGroup[_T]: ...

    async def start(  # type: ignore[misc]  # mypy takes *args: Any for too few
        self,
        work: Work,
        *args: Any,
        throttle: int | None = None,
        halt: str = "never",
        **options: Any,
    ) -> JobGroup[Any]:
        """Starts ``work`` on all targets, as a group; ``options`` are those of `Session.start`, but
        for ``id``. It returns at once: each child is PENDING until its target is reached and its
        turn has come.

        At most ``throttle`` children are in flight at a time (None: as the fleet has it). ``halt``:
        what failures do to the others. ``never``; ``soon``: after the first, no other child is
        started; ``now``: those that run are stopped as well. ``soon,fail=3`` and ``now,fail=10%``
        say how many failures that takes. Raises ValueError and TypeError for what can never be
        right; trouble of one target is its child's end, with reason ``connect-failed`` or
        ``start-failed``.
        """
        settings = self._checked(work, args, options)
        return start_group(self._members, self._turns(throttle, halt), work, args, settings)

    async def group(self, id: str) -> JobGroup[Any]:
        """A live handle of the kept group with this id, of those of its children that are on the
        fleet's targets. Waits for all targets; raises what one raises that cannot be reached,
        JobNotFound where none has a child of it, and ValueError for what is no id of a group."""
        return await find_group(self._members, id)

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

    def run(  # type: ignore[misc]
        self,
        work: Work,
        *args: Any,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        **options: Any,
    ) -> Results[Any]:
        """Runs ``work`` on all targets as `Session.run` does. ``await`` what it returns for a list
        of `TargetResult` in the order of the targets, or take them as they come by ``async for``.

        One target's trouble is its result's ``error``, and raises nothing; ``check``: GroupFailed
        once all are over, also where an exit status is not 0. ``throttle`` and ``halt`` are as for
        `start`; a result that failed is one that is not `TargetResult.ok`.
        """
        if options.get("stdin") is PIPE:
            raise ValueError("stdin=PIPE is for start(): nobody could send to a job of run()")
        settings = self._checked(work, args, options)
        more = {**options, "buffer_limit": settings.buffer_limit, "check": check}

        async def on(session: Session) -> Any:
            return await session.run(work, *args, **more)

        return Results(self._members, self._turns(throttle, halt), on, check=check)

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

    def call(  # type: ignore[misc]
        self,
        fn: Callable[..., Any],
        *args: Any,
        throttle: int | None = None,
        halt: str = "never",
        check: bool = False,
        python: str | None = None,
    ) -> Results[Any]:
        """Calls ``fn(*args)`` in a warm worker of each target, as `Session.call` does. What it
        returns is used as that of `run`; ``throttle``, ``halt`` and ``check`` are as there."""
        if not callable(fn):
            raise TypeError(f"a function is called, not {type(fn).__name__}")

        async def on(session: Session) -> Any:
            return await session.call(fn, *args, python=python)

        return Results(self._members, self._turns(throttle, halt), on, check=check)

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
        """Calls ``fn`` with each of ``items``, on whichever target has a worker free; an async
        iterator of the values, in the order of the items, or with ``ordered=False`` as they come.

        ``limit``: how many calls are under way on each target (None: two for each worker there).
        At most twice as many items as calls may be under way are taken ahead of what was given. A
        target that cannot be reached has no calls. An item whose target was lost goes to another:
        always where its call was not on its way yet; else, since it may have run, at most
        ``retries`` times (None: as the fleet has it), after which LinkLost is its failure. The
        first failure cancels the rest and is raised; with ``return_exceptions`` it takes the
        value's place. Where no target is left the error of the last one is raised.
        """
        if limit is not None:
            limit = count("limit", limit, least=1)
        again = self._retries if retries is None else count("retries", retries, least=0)
        return FleetMapped(
            self._members,
            fn,
            items,
            limit=limit,
            retries=again,
            ordered=ordered,
            return_exceptions=return_exceptions,
            python=python,
        )

    # -- what can be right

    def _turns(self, throttle: object, halt: object) -> Turns:
        most = self._throttle if throttle is None else count("throttle", throttle, least=1)
        targets = len(self._members)
        return Turns(most, Halt.parse(halt, targets), targets)

    def _checked(self, work: Work, args: tuple[Any, ...], options: dict[str, Any]) -> StartSettings:
        """Raises RuntimeError where the fleet is not open, ValueError and TypeError."""
        self._hub._check_open()
        return checked(self._members, work, args, options)


def connect_many(
    targets: Iterable[str],
    *,
    throttle: int = 32,
    retries: int = 0,
    **options: Unpack[ConnectOptions],
) -> Fleet:
    """Sessions with many targets for the length of an ``async with``: ``async with
    remit.connect_many(["web1", "web2"]) as fleet: results = await fleet.run(["uptime"])``.

    ``throttle``: how many sessions are being opened at a time, and how many jobs of one piece of
    work are in flight. ``retries``: how often a target that could not be reached is tried again,
    after a pause that grows from 0.5 s to 6 s; never where it refused the login or its host key has
    changed. ``options`` are those of `connect`, for each session. A target named twice has two
    sessions.

    Raises ValueError where there is no target, and ValueError and TargetError for one that can
    never be right, before anything is started. Leaving closes all sessions.
    """
    if isinstance(targets, (str, bytes)):
        raise TypeError("targets is a list of targets, not one")
    names = list(targets)
    if not names:
        raise ValueError("a fleet needs a target at least")
    settings = Settings(**options)
    for name in dict.fromkeys(names):
        parsed(name, settings)
    most = count("throttle", throttle, least=1)
    return Fleet(names, settings, most, count("retries", retries, least=0))


named_as_written(__name__)
