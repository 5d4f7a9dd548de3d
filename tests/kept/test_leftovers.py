"""What outlives a kept job that ended by itself, in all the ways of `testbed.daemons`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.harness import Wire, wait_until_ended
from kept.test_keeping import keep, supervisor_of
from testbed import daemons, pythons
from testbed.daemons import Daemon


@pytest.fixture
def python() -> pythons.Interpreter:
    return min(pythons.found(), key=lambda one: one.minor)


@pytest.fixture(params=sorted(daemons.WAYS))
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with daemons.daemon(request.param) as one:
        yield one


@pytest.mark.parametrize("lifetime", ["detached", "session"])
def test_it_is_named_and_outlives_the_session(
    wire: Wire, daemon: Daemon, lifetime: str, state_dir: Path
) -> None:
    channel, accepted = keep(wire, line=daemon.line, lifetime=lifetime)
    supervisor = supervisor_of(state_dir, accepted["id"])
    done = wire.collect(channel)
    assert done.job["state"] == "COMPLETED"
    named = {int(words.split()[1]) for words in done.outcome["left_behind"]}
    assert named & set(daemon.pids)
    assert wire.goodbye()["left"] == []
    wire.wait_ended()
    assert daemon.pids
    if lifetime == "session":
        wait_until_ended(supervisor)
        assert daemon.pids


def test_a_killed_agent_leaves_it_too(wire: Wire, daemon: Daemon, state_dir: Path) -> None:
    channel, accepted = keep(wire, line=daemon.line, lifetime="session")
    supervisor = supervisor_of(state_dir, accepted["id"])
    wire.collect(channel)
    wire.kill()
    wire.wait_ended()
    wait_until_ended(supervisor)
    assert daemon.pids


def test_a_stop_still_reaches_it(wire: Wire, daemon: Daemon) -> None:
    channel, accepted = keep(wire, line=daemon.line)
    wire.collect(channel)
    assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
    assert daemon.pids == []


def test_a_removal_may_leave_it(wire: Wire, daemon: Daemon, state_dir: Path) -> None:
    channel, accepted = keep(wire, line=daemon.line)
    wire.collect(channel)
    wire.call("remove", job=accepted["id"], force=True, leave=True)
    assert not (state_dir / "jobs" / accepted["id"]).exists()
    assert daemon.pids


@pytest.mark.parametrize("lifetime", ["detached", "session"])
def test_on_demand_it_ends_with_its_job(wire: Wire, daemon: Daemon, lifetime: str) -> None:
    channel, _ = keep(wire, line=daemon.line, lifetime=lifetime, leftovers="stop")
    done = wire.collect(channel)
    assert (done.job["state"], done.outcome["left_behind"]) == ("COMPLETED", [])
    assert daemon.pids == []
