"""Results returned to the caller as they are produced, and held in this process."""

from __future__ import annotations

import attrs

import remit
from remit.abc import Channel, Placement, ResultStore
from remit_return._store import MemoryStore


@attrs.frozen
class Return:
    """The placement ``return``."""

    api: int = 1
    name: str = "return"
    spools: bool = False

    def open_store(self, job: remit.JobInfo, channel: Channel) -> ResultStore:
        """An empty store in memory."""
        return MemoryStore(channel)


@remit.hookimpl
def remit_placements() -> list[Placement]:
    """The placement that comes with this plugin: the hook of that name."""
    return [Return()]
