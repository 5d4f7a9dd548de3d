"""Leases: who counts as a caller, and when the job is stopped."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, wait_until_gone

# Long enough for an agent to come up meanwhile, under the slowest of the interpreters.
LEASE = 3.0


def leased(wire: Wire, seconds: float = LEASE, **args: Any) -> str:
    """The id of a job that would sleep for long; its starter's channel stays open."""
    limits = {"lease": seconds}
    words = job("sleep", "1000", spool=True, lifetime="lease", limits=limits, **args)
    job_id: str = wire.accepted(wire.request("start", **words))["id"]
    return job_id


def outcome_of(state_dir: Path, job_id: str, deadline: float) -> dict[str, Any] | None:
    """What the supervisor wrote down, in so many seconds; None where it wrote nothing."""
    path = state_dir / "jobs" / job_id / "outcome.json"
    until = time.monotonic() + deadline
    while not path.exists():
        if time.monotonic() > until:
            return None
        time.sleep(0.02)
    outcome: dict[str, Any] = json.loads(path.read_text())
    return outcome


def test_it_runs_on_while_its_session_is_open(wire: Wire, state_dir: Path) -> None:
    job_id = leased(wire, 0.5)
    assert outcome_of(state_dir, job_id, 2.0) is None
    (view,) = wire.call("find", name=job_id)["jobs"]
    assert (view["state"], view["lifetime"]) == ("RUNNING", "lease")
    wire.call("stop", job=job_id, grace=1.0)


def test_its_session_counts_also_when_nobody_hears_the_news(wire: Wire, state_dir: Path) -> None:
    limits = {"lease": 0.5}
    words = job("sleep", "1000", spool=True, lifetime="lease", limits=limits)
    channel = wire.request("start", **words)
    job_id = wire.accepted(channel)["id"]
    wire.close_channel(channel)
    assert outcome_of(state_dir, job_id, 2.0) is None
    wire.call("stop", job=job_id, grace=1.0)


@pytest.mark.parametrize("how", ["in order", "killed"])
def test_it_is_stopped_so_long_after_its_last_caller(
    bring_up: Callable[..., Wire], state_dir: Path, how: str
) -> None:
    wire = bring_up()
    job_id = leased(wire, 1.0)
    left = time.time()
    if how == "killed":
        os.kill(wire.agent_pid, signal.SIGKILL)
    else:
        wire.goodbye()
    outcome = outcome_of(state_dir, job_id, 20.0)
    assert outcome is not None
    assert (outcome["reason"], outcome["signal"]) == ("lease", "SIGTERM")
    assert left + 0.9 < outcome["finished"] < left + 8.0
    wait_until_gone(job_id)
    (view,) = bring_up().call("find", name=job_id)["jobs"]
    assert (view["state"], view["outcome"]["reason"]) == ("STOPPED", "lease")


def test_whoever_comes_within_the_lease_keeps_it_and_it_begins_anew(
    bring_up: Callable[..., Wire], state_dir: Path
) -> None:
    first = bring_up()
    job_id = leased(first)
    first.goodbye()
    second = bring_up()
    channel = second.request("watch", job=job_id)
    second.accepted(channel)
    assert outcome_of(state_dir, job_id, LEASE + 1.0) is None
    left = time.time()
    second.close_channel(channel)  # the handle is given up; its session goes on
    outcome = outcome_of(state_dir, job_id, LEASE + 10.0)
    assert outcome is not None
    assert outcome["reason"] == "lease"
    assert left + LEASE - 0.1 < outcome["finished"]


def test_one_of_two_callers_is_enough(bring_up: Callable[..., Wire], state_dir: Path) -> None:
    first, second = bring_up(), bring_up()
    job_id = leased(first, 0.5)
    second.accepted(second.request("watch", job=job_id))
    first.goodbye()
    assert outcome_of(state_dir, job_id, 2.0) is None
    second.goodbye()
    outcome = outcome_of(state_dir, job_id, 10.0)
    assert outcome is not None
    assert outcome["reason"] == "lease"


def test_an_end_by_itself_is_no_end_of_a_lease(wire: Wire) -> None:
    words = job(line="exit 3", spool=True, lifetime="lease", limits={"lease": 60.0})
    channel = wire.request("start", **words)
    wire.accepted(channel)
    done = wire.collect(channel)
    assert (done.job["state"], done.outcome["reason"]) == ("FAILED", "exited")


def test_the_seconds_stand_in_the_jobs_limits(wire: Wire, state_dir: Path) -> None:
    job_id = leased(wire, 60.0)
    told = json.loads((state_dir / "jobs" / job_id / "job.json").read_text())
    assert (told["lifetime"], told["limits"]) == ("lease", {"lease": 60.0})
    wire.call("stop", job=job_id, grace=1.0)


@pytest.mark.parametrize(
    "args",
    [
        {"lifetime": "lease"},
        {"lifetime": "detached", "limits": {"lease": 1.0}},
        {"lifetime": "lease", "limits": {"lease": "x"}},
        {"limits": {"max_output": 0}},
        {"limits": {"max_output": 1.5}},
        {"limits": {"on_max": "truncate"}},
        {"limits": {"max_output": 1, "on_max": "wrap"}},
    ],
    ids=repr,
)
def test_limits_that_make_no_sense(wire: Wire, args: dict[str, Any]) -> None:
    with pytest.raises(Refused, match=r"the (argument|limit|limits|lifetime) ") as refused:
        wire.accepted(wire.request("start", **job("true", spool=True, **args)))
    assert refused.value.code == "bad-request"
