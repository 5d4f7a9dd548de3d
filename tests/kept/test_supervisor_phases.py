"""The phases of a supervisor: their table, and a walk through all that can happen to a real one.

The supervisor is the agent's own; processes, files and the clock are replaced by ones whose every
step the walk decides.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator
from typing import Any

import pytest

from remit._agent.base import process_tree
from remit._agent.kept import ending, phases, requests, stopping, supervisor
from remit._jobdir import files

PHASES = list(phases.NEXT)
EVENTS = sorted({event for row in phases.NEXT.values() for event in row})
BEGIN = {phases.STARTED, phases.FAILED}
# Why there is no such move: a start is over once, a process ends once, a session is over once.
IMPOSSIBLE = {
    phases.STARTS: set(EVENTS) - BEGIN,
    phases.RUNS: BEGIN | {phases.DRAINED, phases.RECORDED, phases.ALONE},
    phases.DRAINS: BEGIN | {phases.ENDED, phases.RECORDED, phases.ALONE},
    phases.RECORDS: BEGIN | {phases.ENDED, phases.DRAINED, phases.ALONE},
    phases.LINGERS: BEGIN | {phases.ENDED, phases.DRAINED, phases.RECORDED},
    phases.CLOSES: BEGIN | {phases.ENDED, phases.DRAINED, phases.ALONE, phases.SESSION_OVER},
    phases.LEAVES: BEGIN | {phases.ENDED, phases.DRAINED, phases.RECORDED, phases.SESSION_OVER},
    phases.OVER: set(EVENTS),
}


@pytest.mark.parametrize("phase", PHASES)
def test_each_event_moves_or_is_named_as_impossible(phase: str) -> None:
    assert set(phases.NEXT[phase]) | IMPOSSIBLE[phase] == set(EVENTS)
    for event in EVENTS:
        if event in IMPOSSIBLE[phase]:
            with pytest.raises(ValueError, match=f"that {phase} has no move by: {event}"):
                phases.move(phase, event)
        else:
            assert phases.move(phase, event) in phases.NEXT


class World:
    """Processes, files and a clock, as the supervisor's modules ask for them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.waited: deque[tuple[int, int, Any]] = deque()
        self.is_gone = False
        self.survivors: list[str] = []
        self.left: list[str] = []
        self.full = False
        self.steps = 0
        self.outcomes: list[dict[str, Any]] = []
        for module in (supervisor, ending, stopping, requests):
            monkeypatch.setattr(module, "time", self)
        monkeypatch.setattr(ending, "wait", self.wait)
        monkeypatch.setattr(process_tree, "ending", self.ending)
        monkeypatch.setattr(files, "write_outcome", self.write_outcome)

    def reset(self) -> None:
        self.now, self.left, self.survivors = 0.0, [], []
        self.full = False
        self.waited.clear()
        self.outcomes.clear()

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now

    def wait(self) -> tuple[int, int, Any]:
        return self.waited.popleft() if self.waited else (0, 0, None)

    def ending(self, find: object, grace: float) -> Generator[float, None, list[str]]:
        yield 0.1
        return self.survivors

    def write_outcome(self, dir_fd: int, outcome: dict[str, Any]) -> None:
        if self.full:
            raise OSError(28, "full")
        self.outcomes.append(outcome)


class Processes:
    """In place of `remit._agent.kept.processes`."""

    adopts = True
    pid = 7

    def __init__(self, world: World) -> None:
        self.world = world

    def reaped(self) -> None: ...

    def roots(self) -> list[tuple[int, int]]:
        return [(7, 1)]

    def search(self) -> None: ...

    def left(self) -> list[str]:
        return self.world.left

    def are_gone(self) -> bool:
        return not self.world.left


class Inbox:
    look_again = False

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, dict[str, Any]]] = []
        self.answered: list[bytes] = []

    def read(self, known: set[bytes]) -> Any:
        found, self.waiting = self.waiting, []
        return found, False

    def answer(self, name: bytes, value: object) -> None:
        self.answered.append(name)


def new_supervisor() -> Any:
    return supervisor.Supervisor()


class Walk:
    """One supervisor, and all that may happen to it next."""

    def __init__(self, world: World, clean: bool) -> None:
        world.reset()
        self.world = world
        self.owner = new_supervisor()
        self.owner._work = supervisor.Work(b"j", 60.0, None, None, False, False, clean)
        self.inbox = Inbox()
        self.owner._processes = self.owner._requests._processes = Processes(world)
        self.owner._requests._inbox = self.inbox
        self.asked: list[bytes] = []
        self.lives = False
        self.session_is_over = self.had_no_space = False
        reader, self.pipe = os.pipe()
        os.set_blocking(reader, False)
        self.reader = reader
        source = type("Source", (), {"name": b"stdout", "inode": 1, "size": 0})()
        self.owner._spool.sources = {reader: source}
        # Where output is dropped it needs no files.
        self.owner._spool.close()

    @property
    def key(self) -> object:
        owner = self.owner
        return (
            *(owner.phase, self.lives, self.pipe < 0, owner._stopping.is_under_way),
            *(bool(self.world.left), bool(owner._stopping.survivors), len(self.asked)),
            *(self.session_is_over, self.world.full, owner._stopping._steps is None),
        )

    def moves(self) -> dict[str, Callable[[], object]]:
        owner, world = self.owner, self.world
        if owner.phase == phases.STARTS:
            return {
                "started": self.started,
                "failed": lambda: owner._never_ran(OSError(2, "no such program")),
            }
        found: dict[str, Callable[[], object]] = {"wait": lambda: self.turn(3.0)}
        if self.lives:
            found["ended"] = self.ended
            if world.now < 60.0:
                found["time out"] = lambda: self.turn(61.0)
        if self.pipe >= 0 and owner._spool.sources:
            found["closed"] = self.closed
        if not self.asked:
            found["stop"] = self.stop
        if not self.session_is_over:
            found["session over"] = self.over
        if not self.had_no_space and not (self.asked or self.session_is_over):
            found["no space"] = self.no_space
        if not world.full and owner.phase in (phases.RUNS, phases.DRAINS):
            found["full"] = lambda: setattr(world, "full", True)
        elif world.full and phases.RECORDED in phases.NEXT[owner.phase]:
            found["room"] = lambda: setattr(world, "full", False)
        if not world.left and owner.phase in (phases.RUNS, phases.DRAINS):
            found["leaves"] = lambda: world.left.append("pid 9 (x)")
        if world.left and owner.phase in (phases.LINGERS, phases.LEAVES, phases.DRAINS):
            found["last one ends"] = world.left.clear
        if owner._stopping.is_under_way and not world.survivors and not self.session_is_over:
            found["survives"] = lambda: world.survivors.append("pid 9 (x)")
        return found

    def turn(self, seconds: float = 0.0) -> None:
        """As `barrier.Turns` takes them, with nothing to hide what goes wrong."""
        self.world.now += seconds
        owner = self.owner
        owner._requests.look_again()
        owner._reap()
        owner._look_at_the_clock()
        owner._go_on_stopping()
        owner._go_on()

    def started(self) -> None:
        self.lives = True
        self.owner._go(phases.STARTED)
        self.owner._limits.begin(60.0)

    def ended(self) -> None:
        self.lives = False
        self.world.waited.append((7, 9, None))
        self.turn()

    def closed(self) -> None:
        os.close(self.pipe)
        self.pipe = -1
        self.owner._take(self.reader)
        self.turn()

    def stop(self) -> None:
        self.asked.append(b"stop-%d" % len(self.asked))
        self.inbox.waiting.append((self.asked[-1], {"grace": 1.0}))
        self.owner._requests.read(0)

    def over(self) -> None:
        self.session_is_over = True
        self.owner._session_is_over(999)

    def no_space(self) -> None:
        self.had_no_space = True
        self.owner._take_no_more("full", "no-space")

    def bring_to_an_end(self) -> None:
        """However it got here, it comes to its end, and says so to all who asked."""
        owner, world = self.owner, self.world
        if owner.phase == phases.STARTS:
            self.started()
        if self.lives:
            self.ended()
        world.left, world.survivors, world.full = [], [], False
        for _ in range(20):
            if owner.phase == phases.OVER:
                break
            self.turn(6.0)
        assert owner.phase == phases.OVER
        assert len(world.outcomes) == 1
        assert self.inbox.answered == self.asked
        self.drop()

    def drop(self) -> None:
        for fd in (self.pipe, *self.owner._spool.sources):
            if fd >= 0:
                os.close(fd)


def test_the_table_is_what_happens_and_all_that_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, str]] = set()
    move = phases.move

    def noted(phase: str, event: str) -> str:
        after = move(phase, event)
        seen.add((phase, event))
        return after

    monkeypatch.setattr(phases, "move", noted)
    world = World(monkeypatch)
    for clean in (False, True):
        known: set[object] = set()
        todo: deque[tuple[str, ...]] = deque([()])
        while todo:
            path = todo.popleft()
            walk = Walk(world, clean)
            for name in path:
                walk.moves()[name]()
            if walk.key in known or walk.owner.phase == phases.OVER:
                walk.drop()
            else:
                known.add(walk.key)
                todo.extend((*path, name) for name in walk.moves())
                walk.bring_to_an_end()
        assert len(known) > 100
    assert seen == {(phase, event) for phase, row in phases.NEXT.items() for event in row}
