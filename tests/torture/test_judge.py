"""The judge sees what he is there to see: each case is a play that went wrong in one way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import remit
from torture.journal import Journal, Reel
from torture.judge import Judgement, judge, may_run_on
from torture.order import Order, journal_path, reel_path
from torture.script import Cancel, Plan, Script
from torture.shrink import shrunk

PLAN = Plan(
    number=0,
    id="jaaaaaaaaaaaa",
    at=0.0,
    placement="keep",
    lifetime="detached",
    reading="consume",
    leaves=(),
    slow=0.0,
    seed=5,
    lines=100,
    pace=0.0,
    status=3,
    ending="",
    daemons=(),
)
SIZE = len(PLAN.output["stdout"])
TRUE: dict[str, Any] = {
    "state": "FAILED",
    "exit_status": 3,
    "signal": None,
    "reason": "exited",
    "error": "",
    "has_more": False,
    "left_behind": [],
}
LOST: dict[str, Any] = {**TRUE, "state": "LOST", "exit_status": None, "reason": "supervisor-lost"}


class Stand:
    """A play that was never played: what its processes would have written down."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.journal = Journal(journal_path(directory))
        self.plan = PLAN
        self.cancels: tuple[Cancel, ...] = ()
        self._passes = 0

    def say(self, what: str, generation: int = 0, **facts: Any) -> None:
        self.journal.note(what, job=0, generation=generation, **facts)

    def run(self, times: int = 1) -> None:
        (self.directory / "0").write_text("began 1.0 1\n" * times + "ended 2.0 1\n")

    def read(self, kind: str, *spans: tuple[int, int], whole: bool = True) -> None:
        """A pass that gives these parts of stdout, and all of stderr with the last of them."""
        self._passes += 1
        generation = 999 if kind == "collect" else 0
        self.say("reading", generation, kind=kind, number=self._passes)
        reel = Reel(reel_path(self.directory, self.plan, kind, generation, self._passes))
        for begin, end in spans:
            reel.add(_record("stdout", begin, self.plan.output["stdout"][begin:end]))
        if whole:
            reel.add(_record("stderr", 0, self.plan.output["stderr"]))
            self.say("read", generation, kind=kind, number=self._passes)
        reel.close()

    def fault(self, kind: str, job: str | None = None, ago: float = 0.0) -> None:
        at = time.monotonic() - ago
        self.journal.note("fault", kind=kind, begin=at, end=at, victim="", of=job)

    def judge(self) -> Judgement:
        script = Script(1, "local", "asyncio", 2.0, False, (self.plan,), (), self.cancels)
        return judge(Order(script, "local:", "", "", 0.0), self.directory, self.directory)


def _record(stream: remit.Stream, offset: int, data: bytes) -> remit.Record:
    return remit.Record(stream, data, offset, 0, datetime.now(UTC), PLAN.id, "localhost")


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    stand = Stand(tmp_path)
    yield stand
    stand.journal.close()


def ended_well(stand: Stand) -> None:
    stand.run()
    stand.read("collect", (0, SIZE))


def test_a_play_that_went_well(stand: Stand) -> None:
    ended_well(stand)
    stand.read("consume", (0, 500), whole=False)
    stand.read("consume", (0, SIZE))  # what was in hand comes again
    stand.say("collected", **TRUE)
    assert stand.judge() == Judgement([], 0)


@pytest.mark.parametrize(
    ("spans", "words"),
    [
        ([(0, 500), (600, SIZE)], "goes on at stdout 600"),
        ([(0, 500), (400, SIZE)], "goes on at stdout 400"),
        ([(10, SIZE)], "leaves out stdout 0 to 10"),
        ([(0, SIZE - 1)], "came to its end"),
    ],
)
def test_output_that_was_lost_or_doubled(
    stand: Stand, spans: list[tuple[int, int]], words: str
) -> None:
    ended_well(stand)
    stand.read("consume", *spans)
    stand.say("collected", **TRUE)
    assert words in stand.judge().complaints[0]


def test_what_was_used_up_comes_again_after_a_crash_only(stand: Stand) -> None:
    ended_well(stand)
    stand.read("consume", (0, 500), (500, 700), whole=False)
    stand.read("consume", (0, SIZE))
    stand.say("collected", **TRUE)
    assert "gives stdout 0 to 700 again" in stand.judge().complaints[0]
    stand.fault("kill-agent", ago=60.0)  # the marks had long been written
    assert stand.judge().complaints
    stand.fault("kill-agent")
    assert stand.judge() == Judgement([], 700)


def test_a_slow_disk_excuses_late_marks_and_a_jump_of_the_clock_nothing(stand: Stand) -> None:
    ended_well(stand)
    stand.read("consume", (0, 500), (500, 700), whole=False)
    stand.read("consume", (0, SIZE))
    stand.say("collected", **TRUE)
    stand.fault("jump-clock")
    stand.fault("stall-supervisor", PLAN.id)
    assert "gives stdout 0 to 700 again" in stand.judge().complaints[0]
    stand.fault("slow-disk")
    assert stand.judge() == Judgement([], 700)


@pytest.mark.parametrize(
    "lie",
    [
        {"exit_status": 0, "state": "COMPLETED"},
        {"exit_status": 4},
        {"signal": "SIGKILL", "exit_status": None, "reason": "signalled"},
        {"state": "STOPPED", "reason": "session-ended", "exit_status": None},
        {"has_more": True},
        LOST,
    ],
)
def test_an_end_that_is_not_so(stand: Stand, lie: dict[str, Any]) -> None:
    ended_well(stand)
    stand.read("consume", (0, SIZE))
    stand.say("collected", **{**TRUE, **lie})
    assert stand.judge().complaints


def test_lost_is_right_once_the_supervisor_was_killed(stand: Stand) -> None:
    stand.run()
    stand.read("collect", (0, 500))
    stand.say("collected", **LOST)
    stand.fault("stall-supervisor", PLAN.id)
    assert stand.judge().complaints
    stand.fault("kill-supervisor", PLAN.id)
    stand.read("consume", (0, 500))
    assert not stand.judge().complaints


def test_a_job_that_was_run_twice(stand: Stand) -> None:
    ended_well(stand)
    stand.run(times=2)
    stand.read("consume", (0, SIZE))
    stand.say("collected", **TRUE)
    assert stand.judge().complaints == ["job 0 (jaaaaaaaaaaaa): it was run 2 times"]


def test_states_that_contradict_each_other(stand: Stand) -> None:
    ended_well(stand)
    stand.read("consume", (0, SIZE))
    stand.say("waited", **{**TRUE, "state": "DISCONNECTED"})
    stand.say("state", state="FAILED")
    stand.say("state", state="RUNNING")
    stand.say("collected", **TRUE)
    assert len(stand.judge().complaints) == 2


def test_a_return_job_is_lost_with_its_link_only(stand: Stand) -> None:
    stand.plan = msgspec.structs.replace(PLAN, placement="return", lifetime="session")
    stand.run()
    stand.read("consume", (0, 500), whole=False)
    stand.say("waited", **{**LOST, "reason": "link-lost"})
    for harmless in ("jump-clock", "slow-disk"):
        stand.fault(harmless, ago=1.0)
    assert "nothing had happened" in stand.judge().complaints[0]
    stand.fault("cut", ago=1.0)
    assert not stand.judge().complaints


def test_a_start_that_failed_is_none_of_the_callers_doing(stand: Stand) -> None:
    stand.say("error", type="RemitError", text="the job was not run: its supervisor was killed")
    stand.say("not-found", 999)
    assert len(stand.judge().complaints) == 2
    stand.fault("kill-forkserver")
    assert not stand.judge().complaints
    stand.run()
    assert stand.judge().complaints


def test_a_supervisor_that_found_no_process_says_so(stand: Stand) -> None:
    words = "Resource temporarily unavailable"
    stand.read("collect")
    stand.say("state", state="FAILED")
    stand.say(
        "collected", **{**TRUE, "exit_status": None, "reason": "start-failed", "error": words}
    )
    assert len(stand.judge().complaints) > 1
    stand.fault("no-forks", ago=1.0)
    stand.plan = msgspec.structs.replace(PLAN, lines=0)
    assert not stand.judge().complaints
    stand.run()
    assert stand.judge().complaints


@pytest.mark.parametrize("lifetime", ["session", "detached"])
def test_what_a_job_left_behind_is_named(stand: Stand, lifetime: Any) -> None:
    stand.plan = msgspec.structs.replace(PLAN, daemons=("holding",), lifetime=lifetime)
    ended_well(stand)
    stand.read("consume", (0, SIZE))
    stand.say("collected", **TRUE)
    assert len(stand.judge().complaints) == 1
    # Its session ended while its output was still waited for, and took it along.
    stand.journal.note("fault", kind="kill-agent", begin=3.5, end=3.5, victim="", of=None)
    assert bool(stand.judge().complaints) is (lifetime == "detached")


def test_moves_that_are_not_in_the_table(stand: Stand) -> None:
    ended_well(stand)
    stand.say("collected", **TRUE)
    stand.say("move", old=None, new="RUNNING")
    stand.say("move", old="RUNNING", new="DISCONNECTED")
    stand.say("move", old="DISCONNECTED", new="RUNNING")
    assert not stand.judge().complaints
    stand.say("move", old="RUNNING", new="PENDING")
    stand.say("move", old="STOPPING", new="STOPPED")
    stand.say("move", old="RUNNING", new="FAILED", generation=1)
    assert [complaint.split(": ")[1] for complaint in stand.judge().complaints] == [
        "it went from RUNNING to PENDING",
        "it was PENDING, and went from STOPPING to STOPPED",
    ]


def test_what_was_cancelled_runs_no_further(stand: Stand) -> None:
    ended_well(stand)
    stand.say("collected", **TRUE)
    stand.cancels = (Cancel(4, "jbbbbbbbbbbbb", 0.0, "start", True, "keep", 0.1),)
    now = time.monotonic()
    stand.journal.note("cancelled", cancel=4, begin=now, at=now + 0.1)
    heart = stand.directory / "cancelled-4"
    heart.write_text(f"beat {now + 0.2} 7\nbeat {now + 9} 7")
    assert not stand.judge().complaints  # the last line is not whole
    heart.write_text(f"beat {now + 0.2} 7\nbeat {now + 9} 7\n")
    stand.journal.note("still-there", cancel=4, state="RUNNING")
    words = [complaint.split(": ")[1] for complaint in stand.judge().complaints]
    assert words == ["it ran on for 8.9 s", "it is still there, RUNNING"]
    stand.fault("kill-agent")
    assert not stand.judge().complaints


@pytest.mark.parametrize(
    ("change", "end", "left"),
    [
        ({}, TRUE, (2, 2)),
        ({"leftovers": "stop"}, TRUE, (0, 1)),
        ({}, {**LOST, "reason": "link-lost"}, (0, 1)),
        ({"placement": "keep"}, {**LOST, "reason": "session-ended"}, (0, 0)),
        ({"placement": "keep"}, TRUE, (0, 2)),
        ({"placement": "keep", "lifetime": "detached"}, TRUE, (0, 0)),
        ({}, None, (0, 2)),
    ],
)
def test_what_a_job_left_behind_runs_on_unless_it_was_ended(
    change: dict[str, Any], end: dict[str, Any] | None, left: tuple[int, int]
) -> None:
    plan = msgspec.structs.replace(
        PLAN, placement="return", lifetime="session", daemons=("quiet", "bare")
    )
    plan = msgspec.structs.replace(plan, **change)
    notes = [] if end is None else [{"what": "waited", "job": 0, **end}]
    assert may_run_on(plan, notes) == left


def test_shrinking_leaves_what_fails() -> None:
    plans = tuple(msgspec.structs.replace(PLAN, number=number) for number in range(5))
    script = Script(1, "local", "asyncio", 2.0, False, plans, ())

    def fails(script: Script) -> bool:
        return any(plan.number == 3 for plan in script.jobs)

    assert [plan.number for plan in shrunk(script, fails, 60.0).jobs] == [3]
