"""Job groups, and the results of many targets, without ``await``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Self,
    TypeVar,
)

from remit._jobs import group as groups
from remit._jobs import interleaved
from remit._portal import Portal
from remit._session import fleet_map, spread
from remit._session.spread import TargetResult
from remit._types import JobState, Record
from remit.blocking._jobs import Job
from remit.blocking._like import Steps, like

if TYPE_CHECKING:
    from typing_extensions import TypeVar as _TypeVar

    _T = _TypeVar("_T", default=Any)
else:
    _T = TypeVar("_T")


class Interleaved(Steps[Record]):
    __doc__ = interleaved.Interleaved.__doc__

    def __init__(self, portal: Portal, records: interleaved.Interleaved) -> None:
        super().__init__(portal, records)
        self._records = records

    @like(interleaved.Interleaved.aclose)
    def aclose(self) -> None:
        self._fetched.clear()
        self._portal.call(self._records.aclose)

    def __del__(self) -> None:
        if self._portal.is_usable:
            self._portal.soon(self._records.aclose)


class JobGroup(Generic[_T]):
    __doc__ = groups.JobGroup.__doc__

    def __init__(self, portal: Portal, group: groups.JobGroup[_T]) -> None:
        self._portal = portal
        self._group = group

    def __repr__(self) -> str:
        return repr(self._group).replace("remit.JobGroup", "remit.blocking.JobGroup", 1)

    @property
    @like(groups.JobGroup.children)
    def children(self) -> tuple[Job[_T], ...]:
        return tuple(Job(self._portal, child) for child in self._group.children)

    @property
    @like(groups.JobGroup.id)
    def id(self) -> str:
        return self._group.id

    @property
    @like(groups.JobGroup.name)
    def name(self) -> str | None:
        return self._group.name

    @property
    @like(groups.JobGroup.state)
    def state(self) -> JobState:
        return self._group.state

    @property
    @like(groups.JobGroup.location)
    def location(self) -> str:
        return self._group.location

    @property
    @like(groups.JobGroup.command)
    def command(self) -> str | tuple[str, ...]:
        return self._group.command

    @property
    @like(groups.JobGroup.placement)
    def placement(self) -> str:
        return self._group.placement

    @property
    @like(groups.JobGroup.lifetime)
    def lifetime(self) -> str:
        return self._group.lifetime

    @property
    @like(groups.JobGroup.has_more_data)
    def has_more_data(self) -> bool:
        return self._group.has_more_data

    @property
    @like(groups.JobGroup.created)
    def created(self) -> datetime | None:
        return self._group.created

    @property
    @like(groups.JobGroup.started)
    def started(self) -> datetime | None:
        return self._group.started

    @property
    @like(groups.JobGroup.finished)
    def finished(self) -> datetime | None:
        return self._group.finished

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._portal.is_usable:  # else it went with its process, or is another's
            self._portal.call(lambda: self._group.__aexit__(None, None, None))

    @like(groups.JobGroup.wait)
    def wait(self, *, disconnected: bool = False) -> JobState:
        return self._portal.call(lambda: self._group.wait(disconnected=disconnected))

    @like(groups.JobGroup.changes)
    def changes(self) -> Iterator[JobState]:
        return Steps(self._portal, self._group.changes())

    @like(groups.JobGroup.receive)
    def receive(
        self, *, keep: bool = False, wait: bool = True, from_start: bool = False
    ) -> Interleaved:
        async def receive() -> interleaved.Interleaved:
            return self._group.receive(keep=keep, wait=wait, from_start=from_start)

        return Interleaved(self._portal, self._portal.call(receive))

    @like(groups.JobGroup.result)
    def result(self) -> list[_T]:
        return self._portal.call(self._group.result)

    @like(groups.JobGroup.stop)
    def stop(self, grace: float = 5.0) -> list[str]:
        return self._portal.call(lambda: self._group.stop(grace))

    @like(groups.JobGroup.signal)
    def signal(self, signal: str | int) -> None:
        self._portal.call(lambda: self._group.signal(signal))

    @like(groups.JobGroup.remove)
    def remove(self, force: bool = False) -> None:
        self._portal.call(lambda: self._group.remove(force))

    @like(groups.JobGroup.save)
    def save(self, path: str | os.PathLike[str], stream: str = "stdout") -> list[str]:
        return self._portal.call(lambda: self._group.save(path, stream))

    @like(groups.JobGroup.send)
    def send(self, data: bytes) -> None:
        self._portal.call(lambda: self._group.send(data))

    @like(groups.JobGroup.refresh)
    def refresh(self) -> None:
        self._portal.call(self._group.refresh)

    @like(groups.JobGroup.suspend)
    def suspend(self) -> None:
        self._portal.call(self._group.suspend)

    @like(groups.JobGroup.resume)
    def resume(self) -> None:
        self._portal.call(self._group.resume)

    @like(groups.JobGroup.send_eof)
    def send_eof(self) -> None:
        self._portal.call(self._group.send_eof)


class Results(Steps[TargetResult[_T]]):
    __doc__ = spread.Results.__doc__

    def __init__(self, portal: Portal, results: spread.Results[_T]) -> None:
        super().__init__(portal, results)
        self._results = results

    def __repr__(self) -> str:
        return repr(self._results).replace("remit.Results", "remit.blocking.Results", 1)

    @like(spread.Results.all)
    def all(self) -> list[TargetResult[_T]]:
        return self._portal.call(self._results.all)

    @like(spread.Results.aclose)
    def aclose(self) -> None:
        self._fetched.clear()
        self._portal.call(self._results.aclose)

    def __del__(self) -> None:
        if self._portal.is_usable:
            self._portal.soon(self._results.aclose)


class FleetMapped(Steps[_T]):
    __doc__ = fleet_map.FleetMapped.__doc__

    def __init__(self, portal: Portal, values: fleet_map.FleetMapped[_T]) -> None:
        super().__init__(portal, values)
        self._values = values

    @like(fleet_map.FleetMapped.aclose)
    def aclose(self) -> None:
        self._fetched.clear()
        self._portal.call(self._values.aclose)

    def __del__(self) -> None:
        if self._portal.is_usable:
            self._portal.soon(self._values.aclose)
