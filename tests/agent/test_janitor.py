"""What a session does without the janitor, who would clean up after the agent."""

from __future__ import annotations

import os
import signal
import time

from agent.harness import Wire, new_id, wait_until_ended, wait_until_gone
from remit._jobdir import proc


def stop(pid: int) -> None:
    """Returns once it has stopped."""
    os.kill(pid, signal.SIGSTOP)
    process = proc.look(pid)
    while process is not None and process.state != "T":
        time.sleep(0.01)
        process = proc.look(pid)


def test_an_agent_whose_janitor_was_killed_ends_its_session(wire: Wire) -> None:
    job_id = new_id()
    wire.accepted(wire.start("sleep", "1000", id=job_id))
    wire.process.kill()
    wait_until_gone(job_id, 30.0)
    wait_until_ended(wire.agent_pid, 30.0)


def test_who_kills_their_process_group_leaves_no_job_behind(wire: Wire) -> None:
    """As transports do with a program that does not end; an agent that is stopped cannot."""
    job_id = new_id()
    wire.accepted(wire.start("sleep", "1000", id=job_id))
    stop(wire.agent_pid)
    # Not the group itself, which is that of the tests, too.
    both = [wire.process.pid, wire.agent_pid]
    for pid in [pid for pid in both if os.getpgid(pid) == os.getpgid(wire.process.pid)]:
        os.kill(pid, signal.SIGKILL)
    wait_until_gone(job_id, 30.0)
    wait_until_ended(wire.agent_pid, 30.0)


def test_an_agent_that_is_stopped_heeds_term(wire: Wire) -> None:
    job_id = new_id()
    wire.accepted(wire.start("sleep", "1000", id=job_id))
    stop(wire.agent_pid)
    wire.process.terminate()
    wait_until_gone(job_id, 30.0)
    wait_until_ended(wire.agent_pid, 30.0)
