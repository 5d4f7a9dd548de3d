"""How a group stands: every set of states that its children may have."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from remit._jobs.group_state import folded
from remit._types import JobState

S = JobState
ALL = [
    set(chosen)
    for chosen in chain.from_iterable(combinations(S, size) for size in range(1, len(S) + 1))
]
OVER = {S.COMPLETED, S.FAILED, S.STOPPED, S.LOST, S.DISCONNECTED}


def test_a_blocked_child_shows_at_once() -> None:
    assert all(folded(states) is S.BLOCKED for states in ALL if S.BLOCKED in states)


def test_while_any_goes_on_the_least_advanced_shows() -> None:
    order = [S.PENDING, S.RUNNING, S.SUSPENDED, S.STOPPING]
    for states in ALL:
        going_on = [state for state in order if state in states]
        if S.BLOCKED not in states and going_on:
            assert folded(states) is going_on[0]


def test_then_the_worst_end_shows() -> None:
    order = [S.DISCONNECTED, S.LOST, S.FAILED, S.STOPPED, S.COMPLETED]
    for states in ALL:
        if states <= OVER:
            assert folded(states) is next(state for state in order if state in states)


def test_a_group_without_children_is_none() -> None:
    with pytest.raises(ValueError, match="a child at least"):
        folded(set())
