"""How a job ended, as an exit status of ours and in words. Pure."""

from __future__ import annotations

from remit import JobState, Outcome
from remit._wire.ended import signal_number

LOST = 255
TIMED_OUT = 124  # as timeout(1) says it
NOT_STARTED = 127  # as a shell says it
NOT_EXECUTABLE = 126  # and of a file that is there


def exit_status(state: JobState, outcome: Outcome | None) -> int:
    """The job's own exit status; 128 and the signal's number; never 0 unless it is COMPLETED."""
    if state is JobState.COMPLETED:
        return 0
    if outcome is None or state in (JobState.LOST, JobState.DISCONNECTED):
        return LOST
    if outcome.reason == "timeout":
        return TIMED_OUT
    if outcome.reason == "start-failed":
        # By these words the target tells a file that is there from one that is not.
        cannot = (outcome.error or "").startswith("cannot run ")
        return NOT_EXECUTABLE if cannot else NOT_STARTED
    if outcome.signal is not None:
        return 128 + signal_number(outcome.signal)
    return outcome.exit_status or 1


def words(outcome: Outcome | None) -> str:
    """Why it ended, where its exit status alone does not tell: "exit status 3", "SIGKILL"."""
    if outcome is None:
        return ""
    parts = []
    if outcome.reason not in ("exited", "signalled", ""):
        parts.append(outcome.reason)
    if outcome.signal is not None:
        parts.append(outcome.signal)
    elif outcome.exit_status:
        parts.append(f"exit status {outcome.exit_status}")
    parts += [text for text in (outcome.error, outcome.note) if text]
    told = outcome.note or ""
    if left := [process for process in outcome.left_behind if process not in told]:
        parts.append("left running: " + ", ".join(left))
    return ", ".join(parts)
