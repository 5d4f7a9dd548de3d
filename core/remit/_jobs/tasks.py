"""What goes on in a session beside whoever asked for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio
import anyio.abc

from remit._link.background import outlast

# A start that was cancelled is taken back; who waits does so as long as this.
TAKE_BACK_GRACE: Final = 10.0

Failed = Callable[[Exception], None]


class Tasks:
    """The tasks of one session. What one raises is the trouble of whoever started it, and of nobody
    else."""

    def __init__(self, note: Failed) -> None:
        """``note`` is told what went wrong where nobody waits who could be. It raises nothing."""
        self.note = note
        self._group: anyio.abc.TaskGroup | None = None
        self._fatal: Failed = note
        self._undoing: set[anyio.Event] = set()  # what is being taken back

    @property
    def are_run(self) -> bool:
        return self._group is not None

    async def run(self, main: Callable[[], Awaitable[None]], fatal: Failed) -> None:
        """Runs ``main``, and until it is over what is started meanwhile. ``fatal`` is told what it
        raises, and what was raised by who was told of another's failure."""
        self._fatal = fatal
        try:
            async with anyio.create_task_group() as self._group:
                scope = self._group.cancel_scope
                try:
                    await self._guarded(main, (), fatal)
                finally:
                    self._group = None  # it takes no more
                scope.cancel()
        finally:
            self._undoing.clear()

    def start_soon(
        self, function: Callable[..., Awaitable[Any]], *args: Any, failed: Failed
    ) -> None:
        """Runs it beside the session; once that is over, not at all. What it raises is told to
        ``failed``."""
        if self._group is not None:
            self._group.start_soon(self._guarded, function, args, failed)

    async def _guarded(
        self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], failed: Failed
    ) -> None:
        try:
            await function(*args)
        except Exception as exc:
            try:
                failed(exc)
            except Exception as another:
                self._fatal(another)

    async def see_through(self, function: Callable[[], Awaitable[None]]) -> None:
        """Takes something back, out of reach of the caller's cancels, and waits for that for a
        while; the session does not take leave before. Raises nothing of its own."""
        if self._group is not None:
            await outlast(self.take_back(function), TAKE_BACK_GRACE)
            return
        # The session is over: there is only something to be let go of here, and nobody to ask.
        with anyio.CancelScope(shield=True):
            try:
                await function()
            except Exception as exc:
                self.note(exc)

    def take_back(self, function: Callable[[], Awaitable[None]]) -> anyio.Event:
        """As `see_through`; the event is set once it is done."""
        undone = anyio.Event()

        async def act() -> None:
            try:
                await function()
            finally:
                self._undoing.discard(undone)
                undone.set()

        if self._group is None:
            undone.set()  # the session is over, and took it along
        else:
            self._undoing.add(undone)
            self.start_soon(act, failed=self.note)
        return undone

    async def taken_back(self) -> None:
        """Waits until all is, for a while."""
        with anyio.move_on_after(TAKE_BACK_GRACE):
            while self._undoing:
                await next(iter(self._undoing)).wait()
