"""At the process limit no helper can be had: what the agent owes of a job is done all the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agent.harness import Refused, Wire, new_id, processes_of, wait_until_gone
from remit._jobdir import proc
from testbed import processes, pythons
from testbed.limits import ProcessLimit

# Says that it is up, and ends once somebody makes a file.
_UNTIL = "echo up; while ! test -e {gate}; do sleep 0.05; done"
_DAEMON = "setsid sleep 1000 </dev/null >/dev/null 2>&1 & "


@pytest.fixture
def python() -> pythons.Interpreter:
    return min(pythons.found(), key=lambda one: one.minor)


@pytest.fixture
def take_processes(wire: Wire, process_limit: ProcessLimit) -> Callable[[], None]:
    def take() -> None:
        process_limit.take(wire.agent_pid)
        process_limit.set(0)

    return take


def up(wire: Wire, line: str, **args: Any) -> tuple[str, int]:
    """A job that has said so: its id and its channel."""
    job_id = new_id()
    channel = wire.start(line=line, id=job_id, **args)
    assert wire.piece(channel).data == b"up\n"
    return job_id, channel


def test_a_job_is_stopped(wire: Wire, take_processes: Callable[[], None]) -> None:
    job_id, channel = up(wire, _DAEMON + "trap '' TERM; echo up; while :; do sleep 0.1; done")
    take_processes()
    assert wire.call("stop", job=job_id, grace=0.3)["survivors"] == []
    assert processes_of(job_id) == []
    assert wire.collect(channel).outcome["reason"] == "stopped"


def test_a_time_limit_holds(wire: Wire, take_processes: Callable[[], None]) -> None:
    job_id, channel = up(wire, "echo up; sleep 1000", timeout=1.0)
    take_processes()
    assert wire.collect(channel).outcome["reason"] == "timeout"
    assert processes_of(job_id) == []


def test_a_job_stands_still_and_goes_on(wire: Wire, take_processes: Callable[[], None]) -> None:
    job_id, _ = up(wire, "echo up; sleep 1000")
    take_processes()
    assert wire.call("suspend", job=job_id)["state"] == "SUSPENDED"
    states = [proc.look(pid).state for pid in processes_of(job_id)]  # type: ignore[union-attr]
    assert set(states) == {"T"}
    assert wire.call("resume", job=job_id)["state"] == "RUNNING"


@pytest.mark.parametrize("leftovers", ["leave", "stop"])
def test_what_it_leaves_is_named_or_ended(
    wire: Wire, take_processes: Callable[[], None], tmp_path: Any, leftovers: str
) -> None:
    gate = tmp_path / "gate"
    job_id, channel = up(wire, _DAEMON + _UNTIL.format(gate=gate), leftovers=leftovers)
    take_processes()
    gate.touch()
    left = wire.collect(channel).outcome["left_behind"]
    found = processes_of(job_id)
    assert [int(words.split()[1]) for words in left] == found
    assert bool(found) is (leftovers == "leave")
    processes.kill(found)


def test_who_holds_the_output_is_named(
    wire: Wire, take_processes: Callable[[], None], tmp_path: Any
) -> None:
    gate = tmp_path / "gate"
    job_id, channel = up(wire, "sleep 1000 & " + _UNTIL.format(gate=gate))
    take_processes()
    gate.touch()
    (held,) = wire.collect(channel).outcome["left_behind"]
    processes.kill(processes_of(job_id))
    assert held.endswith("(sleep)")


@pytest.mark.parametrize("how", ["goodbye", "janitor", "link"])
def test_a_session_that_ends_leaves_nothing(
    wire: Wire, take_processes: Callable[[], None], how: str
) -> None:
    job_id, _ = up(wire, _DAEMON + "echo up; sleep 1000")
    take_processes()
    if how == "goodbye":
        assert wire.goodbye()["left"] == []
    elif how == "janitor":
        agent = processes.find(wire.agent_pid)
        assert agent is not None
        os.kill(agent.parent, signal.SIGKILL)
    else:
        wire.hang_up()
    wait_until_gone(job_id)


@pytest.mark.parametrize("verb", ["jobs", "stop", "remove", "read"])
def test_what_cannot_be_done_then_is_told(
    wire: Wire, take_processes: Callable[[], None], verb: str
) -> None:
    job_id = new_id()
    wire.run("true", id=job_id, placement="keep", spool=True, lifetime="session")
    take_processes()
    which: dict[str, Any] = {} if verb == "jobs" else {"job": job_id}
    with pytest.raises(Refused, match="no process is available") as caught:
        wire.call(verb, **which)
    words = "no process is available on the target to do it: Resource temporarily unavailable"
    assert caught.value.facts["message"] == words
