"""Turns of a group's children: every state, and what every step makes of it."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

import remit
from remit._jobs.turn import NEXT, At, Turn
from remit._link.notify import Notifier

pytestmark = pytest.mark.anyio

WAYS = {
    At.ANSWERED: [],
    At.WAITING: [At.WAITING],
    At.STARTING: [At.WAITING, At.STARTING],
    At.NEVER: [At.WAITING, At.NEVER],
}


@pytest.fixture
async def turn_at() -> Callable[[At], Turn]:
    def make(at: At) -> Turn:
        turn = Turn(Notifier())
        for step in WAYS[at]:
            if step is At.WAITING:
                turn.wait_for(lambda: turn.move(At.NEVER))
            else:
                turn.move(step)
        assert turn.at is at
        return turn

    return make


@pytest.mark.parametrize("at", At)
@pytest.mark.parametrize("to", At)
async def test_each_step_is_one_of_the_table_or_none(
    turn_at: Callable[[At], Turn], at: At, to: At
) -> None:
    turn = turn_at(at)
    turn.move(to)
    assert turn.at is (to if to in NEXT[at] else at)


@pytest.mark.parametrize("at", At)
async def test_what_each_means_for_who_asks(turn_at: Callable[[At], Turn], at: At) -> None:
    turn = turn_at(at)
    with anyio.move_on_after(0.01) as scope:
        await turn.wait()
    assert scope.cancelled_caught == (at in (At.WAITING, At.STARTING))
    if at is At.STARTING:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(turn.check, "it")
            await anyio.wait_all_tasks_blocked()
            turn.move(At.ANSWERED)
    elif at is At.ANSWERED:
        await turn.check("it")
    else:
        with pytest.raises(remit.JobStateError, match="it: it was not started"):
            await turn.check("it")
    turn = turn_at(at)
    turn.give_up()
    assert turn.at is (At.NEVER if at is At.WAITING else at)
