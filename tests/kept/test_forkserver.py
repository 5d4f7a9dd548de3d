"""The process that supervisors come from: what it saves, and what its end does not touch."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

from agent.harness import Wire, job, processes_of, wait_until_ended
from testbed import pythons, run
from testbed.processes import Process, descendants, find

# Bytes for each of several, on average; the benchmarks ask for less. Python 3.14 writes to more of
# its pages itself: 1.46 MB, with the same code.
MOST_PRIVATE = 1_350_000
MOST_PRIVATE_ON_314 = 1_600_000


def keep(wire: Wire, *argv: str) -> str:
    job_id: str = wire.accepted(wire.request("start", **job(*argv, spool=True)))["id"]
    return job_id


def supervisor_of(state_dir: Path, job_id: str) -> int:
    process = json.loads((state_dir / "jobs" / job_id / "process.json").read_text())
    pid: int = process["supervisor"]["pid"]
    return pid


def forkservers(wire: Wire) -> list[Process]:
    """Those of the agent's session: a supervisor has one of its own."""
    session = os.getsid(wire.agent_pid)
    return [
        process
        for process in descendants([wire.agent_pid])
        if process.name == "remit-keep" and os.getsid(process.pid) == session
    ]


def private(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


def test_a_supervisor_keeps_little_memory_to_itself(
    wire: Wire, state_dir: Path, python: pythons.Interpreter
) -> None:
    jobs = [keep(wire, "sleep", "1000") for _ in range(3)]
    taken = [private(supervisor_of(state_dir, job_id)) for job_id in jobs]
    most = MOST_PRIVATE_ON_314 if python.minor == 14 else MOST_PRIVATE
    assert sum(taken) / len(taken) < most, taken
    for job_id in jobs:
        wire.call("stop", job=job_id, grace=5.0)


def test_there_is_one_of_it_only_where_something_is_kept(wire: Wire) -> None:
    wire.run("true")
    assert forkservers(wire) == []
    for _ in range(2):
        channel = wire.request("start", **job("true", spool=True))
        wire.accepted(channel)
        wire.collect(channel)
    assert len(forkservers(wire)) == 1


def test_supervisors_that_ended_are_reaped(wire: Wire, state_dir: Path) -> None:
    channel = wire.request("start", **job("true", spool=True))
    job_id = wire.accepted(channel)["id"]
    supervisor = supervisor_of(state_dir, job_id)
    wire.collect(channel)
    # Also as a zombie it would be there.
    run.wait_until(lambda: not Path(f"/proc/{supervisor}").exists(), "it to be reaped")


def test_a_killed_one_takes_no_job_along_and_is_made_anew(wire: Wire, state_dir: Path) -> None:
    first = keep(wire, "sleep", "1000")
    (forkserver,) = forkservers(wire)
    os.kill(forkserver.pid, signal.SIGKILL)
    wait_until_ended(forkserver.pid)
    wire.run("true")  # the agent has had its turn, and seen that end
    second = keep(wire, "sleep", "1000")
    for job_id in (first, second):
        assert find(supervisor_of(state_dir, job_id)) is not None
        assert wire.call("stop", job=job_id, grace=5.0)["survivors"] == []


def test_it_ends_with_its_agent_and_supervisors_do_not(
    bring_up: Callable[..., Wire], state_dir: Path
) -> None:
    wire = bring_up()
    job_id = keep(wire, "sleep", "1000")
    (forkserver,) = forkservers(wire)
    wire.kill()
    wait_until_ended(forkserver.pid)
    wire.wait_ended()
    assert find(supervisor_of(state_dir, job_id)) is not None
    assert len(processes_of(job_id)) == 1
    assert bring_up().call("stop", job=job_id, grace=5.0)["survivors"] == []
