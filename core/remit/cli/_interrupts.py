"""Ctrl-C, SIGTERM and a terminal that goes away: the first asks, the second ends at once."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from remit._session.farewell import Callers

_T = TypeVar("_T")

# Seconds that a target has for an orderly end once somebody wants us to end. It ends by itself what
# is session-bound, however we leave it.
_FAREWELL = 2.0


class Interrupts:
    """``status`` is the exit status of who was interrupted: 128 and the signal's number."""

    def __init__(self) -> None:
        self.status = 0
        self._asked = anyio.Event()

    async def wait(self) -> None:
        """Returns once the first has come."""
        await self._asked.wait()

    async def around(self, work: Callable[[], Awaitable[int]]) -> int:
        """Runs ``work``, which is cancelled when the first comes; returns the exit status."""
        status = 0
        scope = anyio.CancelScope()

        async def obey() -> None:
            await self.wait()
            scope.cancel()

        async with beside(self.watch, obey):
            with scope:
                status = await work()
        return self.status or status

    async def watch(self) -> None:
        wanted = heeded(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if not wanted:
            await anyio.sleep_forever()
        with anyio.open_signal_receiver(*wanted) as signals:
            async for number in signals:
                if self.status:
                    # The far end notices that the link is gone, and ends what is session-bound.
                    os._exit(128 + number)
                self.status = 128 + number
                Callers.hurry(_FAREWELL)
                self._asked.set()


# How far somebody went who wants a `run` to end.
TOLD = 1  # its jobs get INT
STOP = 2  # they are stopped, and what is on its way to one is taken back
LEAVE = 3


class Presses:
    """The first Ctrl-C is for what runs, the second stops it, the third leaves at once. SIGTERM and
    a terminal that goes away begin with the second, and so does Ctrl-C where nothing runs."""

    def __init__(
        self, runs: Callable[[], bool], leave: Callable[[], object], *, lets_go: bool = False
    ) -> None:
        """``leave`` says what is left behind. ``lets_go``: SIGTERM and a terminal that goes away
        stop nothing, and we go."""
        self.level = 0
        self.status = 0  # 128 and the number, of a signal that is not for the job
        self.is_leaving = False  # without what runs
        self._runs = runs
        self._leave = leave
        self._lets_go = lets_go
        self._further = anyio.Event()

    async def reached(self, level: int) -> None:
        while self.level < level:
            await self._further.wait()

    async def watch(self) -> None:
        wanted = heeded(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if not wanted:
            await anyio.sleep_forever()
        with anyio.open_signal_receiver(*wanted) as signals:
            async for number in signals:
                self.take(number)
                if self.level >= LEAVE:
                    self._leave()
                    # The far end notices that the link is gone, and ends what is session-bound.
                    os._exit(128 + number)

    def take(self, number: int) -> None:
        """Goes on to the next level."""
        is_ours = number != signal.SIGINT
        if is_ours:
            self.status = 128 + number
            self.is_leaving = self._lets_go and self.level < STOP
        self.level = max(self.level + 1, TOLD if self._runs() and not is_ours else STOP)
        if self.level >= STOP:
            Callers.hurry(_FAREWELL)
        further, self._further = self._further, anyio.Event()
        further.set()


async def cut_short_by_ctrl_c(work: Callable[[], Awaitable[_T]]) -> _T:
    """Runs ``work`` where Ctrl-C is the event loop's: it cancels, and sessions take leave in spite
    of it, but soon."""
    results: list[_T] = []
    problems: list[BaseException] = []

    async def act() -> None:
        try:
            results.append(await work())
        except BaseException as exc:
            problems.append(exc)
        finally:
            over.set()

    over = anyio.Event()
    async with anyio.create_task_group() as tasks:
        # In a task of its own: a cancel of this one is how a Ctrl-C shows.
        tasks.start_soon(act)
        try:
            await over.wait()
        except anyio.get_cancelled_exc_class():
            Callers.hurry(_FAREWELL)
            raise
    for problem in problems:
        raise problem
    return results[0]


def heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those that are not ignored: `nohup` and a shell's background jobs ignore some, and then they
    are to stay ignored."""
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


@asynccontextmanager
async def beside(*functions: Callable[[], Coroutine[Any, Any, object]]) -> AsyncGenerator[None]:
    """Runs async functions beside the body, until it ends. Its errors come as they are."""
    problem: Exception | None = None
    async with anyio.create_task_group() as tasks:
        for function in functions:
            tasks.start_soon(function)
        try:
            yield
        except Exception as exc:
            problem = exc
        tasks.cancel_scope.cancel()
    if problem is not None:
        raise problem
