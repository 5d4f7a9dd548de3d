"""How a job group stands, from how its children do. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from remit._types import JobState

# Of children that are over, or out of sight: the first that there is.
_WORST: Final = (
    JobState.DISCONNECTED,
    JobState.LOST,
    JobState.FAILED,
    JobState.STOPPED,
    JobState.COMPLETED,
)
# Of the others: the least advanced.
_LEAST: Final = (JobState.PENDING, JobState.RUNNING, JobState.SUSPENDED, JobState.STOPPING)


def folded(children: Collection[JobState]) -> JobState:
    """The state of a group with children in these states, of which there is one at least.

    BLOCKED where any is: it waits for a reader. The least advanced of those that go on, where any
    does; else the worst end.
    """
    for state in (JobState.BLOCKED, *_LEAST, *_WORST):
        if state in children:
            return state
    raise ValueError("a group has a child at least")
