"""What a session does without the janitor, who would clean up after the agent."""

from __future__ import annotations

from agent.harness import Wire, new_id, wait_until_ended, wait_until_gone


def test_an_agent_whose_janitor_was_killed_ends_its_session(wire: Wire) -> None:
    job_id = new_id()
    wire.accepted(wire.start("sleep", "1000", id=job_id))
    wire.process.kill()
    wait_until_gone(job_id, 30.0)
    wait_until_ended(wire.agent_pid, 30.0)
