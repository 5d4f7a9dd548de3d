"""`concurrent.futures` over `Session.call`: for what was written for threads or processes."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import TracebackType
from typing import Any, Generic, ParamSpec, TypeVar

import anyio
import attrs

from remit._errors import ConnectError
from remit._jobs.options import ConnectOptions
from remit._plugins import plugins
from remit._portal import Portal, portal
from remit._public import named_as_written
from remit._session.hub import Hub
from remit._session.session import Session
from remit._session.settings import Settings
from remit._target import parse_target

_T = TypeVar("_T")
_P = ParamSpec("_P")

# Calls under way for each worker there: while one runs the next is on its way.
_AHEAD = 2


class _Future(Future[_T], Generic[_T]):
    """One that can be cancelled while it runs: the call is interrupted there.

    To its base it is pending until it has its outcome: what runs, by that, cannot be cancelled.
    """

    def __init__(self) -> None:
        super().__init__()
        self.interrupt: Callable[[], None] | None = None  # from any thread, once it runs
        self._has_begun = False
        # Taken, once, by who says that it is settled: who cancels it, or who has its outcome.
        self._last_word = threading.Lock()

    def begin(self) -> bool:
        """Whether it is to run: nobody has cancelled it."""
        self._has_begun = not self.cancelled()
        return self._has_begun

    def running(self) -> bool:
        return self._has_begun and not self.done()

    def cancel(self) -> bool:
        """Whether it is cancelled. False once it has its outcome."""
        if not super().cancel():
            return False
        if self._last_word.acquire(blocking=False):
            self.set_running_or_notify_cancel()  # who waits for it is told at once
        if self.interrupt is not None:
            self.interrupt()
        return True

    def settle(self, *, value: Any = None, error: BaseException | None = None) -> None:
        """Quiet where it was cancelled meanwhile."""
        if not self._last_word.acquire(blocking=False) or not self.set_running_or_notify_cancel():
            return
        if error is not None:
            self.set_exception(error)
        else:
            self.set_result(value)


@attrs.frozen(eq=False)
class _Item:
    """A call, and the future that stands for it."""

    future: _Future[Any]
    function: Callable[..., Any]
    args: tuple[Any, ...]


class _Calls:
    """What an executor has to do. Its public methods are for any thread, the others for the
    portal's."""

    def __init__(self, portal: Portal, hub: Hub, target: str, options: Mapping[str, Any]) -> None:
        self.portal = portal
        self._hub = hub
        self._target = target
        self._options = options
        self._workers: int | None = options.get("workers")
        self._lock = threading.Lock()
        self._waiting: deque[_Item] = deque()
        self._running: set[_Item] = set()
        self._is_closed = False  # it takes no more
        self._is_cancelled = False  # nor does it begin what waits
        self._one_less = asyncio.Event()

    def add(self, item: _Item) -> None:
        """Raises RuntimeError once it is closed, at the end of the interpreter, and in a fork."""
        self.portal.check_process()
        with self._lock:
            if self._is_closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.append(item)
        self._go_on()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True

    def cancel_waiting(self) -> None:
        while (item := self._next()) is not None:
            item.future.cancel()

    def cancel_all(self) -> None:
        self.close()
        self._is_cancelled = True
        self.cancel_waiting()
        with self._lock:
            running = list(self._running)
        for item in running:
            item.future.cancel()

    def shut_down(self) -> None:
        """Waits until all is done. Ctrl-C ends the waiting alone."""
        self.close()
        self.portal.call(self._finish)

    def shut_down_soon(self) -> None:
        self.close()
        self.portal.soon(self._finish)

    def workers(self) -> int:
        """How many calls run at the same time there. Opens the session, where nobody said so."""
        return self.portal.call(self._count)

    def _next(self) -> _Item | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _go_on(self) -> None:
        """Begins what may run."""
        while (item := self._next_to_run()) is not None:
            if item.future.begin():
                self.portal.soon(partial(self._run, item))
            else:
                self.portal.soon(partial(self._end, item))

    def _next_to_run(self) -> _Item | None:
        with self._lock:
            is_full = len(self._running) >= _AHEAD * (self._workers or 1)
            if is_full or self._is_cancelled or not self._waiting:
                return None
            item = self._waiting.popleft()
            self._running.add(item)
            return item

    async def _finish(self) -> None:
        """Once all is done, and no more can come, the session is closed. Raises nothing."""
        while self._running or self._waiting:
            self._one_less.clear()
            await self._one_less.wait()
        await self.portal.close_hub(self._hub)
        self.portal.not_at_end(self.shut_down)

    async def _session(self) -> Session:
        return await self._hub.session(self._target, **self._options)

    async def _count(self) -> int:
        if self._workers is None:
            session = await self._session()
            self._workers = await session.call(os.cpu_count) or 1
        return self._workers

    async def _run(self, item: _Item) -> None:
        """Raises nothing."""
        future = item.future
        try:
            with anyio.CancelScope() as scope:
                future.interrupt = partial(self._interrupt, scope)
                if future.cancelled():  # before it could be interrupted
                    scope.cancel()
                await self._call(item)
        except BaseException as exc:
            future.settle(error=exc)
        finally:
            future.interrupt = None
            await self._end(item)

    async def _end(self, item: _Item) -> None:
        with self._lock:
            self._running.discard(item)
        self._go_on()
        self._one_less.set()

    def _interrupt(self, scope: anyio.CancelScope) -> None:
        async def interrupt() -> None:
            scope.cancel()

        self.portal.soon(interrupt)

    async def _call(self, item: _Item) -> None:
        try:
            session = await self._session()
            await self._count()
        except ConnectError as exc:
            self._refuse(exc)
            raise
        self._go_on()
        item.future.settle(value=await session.call(item.function, *item.args))

    def _refuse(self, error: ConnectError) -> None:
        """What waits has the same to wait for; what comes later tries anew."""
        while (item := self._next()) is not None:
            if item.future.begin():
                item.future.settle(error=error.again())


class Executor(concurrent.futures.Executor):
    """A `concurrent.futures.Executor` whose calls run on ``target``, by `Session.call`: in warm
    worker processes there, ``workers`` of them (None: one for each processor). ``connect`` has more
    options of `remit.connect`.

    Functions, arguments and results travel as those of `Session.call` do; a function that raised is
    a `JobFailed` with the remote ``type`` and ``traceback``. A future can be cancelled while it
    runs: the call is interrupted there. The session is opened by the first call, and anew where it
    was lost; what was under way then fails with LinkLost, and where nothing can be reached, what
    waits with ConnectError.

    Left because of Ctrl-C, an ``with`` cancels all that is not done. The interpreter waits at its
    end for what was submitted. A fork cannot use it: RuntimeError.

    Raises ValueError, TypeError and TargetError for what can never be right.
    """

    def __init__(
        self,
        target: str,
        *,
        workers: int | None = None,
        connect: ConnectOptions | None = None,
    ) -> None:
        options: dict[str, Any] = {**(connect or {})}
        if workers is not None:
            options["workers"] = workers
        settings = Settings(**options)
        parse_target(target, plugins(), connect_timeout=settings.connect_timeout)
        thread = portal()
        hub = thread.call(thread.open_hub, undo=thread.close_hub)
        self._calls = _Calls(thread, hub, target, options)
        thread.at_end(self._calls.shut_down)
        # One that is dropped finishes what it was given.
        weakref.finalize(self, _dropped, self._calls).atexit = False

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Has ``fn(*args, **kwargs)`` called there. Raises RuntimeError after `shutdown`, at the
        end of the interpreter, and in a process that was forked."""
        future: _Future[_T] = _Future()
        function = partial(fn, **kwargs) if kwargs else fn
        self._calls.add(_Item(future, function, args))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Takes no more calls; closes the session once all are done, and with ``wait`` waits for
        that. ``cancel_futures`` cancels those that have not begun. Twice is quiet."""
        if not self._calls.portal.is_usable:
            return  # it went with its process, or stands in another
        self._calls.close()
        if cancel_futures:
            self._calls.cancel_waiting()
        if wait:
            self._calls.shut_down()
        else:
            self._calls.shut_down_soon()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._calls.cancel_all()
        self.shutdown(wait=True)

    @property
    def _max_workers(self) -> int:
        """What programs ask the executors of the standard library for. Opens the session."""
        return self._calls.workers()


def _dropped(calls: _Calls) -> None:
    if calls.portal.is_usable:
        calls.shut_down_soon()


named_as_written(__name__)
