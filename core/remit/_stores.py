"""Stores of plugins, each call guarded: what they raise is one job's trouble, and bears a name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from remit._errors import PluginError, RemitError
from remit._words import JobInfo, Outcome, Record
from remit.abc import Channel, Placement, Position, ResultStore, StoreReader


def open_store(placement: Placement, plugin: str, job: JobInfo, channel: Channel) -> ResultStore:
    """The store of ``job``. It raises PluginError where ``plugin`` raises, here and in each of its
    methods. Errors of remit's own are what those may raise that read, and left as they are there;
    elsewhere that of a lying target would cost the session."""
    with _named(plugin, "open_store()"):
        return _Store(placement.open_store(job, channel), plugin)


class _Store:
    """`remit.abc.ResultStore`."""

    def __init__(self, store: ResultStore, plugin: str) -> None:
        self._store = store
        self._plugin = plugin

    def append(self, record: Record) -> None:
        try:  # for each record: a context manager would tell
            self._store.append(record)
        except Exception as exc:
            raise PluginError.of(self._plugin, "append() of a store", exc) from exc

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        with _named(self._plugin, "read() of a store", RemitError):
            reader = self._store.read(position, follow=follow, consume=consume)
            return _Reader(reader, self._plugin)

    @property
    def size(self) -> Position:
        with _named(self._plugin, "size of a store"):
            return self._store.size

    @property
    def used(self) -> Position:
        with _named(self._plugin, "used of a store"):
            return self._store.used

    def close(self, outcome: Outcome | None) -> None:
        with _named(self._plugin, "close() of a store"):
            self._store.close(outcome)

    async def aclose(self) -> None:
        with _named(self._plugin, "aclose() of a store"):
            await self._store.aclose()


class _Reader:
    """`remit.abc.StoreReader`."""

    def __init__(self, reader: StoreReader, plugin: str) -> None:
        self._reader = reader
        self._plugin = plugin

    async def next(self) -> Record | None:
        try:
            return await self._reader.next()
        except RemitError:
            raise
        except Exception as exc:
            raise PluginError.of(self._plugin, "next() of a reader", exc) from exc

    def used(self, record: Record) -> None:
        with _named(self._plugin, "used() of a reader", RemitError):
            self._reader.used(record)

    def close(self) -> None:
        with _named(self._plugin, "close() of a reader"):
            self._reader.close()


@contextmanager
def _named(plugin: str, method: str, *allowed: type[Exception]) -> Iterator[None]:
    try:
        yield
    except allowed:
        raise
    except Exception as exc:
        raise PluginError.of(plugin, method, exc) from exc
