"""Stores of plugins: each call guarded, their tasks, and how they come to their end.

What a store raises is one job's trouble, and bears its plugin's name.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final

import anyio
import anyio.abc
import anyio.lowlevel
import attrs

from remit._errors import PluginError, RemitError
from remit._link.background import GRACE, Errand, Home, outlast
from remit._link.notify import Notifier
from remit._types import JobInfo, Outcome, Record
from remit.abc import Channel, OutlivesSession, Placement, Position, ResultStore, StoreReader

# Seconds that a store has for what is on its way when it is closed, and then for being freed.
_DRAIN: Final = 30.0
_FREE: Final = 10.0

Failed = Callable[[Exception], None]


class Stores:
    """The stores of one session. Those that do not outlive it are drained and freed at its end, or
    when their job's handle is dropped."""

    def __init__(self) -> None:
        self._tasks: anyio.abc.TaskGroup | None = None
        self._open: set[Store] = set()
        self._dropped: deque[Store] = deque()

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None]:
        """Within it their tasks run. At its end all of them are drained and freed, whoever is
        cancelled; that takes `_DRAIN` and `_FREE` seconds at most."""
        async with anyio.create_task_group() as self._tasks:
            try:
                yield
            finally:
                with anyio.CancelScope(shield=True):
                    async with anyio.create_task_group() as freeing:
                        for store in list(self._open):
                            freeing.start_soon(self.free, store)
                self._tasks.cancel_scope.cancel()

    def own(self, store: Store, job: object) -> None:
        """``store`` is freed once nobody holds ``job``, or at the end."""
        self._sweep()
        self._open.add(store)
        weakref.finalize(job, self._dropped.append, store)

    def forget(self, store: Store) -> None:
        """It has been freed."""
        self._open.discard(store)

    def start_soon(self, function: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> bool:
        """False once the session is over."""
        self._sweep()
        if self._tasks is None or self._tasks.cancel_scope.cancel_called:
            return False
        self._tasks.start_soon(partial(function, *args))
        return True

    async def free(self, store: Store) -> None:
        """Its end: what is on its way arrives, then it is freed. Raises nothing."""
        if store not in self._open:
            return
        if not store.closed:
            store.try_close(None)
        if not await store.drained():
            store.give_up("had not stored all of it", _DRAIN)
        await store.try_aclose()
        self.forget(store)

    def _sweep(self) -> None:
        """Of stores whose handles were dropped; that may happen anywhere, in other threads too."""
        while self._dropped:
            store = self._dropped.popleft()
            if store in self._open and self._tasks is not None:
                self._tasks.start_soon(self.free, store)


class Store:
    """`remit.abc.ResultStore`, as a job has it. It raises PluginError where ``plugin`` raises, in
    each of its methods. Errors of remit's own are what those may raise that read, and left as they
    are there; elsewhere that of a lying target would cost the session.

    Where the job waits for what was sent to be used up, `result` has to use up what it gathers
    before it knows whether it may: ``_taken`` holds that until then, for who reads after it.

    Readers of ``ours`` are waited for as they are; others in tasks that can be left behind.
    """

    def __init__(
        self, stores: Stores, plugin: str, failed: Failed, *, takes: bool, ours: bool
    ) -> None:
        self.closed = False
        self.outlives = False
        self.failed = failed
        self.takes = takes
        self.ours = ours
        self.taken: deque[Record] = deque()
        self._stores = stores
        self._plugin = plugin
        self._store: ResultStore
        self._scopes: set[anyio.CancelScope] = set()  # of its tasks
        self._notifier = Notifier("a store")
        self._consumer: weakref.ref[Reader] | None = None
        self._job = ""

    def open(self, placement: Placement, job: JobInfo, channel: Channel) -> None:
        """Before anything else."""
        self._job = job.id
        self._home = Home(f"job {job.id}")
        with _named(self._plugin, "open_store()"):
            self._store = placement.open_store(job, channel)
            self.outlives = (
                isinstance(self._store, OutlivesSession) and self._store.outlives_session
            )

    def append(self, record: Record) -> None:
        try:  # for each record: a context manager would tell
            self._store.append(record)
        except BaseException as exc:
            raise PluginError.of(self._plugin, "append() of a store", exc) from exc

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> Reader:
        if not self.closed:
            self._home.check()  # who waits for more would wait for ever
        replay, behind = self._replay(position)
        with _named(self._plugin, "read() of a store", RemitError):
            inner = self._store.read(behind, follow=follow, consume=consume)
        reader = Reader(self, inner, self._plugin, replay, consume=consume)
        if consume:
            earlier = None if self._consumer is None else self._consumer()
            if earlier is not None:
                earlier.superseded = True
            self._consumer = weakref.ref(reader)
        return reader

    def _replay(self, position: Position | None) -> tuple[deque[Record], Position | None]:
        """What of ``taken`` a reading from there begins with, and where it then goes on."""
        if position is None or not self.taken:
            return deque(self.taken), position
        replay, behind = deque[Record](), dict(position)
        for record in self.taken:
            at = behind.get(record.stream, 0)
            if record.offset > at:
                return deque(), position  # it begins with what was used up before
            if record.end > at:
                replay.append(_after(record, at))
                behind[record.stream] = record.end
        return replay, behind

    @property
    def size(self) -> Position:
        with _named(self._plugin, "size of a store"):
            return _position(self._store.size)

    @property
    def used(self) -> Position:
        with _named(self._plugin, "used of a store"):
            used = _position(self._store.used)
        if not self.taken:
            return used
        return {**used, **{record.stream: record.offset for record in reversed(self.taken)}}

    def take(self, reader: StoreReader, record: Record) -> None:
        """Uses ``record`` up in the store, and not yet for users."""
        reader.used(record)
        self.taken.append(record)

    def use_up(self, reader: StoreReader, record: Record) -> None:
        if self.taken:
            behind = (_behind(one, record) for one in self.taken)
            self.taken = deque(one for one in behind if one is not None)
            if record.end <= self._store.used.get(record.stream, 0):
                return  # to the store that is no news
        reader.used(record)

    def close(self, outcome: Outcome | None) -> None:
        self.closed = True
        self._notifier.notify()
        with _named(self._plugin, "close() of a store"):
            self._store.close(outcome)

    def try_close(self, outcome: Outcome | None) -> None:
        try:
            self.close(outcome)
        except PluginError as exc:
            self.failed(exc)

    async def try_aclose(self) -> None:
        """It has `_FREE` seconds for it."""
        freeing = Errand(self.aclose)
        if not await outlast(freeing.over, _FREE):
            self.give_up("had not been freed", _FREE)
            await freeing.end(GRACE, self.late("aclose() of a store"))
        elif freeing.error is not None:
            self.failed(PluginError.of(self._plugin, "aclose() of a store", freeing.error))

    async def aclose(self) -> None:
        """As the plugin has it: what it does wrong, `try_aclose` sees to."""
        await self._store.aclose()

    def late(self, method: str) -> Callable[[], None]:
        exc = TimeoutError(f"it went on for {GRACE:g} s after a cancel")
        return lambda: self.failed(PluginError.of(self._plugin, method, exc))

    # -- its tasks

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        if not self._stores.start_soon(self._run, scope, function, args):
            self._scopes.discard(scope)

    async def _run(
        self, scope: anyio.CancelScope, function: Callable[..., Awaitable[Any]], args: Any
    ) -> None:
        name = getattr(function, "__qualname__", type(function).__qualname__)
        task = Errand(partial(function, *args))
        try:
            with scope:
                await task.attend(self.late(f"the task {name}()"))
            if task.error is not None:
                self.failed(PluginError.of(self._plugin, f"the task {name}()", task.error))
        finally:
            self._scopes.discard(scope)
            self._notifier.notify()

    async def drained(self) -> bool:
        """Waits until its tasks have ended, after it was closed; whether they did in time."""
        if self.outlives:
            return True
        with anyio.move_on_after(_DRAIN):
            while self._scopes or not self.closed:
                await self._notifier.wait()
        return not self._scopes

    def give_up(self, what: str, seconds: float) -> None:
        self.cancel_tasks()
        error = PluginError(
            f"plugin {self._plugin!r}: the store of job {self._job} {what} after {seconds:g} s",
            plugin=self._plugin,
            method="a store",
        )
        self.failed(error)

    def cancel_tasks(self) -> None:
        for scope in self._scopes:
            scope.cancel()


class Reader:
    """`remit.abc.StoreReader`, over a `Store`."""

    def __init__(
        self,
        store: Store,
        reader: StoreReader,
        plugin: str,
        replay: deque[Record],
        *,
        consume: bool,
    ) -> None:
        self.superseded = False
        self._store = store
        self._reader = reader
        self._plugin = plugin
        self._replay = replay
        self._consume = consume
        self._replayed = False  # the record given last was
        self._call: Errand[Record | None] | None = None  # of one that was cancelled as it came

    async def next(self) -> Record | None:
        if self.superseded:
            self._replay.clear()
        self._replayed = bool(self._replay)
        if self._replay:
            await anyio.lowlevel.checkpoint_if_cancelled()
            return self._replay.popleft()
        if self._store.ours:
            return await self._reader.next()  # a task for each record would be half its cost
        call, self._call = self._call or Errand(self._next), None
        try:
            await call.attend(self._store.late("next() of a reader"))
        except BaseException:
            self._call = call if call.came else None  # given by the next one
            raise
        with _named(self._plugin, "next() of a reader", RemitError):
            record = call.result()
            if record is not None and not isinstance(record, Record):
                raise TypeError(f"gave a {type(record).__name__}, not a Record")
        return record

    async def _next(self) -> Record | None:
        return await self._reader.next()

    def take(self, record: Record) -> None:
        """``record``, the one given last, is gathered and may be used up later: see `Store`."""
        if self._store.takes and not self._replayed and not self.superseded:
            with _named(self._plugin, "used() of a reader", RemitError):
                self._store.take(self._reader, record)

    def used(self, record: Record) -> None:
        if self.superseded:
            return
        with _named(self._plugin, "used() of a reader", RemitError):
            self._store.use_up(self._reader, record)

    def close(self) -> None:
        self._replay.clear()
        with _named(self._plugin, "close() of a reader"):
            self._reader.close()


def _position(value: Position) -> Position:
    if not isinstance(value, Mapping):
        raise TypeError(f"gave a {type(value).__name__}, not a mapping")
    return value


def _after(record: Record, at: int) -> Record:
    """The part of it from there on."""
    if record.offset == at:
        return record
    return attrs.evolve(record, data=record.data[at - record.offset :], offset=at)


def _behind(record: Record, used: Record) -> Record | None:
    """What is left of it once ``used`` is used up."""
    if record.stream != used.stream or record.offset >= used.end:
        return record
    return None if record.end <= used.end else _after(record, used.end)


@contextmanager
def _named(plugin: str, method: str, *allowed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except allowed:
        raise
    except BaseException as exc:  # of what it calls, which awaits nothing
        raise PluginError.of(plugin, method, exc) from exc
