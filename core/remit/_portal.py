"""One thread with an event loop of its own, for all in a process who call without `await`.

Who calls waits in their own thread, where a signal handler may raise (Ctrl-C does, in the main
thread): the call is cancelled then, and what it cleans up is waited for.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import anyio

from remit._session.hub import Hub

if TYPE_CHECKING:
    from remit._session.fleet import Fleet

_T = TypeVar("_T")

# Seconds that the thread has at the end of the process, once everything is closed.
_LAST_GRACE = 5.0


class _Call(Generic[_T]):
    """One call on its way through the portal. All but `wait` is for the portal's thread."""

    def __init__(
        self,
        function: Callable[[], Awaitable[_T]],
        undo: Callable[[_T], Awaitable[object]] | None,
    ) -> None:
        self._function = function
        self._undo = undo
        self._scope: anyio.CancelScope | None = None
        self._has_begun = False
        self._is_given_up = False
        self._ended = asyncio.Event()
        self.over, self.undone = _Bell(), _Bell()
        self.came = False  # there is a result
        self._result: _T
        self._error: BaseException | None = None

    async def run(self) -> None:
        """Raises nothing."""
        if self._is_given_up:
            return
        self._has_begun = True
        try:
            with anyio.CancelScope() as self._scope:
                self._result = await self._function()
                self.came = True
        except BaseException as exc:
            self._error = exc
        finally:
            self._ended.set()
            self.over.ring()

    async def give_up(self) -> None:
        """Nobody waits for the result any more. Raises nothing; twice is quiet."""
        if self._is_given_up:
            return
        self._is_given_up = True
        if self._scope is not None:
            self._scope.cancel()
        try:
            if self._has_begun:
                await self._ended.wait()
            if self.came and self._undo is not None:
                await self._undo(self._result)
        except BaseException as exc:  # it is told, if at all, by what is found there later
            self._error = exc
        finally:
            self.undone.ring()

    def result(self) -> _T:
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # its traceback has this frame
        return self._result


class _Bell:
    """Is rung once, and waited for by one thread. A lock, and not an Event: waiting is one step,
    which an exception of a signal handler is before or behind."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._is_rung = False

    def ring(self) -> None:
        self._is_rung = True
        self._lock.release()

    def wait(self) -> None:
        if not self._is_rung:
            self._lock.acquire()


class Portal:
    """Made by `portal`. Belongs to the process that made it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._hubs: set[Hub | Fleet] = set()
        self._at_end: list[Callable[[], None]] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._leave: asyncio.Event
        self._is_over = False
        begun = threading.Event()
        # A daemon: the interpreter asks for its end itself, when all other threads have ended.
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(begun)), name="remit", daemon=True
        )
        self._thread.start()
        begun.wait()

    async def _serve(self, begun: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._leave = asyncio.Event()
        begun.set()
        await self._leave.wait()

    @property
    def is_usable(self) -> bool:
        return not self._is_over and self._pid == os.getpid()

    @property
    def is_here(self) -> bool:
        """Whether this is the portal's own thread."""
        return threading.current_thread() is self._thread

    def check_process(self) -> None:
        """Raises RuntimeError where nothing can be done any more."""
        if self._pid != os.getpid():
            raise RuntimeError(
                "it was opened in another process, before a fork: open another in this one"
            )
        if self._is_over:
            raise RuntimeError("the interpreter is ending, and has closed what was open")

    def check(self) -> None:
        """Raises RuntimeError where a call would wait for ever."""
        self.check_process()
        if self.is_here:
            raise RuntimeError(
                "remit.blocking was called in its own event loop (by a hook, or an iterator that "
                "it reads), which would wait for itself: use the names of remit, with await"
            )

    def call(
        self,
        function: Callable[[], Awaitable[_T]],
        *,
        undo: Callable[[_T], Awaitable[object]] | None = None,
    ) -> _T:
        """Runs ``function`` in the portal's event loop and returns what it returns.

        An exception of a signal handler, as that of Ctrl-C, cancels it; what it cleans up is waited
        for, unless a second one comes. Where it was done all the same, ``undo`` is given what
        nobody gets.
        """
        self.check()
        call = _Call(function, undo)
        try:
            self.soon(call.run)
            call.over.wait()
            if call.came:
                return call.result()
        except BaseException:
            try:
                self.soon(call.give_up)
            finally:  # a second one may come before that was done
                self.soon(call.give_up)
            call.undone.wait()
            raise
        return call.result()

    def soon(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs ``function``, which raises nothing, in a task of the portal's. From any thread;
        tasks begin in the order of these calls."""
        self._loop.call_soon_threadsafe(self._start, function)

    def _start(self, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(function(), name="remit.blocking")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- what is open

    async def open_hub(self) -> Hub:
        """In the portal's thread: a hub that is closed at the end of the process at the latest."""
        hub = await Hub.open()
        self._hubs.add(hub)
        return hub

    async def open_fleet(self, fleet: Fleet) -> Fleet:
        """As `open_hub`."""
        self._hubs.add(await fleet.__aenter__())
        return fleet

    async def close_hub(self, hub: Hub | Fleet) -> None:
        try:
            await hub.aclose()
        finally:
            self._hubs.discard(hub)

    def at_end(self, function: Callable[[], None]) -> None:
        """Has it called in the main thread at the end of the process, before all is closed."""
        self._at_end.append(function)

    def not_at_end(self, function: Callable[[], None]) -> None:
        """Twice is quiet."""
        if function in self._at_end:
            self._at_end.remove(function)

    def close(self) -> None:
        """At the end of the process. Ctrl-C leaves at once: targets notice that we are gone."""
        if not self.is_usable:
            return
        try:
            for function in list(self._at_end):
                function()
            self.call(self._close_all)
        except KeyboardInterrupt:
            return
        finally:
            self._is_over = True
            self._loop.call_soon_threadsafe(self._leave.set)
        self._thread.join(_LAST_GRACE)

    async def _close_all(self) -> None:
        async with anyio.create_task_group() as tasks:
            for hub in list(self._hubs):
                tasks.start_soon(hub.aclose)


_portal: Portal | None = None
_making = threading.Lock()
# Of processes that this one was forked from. Their event loops share descriptors with those that
# run there: closing one here would take its selector away from it.
_inherited: list[Portal] = []


def portal() -> Portal:
    """The one of this process."""
    global _portal
    with _making:
        if _portal is None:
            _portal = Portal()
            atexit.register(_portal.close)
        return _portal


def _forked() -> None:
    global _portal, _making
    _making = threading.Lock()  # another thread may have held it
    if _portal is not None:
        atexit.unregister(_portal.close)
        _inherited.append(_portal)
        _portal = None


os.register_at_fork(after_in_child=_forked)
