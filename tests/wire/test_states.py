"""The tables of states: whatever is told, and in whatever order, a job moves as they say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._session import states as session_states
from remit._types import JobState, SessionState
from remit._wire import states
from remit._wire.states import observed
from testbed.moves import Moves

names = st.sampled_from(sorted(states.NEXT))


def test_the_tables_have_all_states() -> None:
    assert list(map(str, JobState)) == [state for state in JobState if state in states.NEXT]
    assert set(states.NEXT) == set(map(str, JobState))
    assert set(session_states.NEXT) == set(SessionState)


def test_what_is_finished_stays_so_and_all_else_ends() -> None:
    for state, events in states.NEXT.items():
        ends = set(events.values()) & states.FINISHED
        assert ends == (set() if state in states.FINISHED else states.FINISHED), state
        assert (not events) == (state in states.FINISHED)
    for session, moves in session_states.NEXT.items():
        assert session_states.finished(session) == (not moves)


@pytest.mark.parametrize("old", sorted(states.NEXT))
def test_each_event_moves_as_the_table_says_and_no_other_does(old: str) -> None:
    events = {event for each in states.NEXT.values() for event in each}
    for event in events & set(states.NEXT[old]):
        assert states.move(old, event) == observed(old, states.NEXT[old][event])
    for event in events - set(states.NEXT[old]):
        with pytest.raises(ValueError, match=f"a job that is {old} cannot be: {event}"):
            states.move(old, event)


@pytest.mark.parametrize("state", list(SessionState))
def test_a_session_moves_as_its_table_says_and_no_other_way(
    state: SessionState, moves: Moves
) -> None:
    events = {event for each in session_states.NEXT.values() for event in each}
    for event in events - set(session_states.NEXT[state]):
        with pytest.raises(ValueError, match=f"a session that is {state} cannot be: {event}"):
            session_states.move(state, event)
    moves.made.clear()


# Whatever a kept job is when its link is lost, and whatever it has become meanwhile: BLOCKED are
# return jobs alone, which are over with their link.
@pytest.mark.parametrize("old", sorted({*states.NEXT} - states.FINISHED))
@pytest.mark.parametrize("now", sorted({*states.NEXT} - {states.BLOCKED}))
def test_what_is_found_over_a_new_link_is_taken(old: str, now: str) -> None:
    lost = observed(old, states.DISCONNECTED)
    assert lost == states.DISCONNECTED
    assert observed(lost, now) == now


@given(st.lists(names))
def test_news_in_any_order_move_a_job_as_the_table_says(news: list[str]) -> None:
    state = states.PENDING
    for told in news:
        after = observed(state, told)
        assert after in (state, *states.NEXT[state].values())
        assert state not in states.FINISHED or after == state
        state = after
