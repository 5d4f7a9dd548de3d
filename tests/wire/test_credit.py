"""Credit: never more is sent than was granted, and nobody waits for good."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from remit._wire.credit import LEAST_CHARGE, Credit, Overdrawn, Window, charge

sizes = st.integers(1, 3000)


class Flow(RuleBasedStateMachine):
    """A sender, what is on its way, and a receiver that consumes it and grants again."""

    def __init__(self) -> None:
        super().__init__()
        self.sender, self.peer = Credit(LEAST_CHARGE), Credit(LEAST_CHARGE)
        self.size = 4096
        self.window = Window(self.size)
        self.sender.grant(self.size)
        self.peer.grant(self.size)
        self.granted = self.size  # in all
        self.sent = self.cost = self.owed = 0
        self.under_way: list[int] = []
        self.grants: list[int] = []  # under way back

    @precondition(lambda self: self.sender.left)
    @rule(size=sizes)
    def send(self, size: int) -> None:
        size = min(size, self.sender.left)
        self.sender.spend(size)
        self.sent += size
        self.cost += charge(size)
        self.under_way.append(size)

    @rule(size=sizes)
    def sends_too_much(self, size: int) -> None:
        left = self.sender.left
        with pytest.raises(Overdrawn):
            self.sender.spend(left + size)
        assert self.sender.left == left

    @precondition(lambda self: self.under_way)
    @rule()
    def consume(self) -> None:
        size = self.under_way.pop(0)
        self.peer.spend(size)  # whoever checks it counts alike
        self.window.consumed(charge(size))
        self.owed += charge(size)
        due = self.window.due()
        assert due in (0, self.owed)
        if due:
            self.owed = 0
            self.peer.grant(due)
            self.grants.append(due)

    @precondition(lambda self: self.grants)
    @rule()
    def granted_again(self) -> None:
        due = self.grants.pop(0)
        self.granted += due
        self.sender.grant(due)

    @invariant()
    def no_more_is_sent_than_was_granted(self) -> None:
        # The last piece may cost more than there was; its bytes never are.
        assert self.cost < self.granted + LEAST_CHARGE
        assert sum(self.under_way) <= self.size

    @invariant()
    def whoever_waits_is_woken(self) -> None:
        """With nothing under way, in either direction, there is credit."""
        if not self.under_way and not self.grants:
            assert self.sender.left
            assert self.owed < self.size // 4


TestFlow = Flow.TestCase


@given(st.integers(1, 1 << 20), st.lists(st.integers(1, 1 << 16)))
def test_all_that_is_consumed_is_granted_but_for_less_than_a_portion(
    size: int, costs: list[int]
) -> None:
    window, granted = Window(size), 0
    for cost in costs:
        window.consumed(cost)
        granted += window.due()
        assert not window.due()
    assert 0 <= sum(costs) - granted < max(1, size // 4)


@pytest.mark.parametrize("more", [1 << 62, (1 << 64) - 1])
def test_a_peer_that_has_lost_count(more: int) -> None:
    credit = Credit()
    credit.grant(1)
    with pytest.raises(Overdrawn):
        credit.grant(more)
    assert credit.left == 1
