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
        """Raises RemoteProtocolError: what is kept there is read, not sent."""
        raise remit.RemoteProtocolError(
            f"job {record.job} is kept on the target, and sent a record all the same"
        )

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        """Reads the directory, over the session that there is at that time."""
        return self._channel.open_reader(position, follow=follow, consume=consume)

    @property
    def size(self) -> Position:
        """Bytes in the directory, by the last news."""
        return self._channel.size

    @property
    def used(self) -> Position:
        """What its marks say is consumed, by the last news."""
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
        """The job's directory on the target."""
        return RemoteDirectory(channel)


@remit.hookimpl
def remit_placements() -> list[Placement]:
    """The placement that comes with this plugin: the hook of that name."""
    return [Keep()]
