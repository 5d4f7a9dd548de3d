"""When a fleet stops giving turns."""

from __future__ import annotations

import math

import anyio
import pytest
from anyio.lowlevel import checkpoint

from remit._session.backoff import Backoff
from remit._session.halting import Halt, Turns


@pytest.mark.parametrize(
    ("text", "targets", "halt"),
    [
        ("never", 5, Halt()),
        ("soon", 5, Halt(1)),
        ("now", 5, Halt(1, now=True)),
        ("soon,fail=3", 5, Halt(3)),
        ("now,fail=10%", 64, Halt(7, now=True)),
        ("soon,fail=1%", 5, Halt(1)),
        ("soon,fail=100%", 5, Halt(5)),
    ],
)
def test_what_it_takes(text: str, targets: int, halt: Halt) -> None:
    assert Halt.parse(text, targets) == halt


@pytest.mark.parametrize(
    "text",
    [
        *("", "later", "soon,", "soon,fail", "soon,fail=0", "now,fail=0%", "now,fail=101%"),
        *("never,fail=1", "soon,fail=-1", "soon,fail=1.5", " soon", "soon\n"),
    ],
)
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="halt must be 'never', 'soon' or 'now'"):
        Halt.parse(text, 5)
    with pytest.raises(TypeError, match="a str, not int"):
        Halt.parse(1, 5)


@pytest.mark.anyio
async def test_no_more_than_the_throttle_have_their_turn() -> None:
    turns, running, most = Turns(3, Halt(), 20), 0, 0

    async def one(who: object) -> None:
        nonlocal running, most
        assert await turns.begin(who, lambda: None)
        running += 1
        most = max(most, running)
        await checkpoint()
        running -= 1
        turns.end(who)

    async with anyio.create_task_group() as tasks:
        for _ in range(20):
            tasks.start_soon(one, object())
    assert most == 3


@pytest.mark.anyio
@pytest.mark.parametrize("now", [False, True])
async def test_a_halt_ends_the_waiting_and_perhaps_the_running(now: bool) -> None:
    turns = Turns(1, Halt(2, now=now), 5)
    first, told, stopped = object(), list[bool](), list[bool]()
    assert await turns.begin(first, lambda: stopped.append(True))

    async def wait() -> None:
        told.append(await turns.begin(object(), lambda: None))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(wait)
        await anyio.wait_all_tasks_blocked()
        turns.failed()
        await anyio.wait_all_tasks_blocked()
        assert told == []
        turns.failed()
    assert told == [False] * 3
    assert stopped == [True] * now
    turns.end(first)
    assert not await turns.begin(object(), lambda: None)
    assert turns.halted == "not started: 2 of 5 had failed"


@pytest.mark.anyio
async def test_a_cancel_while_waiting_takes_no_turn() -> None:
    turns, first = Turns(1, Halt(failures=math.inf), 2), object()
    assert await turns.begin(first, lambda: None)
    with anyio.move_on_after(0):
        await turns.begin(object(), lambda: None)
    turns.end(first)
    assert await turns.begin(object(), lambda: None)


def test_a_first_link_is_tried_for_again_as_often_as_was_said_and_a_lost_one_as_long() -> None:
    backoff = Backoff(10.0, retries=2)
    assert not backoff.is_over(0.0)
    pauses = [backoff.pause(0.0), backoff.pause(0.0)]
    assert 0.5 <= pauses[0] <= 0.6
    assert 1.0 <= pauses[1] <= 1.2
    assert backoff.is_over(0.0)
    backoff.lost(5.0)
    assert not backoff.is_over(14.9)
    assert backoff.is_over(15.0)
    assert Backoff(10.0).is_over(0.0)
