"""Results kept on the target, in a job directory there, until they are fetched."""

from __future__ import annotations

from typing import Final

import attrs

import remit
from remit.abc import Channel, Placement, Position, ResultStore, StoreReader


class RemoteDirectory:
    """A job directory, seen through a session: `remit.abc.ResultStore`."""

    outlives_session: Final = True  # nothing is held here

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def append(self, record: remit.Record) -> None:
        raise remit.RemoteProtocolError(f"job {record.job} is kept there, and sent a record")

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        return self._channel.open_reader(position, follow=follow, consume=consume)

    @property
    def size(self) -> Position:
        return self._channel.size

    @property
    def used(self) -> Position:
        return self._channel.used

    def close(self, outcome: remit.Outcome | None) -> None:
        """The directory stays, and so do its readers."""

    async def aclose(self) -> None:
        """Nothing is held here."""


@attrs.frozen
class Keep:
    """The placement ``keep``."""

    api: int = 1
    name: str = "keep"
    spools: bool = True

    def open_store(self, job: remit.JobInfo, channel: Channel) -> ResultStore:
        return RemoteDirectory(channel)


@remit.hookimpl
def remit_placements() -> list[Placement]:
    return [Keep()]
