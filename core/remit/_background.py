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
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

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
