"""The phases of a return job: their table, and a walk through all that can happen to a real one.

The job, its output and its record are the agent's own; the loop, the link, the processes and the
helpers are replaced by ones whose every step the walk decides.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from remit._agent.base.channel import Channel
from remit._agent.returned import jobs, phases
from remit._agent.returned.program import Root, close_all
from remit._agent.returned.record import Wanted
from remit._agent.returned.requests import stop, watch
from remit._agent.returned.return_job import ReturnJob
from remit._wire import states
from remit._wire.refusal import Refused
from remit._wire.requests import parse

PHASES = list(phases.NEXT)
EVENTS = sorted({event for row in phases.NEXT.values() for event in row})
# Why there is no such move: what has not begun has no end, what has is not begun again, and so on.
IMPOSSIBLE = {
    phases.STARTING: {phases.STOP_DONE, phases.GIVEN_UP, phases.ENDED, phases.WAITED, phases.IDLE},
    phases.RUNS: {phases.BEGUN, phases.FAILED, phases.WAITED, phases.IDLE},
    phases.STRUCK: {phases.BEGUN, phases.FAILED, phases.WAITED, phases.IDLE},
    phases.DRAINS: {phases.BEGUN, phases.FAILED, phases.GIVEN_UP, phases.ENDED},
    phases.FLUSHES: {phases.BEGUN, phases.FAILED, phases.GIVEN_UP, phases.ENDED, phases.WAITED},
    phases.CLEARED: {phases.BEGUN, phases.FAILED, phases.GIVEN_UP, phases.WAITED},
    phases.SWEEPS: {phases.BEGUN, phases.FAILED, phases.GIVEN_UP, phases.ENDED, phases.WAITED},
    phases.OVER: {phases.BEGUN, phases.FAILED, phases.GIVEN_UP, phases.WAITED, phases.IDLE}
    | {phases.STOP_DONE},
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
    """Loop, link, session, children and orphans, for one job."""

    local = False
    ending = False

    def __init__(self) -> None:
        self.loop = self.conversation = self.session = self.children = self.orphans = self
        self.link = self.news = self
        self.handlers: dict[int, Any] = {}
        self.on_session_end: list[Any] = []
        self.returned = jobs.ReturnJobs(self)  # type: ignore[arg-type]
        self.timers: list[Any] = []
        self.watched: dict[int, Callable[[], object]] = {}
        self.helpers: deque[Callable[..., object]] = deque()
        self.answers: dict[int, str] = {}  # the last of each channel
        self.money = 0
        self.lifetimes = self
        self.running: set[str] = set()
        self.terminals: set[str] = set()
        self.has_any = False

    # the loop
    def call_later(self, seconds: float, callback: Callable[[], object]) -> Any:
        timer = Timer(seconds, callback)
        self.timers.append(timer)
        return timer

    def watch_fd(self, fd: int, callback: Callable[[], object]) -> None:
        self.watched[fd] = callback

    def unwatch_fd(self, fd: int) -> None:
        self.watched.pop(fd, None)

    def turn(self) -> None:
        poll = select.poll()
        for fd in self.watched:
            poll.register(fd, select.POLLIN)
        for fd, _ in poll.poll(0):
            if fd in self.watched:
                self.watched[fd]()

    def fire(self, seconds: float) -> None:
        for timer in [timer for timer in self.timers if timer.callback]:
            if timer.seconds == seconds:
                timer.callback, callback = None, timer.callback
                callback()

    # the link
    def accept(self, number: int, value: object) -> None:
        assert number not in self.answers
        self.answers[number] = "accepted"

    def reply(self, number: int, value: object) -> None:
        assert number not in self.answers
        self.answers[number] = "over"

    def fail(self, number: int, exc: Exception) -> None:
        self.reply(number, exc)

    def event(self, *number_and_name: Any, **args: object) -> None:
        assert self.answers[number_and_name[0]] == "accepted"

    def end(self, number: int, value: object) -> None:
        assert self.answers[number] == "accepted"
        self.answers[number] = "over"
        self.handlers.pop(number, None)

    def accepted(self, number: int) -> bool:
        return self.answers.get(number) == "accepted"

    def credit(self, number: int) -> int:
        return self.money

    def data(self, number: int, piece: Any) -> None:
        self.money -= len(piece.data)
        assert self.money >= 0

    def has_room(self) -> bool:
        return True

    # the session
    def only(self, kind: object) -> jobs.ReturnJobs:
        return self.returned

    def take(self, steps: object, done: Callable[..., object]) -> None:
        self.helpers.append(done)

    def job(self, job_id: str, alive: bool, left: bool = False) -> None: ...

    def reap(self) -> None: ...

    def search(self, *args: object) -> None: ...

    def may_be_of(self, job_id: str) -> bool:
        return True


def new_world() -> Any:
    return World()


class Timer:
    def __init__(self, seconds: float, callback: Callable[[], object]) -> None:
        self.seconds = seconds
        self.callback: Any = callback

    def cancel(self) -> None:
        self.callback = None


class Process(Root):
    """A first process that begins and ends when it is told to."""

    def __init__(self, world: Any) -> None:
        super().__init__(world, "j")
        self.lives = True
        self.is_watched = False
        self.pipes: list[int] = []

    def start(self, fds: list[int], job: Any) -> bool:
        self.pipes = [os.dup(fd) for fd in fds[1:]]
        close_all(fds)
        return False

    def watch(self, job: Any) -> None:
        self.is_watched = True


class Walk:
    """One job, and all that may happen to it next."""

    def __init__(self) -> None:
        self.world = new_world()
        self.process = Process(self.world)
        args = {"id": "jaaaaaaaaaaaa", "command": {"argv": [b"x"]}, "timeout": 60.0}
        sort = {"spool": False, "placement": "return", "lifetime": "session"}
        wanted = Wanted(parse("start", {**args, **sort}))
        self.job = ReturnJob(Channel(self.world, 1), wanted, self.process)
        self.job.begin()
        self.world.returned.add(self.job)
        self.asked = 1
        watch(self.job, self.channel(), {})
        self.printed = self.failed = False
        self.stops: list[int] = []

    @property
    def key(self) -> object:
        return (
            *(self.job.phase, self.job.record.state, self.process.lives, len(self.process.pipes)),
            *(min(2, len(self.world.helpers)), len(self.stops), 1 in self.world.handlers),
            *(self.world.ending, self.printed, bool(self.job._ending.left)),
            self.job._ending.reason == "timeout",
        )

    def moves(self) -> dict[str, Callable[[], object]]:
        """What may happen now; more than two of what may come again and again show nothing new."""
        world, job = self.world, self.job
        found: dict[str, Callable[[], object]] = {"turn": world.turn}
        if job.phase == phases.STARTING:
            found["begun"] = job.begun
            found["failed"] = lambda: self.ended(lambda: job.never_ran("no such program"))
        elif self.process.lives:
            found["ended"] = lambda: self.ended(lambda: job.ended(signal.SIGKILL))
            found["lost"] = lambda: self.ended(lambda: job.ended(None))
        if self.process.pipes:
            found["closed"] = lambda: close_all(self.process.pipes)
            if not self.printed:
                found["printed"] = self.prints
        if not self.stops:
            found["stop"] = self.stop
        if world.helpers:
            found["helped"] = lambda: self.helped([])
            found["survived"] = lambda: self.helped(["pid 7 (x)"])
            if not self.failed:
                found["in vain"] = lambda: self.helped(None, Refused("internal", "killed"))
        if 1 in world.handlers:
            handler = world.handlers[1]
            if not world.money:
                found["credit"] = lambda: self.credit(handler)
            found["close"] = lambda: (world.handlers.pop(1), handler.on_close())
        for name, seconds in ("waited", 2.0), ("timed out", 60.0), ("held up", 1.0):
            if any(timer.callback and timer.seconds == seconds for timer in world.timers):
                found[name] = lambda seconds=seconds: world.fire(seconds)  # type: ignore[misc]
        if not world.ending:
            found["session over"] = self.session_over
        return found

    def channel(self) -> Channel:
        self.asked += 1
        return Channel(self.world, self.asked)

    def stop(self) -> None:
        channel = self.channel()
        self.stops.append(channel.number)
        stop(self.job, channel, {"grace": 5.0})

    def prints(self) -> None:
        self.printed = True
        with suppress(BrokenPipeError):  # nobody wants it any more
            os.write(self.process.pipes[0], b"x")

    def ended(self, tell: Callable[[], object]) -> None:
        self.process.lives = False
        tell()

    def helped(self, value: object, error: Refused | None = None) -> None:
        self.failed = self.failed or error is not None
        self.world.helpers.popleft()(value, error)

    def credit(self, handler: Any) -> None:
        self.world.money += 1
        handler.on_credit()

    def session_over(self) -> None:
        self.world.ending = True
        self.world.on_session_end[0](lambda *_: None)

    def check(self) -> None:
        """What holds at any time."""
        job = self.job
        assert (job.phase == phases.STARTING) == (job.record.state == states.PENDING)
        assert (job.phase == phases.OVER) == (job.record.state in states.FINISHED)
        assert job.phase in (phases.STARTING, phases.OVER) or self.process.is_watched

    def drop(self) -> None:
        close_all(self.process.pipes)
        self.job.output.drop()

    def bring_to_an_end(self) -> None:
        """However it got here, it comes to its end, and leaves nothing."""
        close_all(self.process.pipes)
        for _ in range(20):
            if self.job.phase == phases.OVER:
                break
            self.world.money = 100
            if self.job.phase == phases.STARTING:
                self.job.never_ran("no such program")
            elif self.process.lives:
                self.ended(lambda: self.job.ended(0))
            while self.world.helpers:
                self.helped([])
            if 1 in self.world.handlers:
                self.world.handlers[1].on_credit()
            self.world.turn()
        assert self.job.phase == phases.OVER
        assert not [timer for timer in self.world.timers if timer.callback and timer.seconds > 0.1]
        assert not self.world.watched
        assert not self.job.output.is_open
        while self.world.helpers:
            self.helped([])
        assert {self.world.answers[channel] for channel in (1, *self.stops)} == {"over"}


def test_the_table_is_what_happens_and_all_that_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[str, str]] = set()
    move = phases.move

    def noted(phase: str, event: str) -> str:
        after = move(phase, event)
        seen.add((phase, event))
        return after

    monkeypatch.setattr(phases, "move", noted)
    known: set[object] = set()
    todo: deque[tuple[str, ...]] = deque([()])
    while todo:
        path = todo.popleft()
        walk = Walk()
        for name in path:
            walk.moves()[name]()
        walk.check()
        if walk.key in known:
            walk.drop()
        else:
            known.add(walk.key)
            todo.extend((*path, name) for name in walk.moves())
            walk.bring_to_an_end()
    assert seen == {(phase, event) for phase, row in phases.NEXT.items() for event in row}
    assert len(known) > 500


def test_a_job_that_is_over_is_in_no_circle() -> None:
    """What holds itself waits for Python's collector, and thousands of jobs come before that."""
    gc.disable()
    try:
        walk = Walk()
        walk.job.begun()
        walk.stop()
        walk.bring_to_an_end()
        world, dead = walk.world, weakref.ref(walk.job)
        world.returned.forget(walk.job)
        del walk
        assert dead() is None
    finally:
        gc.enable()
