"""Tasks that no cancel scope of the user reaches, and waits that no cancel shortens.

What cleans up has to outlive whoever is cancelled. A shield at each await is not enough where the
task that does the work stands in the caller's scope; so sessions live in a task of their own: one
of the event loop on asyncio, a system task on trio.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

import anyio

_T = TypeVar("_T")

# Seconds that a plugin's code may go on after it was cancelled, before it is left behind.
GRACE = 2.0
# And that it has once its shields are taken away.
_LAST_GRACE = 1.0

# An event loop knows its tasks weakly.
_running: set[asyncio.Task[None]] = set()


def current_loop() -> object:
    """What is one and the same in all tasks of an event loop. Raises RuntimeError outside one."""
    trio = sys.modules.get("trio")
    if trio is not None:
        try:
            return trio.lowlevel.current_trio_token()
        except RuntimeError:
            pass
    return asyncio.get_running_loop()


class Home:
    """The event loop in which something was opened, and can be used."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._loop = current_loop()

    def check(self) -> None:
        """Raises RuntimeError in any other event loop, which would wait for ever."""
        if current_loop() is not self._loop:
            raise RuntimeError(
                f"{self._what} belongs to another event loop (and thread): use it where it was "
                "opened; from a thread, by anyio.from_thread.run"
            )


def spawn(function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs ``function``, which raises nothing, in a task of its own until it is over, or until
    the event loop ends."""
    if isinstance(current_loop(), asyncio.AbstractEventLoop):
        task = asyncio.get_running_loop().create_task(function(), name="remit")
        _running.add(task)
        task.add_done_callback(_running.discard)
    else:
        import trio

        context = contextvars.copy_context()
        trio.lowlevel.spawn_system_task(function, name="remit", context=context)


async def outlast(event: anyio.Event, seconds: float = math.inf) -> bool:
    """Waits for ``event``, at most so long; whether it is set. A cancel, of a scope or asyncio's
    own, shortens nothing; asyncio's is raised afterwards."""
    deadline = anyio.current_time() + seconds
    cancelled: BaseException | None = None
    while not event.is_set():
        try:
            with anyio.CancelScope(shield=True, deadline=deadline) as scope:
                await event.wait()
        except anyio.get_cancelled_exc_class() as exc:
            cancelled = exc
            continue
        if scope.cancelled_caught:
            break
    if cancelled is not None:
        raise cancelled
    return event.is_set()


class Errand(Generic[_T]):
    """Somebody else's async function, in a task of its own: whatever it raises or shields itself
    against, who waits for it can go on without it. Whoever begins one sees to its `end`.

    ``over`` is set when it has ended, ``then`` called. ``came`` tells whether there is a result,
    and ``error`` is what it raised, of whatever kind; a cancel from outside leaves neither.
    """

    def __init__(
        self, function: Callable[[], Awaitable[_T]], then: Callable[[], None] | None = None
    ) -> None:
        self.over = anyio.Event()
        self.came = False
        self.error: BaseException | None = None
        self._function = function
        self._then = then
        self._result: _T
        self._task: Any = None
        # Only `end` ends it: not the event loop, before who began it has taken its leave.
        self._scope = anyio.CancelScope(shield=True)
        spawn(self._run)

    async def _run(self) -> None:
        self._task = _current_task()
        try:
            with self._scope:
                self._result = await self._function()
                self.came = True
        except BaseException as exc:  # in a task of its own it would end the program
            if not (isinstance(exc, anyio.get_cancelled_exc_class()) and self._is_cancelled()):
                self.error = exc
        finally:
            self.over.set()
            if self._then is not None:
                self._then()

    def _is_cancelled(self) -> bool:
        """By `end`, or by an event loop of asyncio that ends."""
        if isinstance(self._task, asyncio.Task) and self._task.cancelling():
            return True
        return self._scope.cancel_called

    def result(self) -> _T:
        """What it returned, once ``came``; else it raises ``error``."""
        error, self.error = self.error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def cancel(self) -> None:
        self._scope.cancel()

    async def attend(self, late: Callable[[], None]) -> None:
        """Waits until it is over. A cancel is handed on, see `end`, and raised."""
        try:
            await self.over.wait()
        finally:
            await self.end(GRACE, late)

    async def end(self, patience: float, late: Callable[[], None]) -> None:
        """Cancels it, and waits until it is over. One that goes on for ``patience`` seconds all the
        same loses its shields, ``late`` is called, and soon it is left behind. A cancel of who
        waits shortens nothing."""
        if self.over.is_set():
            return
        self._scope.cancel()
        try:
            await outlast(self.over, patience)
        finally:
            if not self.over.is_set():
                late()
                _unshield(self._task)
                await outlast(self.over, _LAST_GRACE)


def _current_task() -> Any:
    if isinstance(current_loop(), asyncio.AbstractEventLoop):
        return asyncio.current_task()
    import trio

    return trio.lowlevel.current_task()


def _unshield(task: Any) -> None:
    """Lets the cancel through that ``task`` and what it has started shield themselves against. A
    task that is left behind would keep the event loop of trio from ending."""
    if isinstance(task, asyncio.Task):
        task.cancel()  # shields are anyio's alone
        return
    # trio tells nobody which scopes a task is in: without this it is left behind as it is.
    status = getattr(task, "_cancel_status", None)
    first = getattr(task.parent_nursery, "_cancel_status", None)
    while status is not None and status is not first:
        status._scope.shield = False
        status = status.parent
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            _unshield(child)
