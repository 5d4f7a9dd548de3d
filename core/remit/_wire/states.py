"""The states of a job and all their moves, on one screen. Pure; the agent carries it too.

Standard library only, Python 3.6. States are plain strings here; `remit.JobState` is an enum of
the same words.
"""

from __future__ import annotations

PENDING = "PENDING"
RUNNING = "RUNNING"
BLOCKED = "BLOCKED"  # held up by a full buffer
SUSPENDED = "SUSPENDED"
STOPPING = "STOPPING"
COMPLETED = "COMPLETED"
FAILED = "FAILED"
STOPPED = "STOPPED"
DISCONNECTED = "DISCONNECTED"  # cannot be reached, may well run on
LOST = "LOST"  # its end can no longer be known

FINISHED = frozenset((COMPLETED, FAILED, STOPPED, LOST))

# What can happen to a job.
STARTED = "started"
HELD_UP = "held up"
READ_ON = "read on"
PAUSED = "paused"
CONTINUED = "continued"
ASKED_TO_STOP = "asked to stop"
SUCCEEDED = "succeeded"  # a recorded exit status 0, or a returned value
WENT_WRONG = "went wrong"
ENDED_BY_US = "ended by us"  # after a stop, or with its session
LINK_DOWN = "link down"  # the job goes on; it is we who lost sight of it
LINK_UP = "link up"  # followed by what the agent says of it
VANISHED = "vanished"  # nobody is left who could know its end

_ENDS = {
    SUCCEEDED: COMPLETED,
    WENT_WRONG: FAILED,
    ENDED_BY_US: STOPPED,
    VANISHED: LOST,
    LINK_DOWN: DISCONNECTED,
}

NEXT = {
    PENDING: dict(_ENDS, **{STARTED: RUNNING, ASKED_TO_STOP: STOPPING}),
    RUNNING: dict(_ENDS, **{HELD_UP: BLOCKED, PAUSED: SUSPENDED, ASKED_TO_STOP: STOPPING}),
    BLOCKED: dict(_ENDS, **{READ_ON: RUNNING, PAUSED: SUSPENDED, ASKED_TO_STOP: STOPPING}),
    SUSPENDED: dict(_ENDS, **{CONTINUED: RUNNING, ASKED_TO_STOP: STOPPING}),
    STOPPING: dict(_ENDS, **{STARTED: STOPPING}),  # the stop may be quicker than the start's news
    DISCONNECTED: dict(_ENDS, **{LINK_UP: RUNNING}),
    COMPLETED: {},
    FAILED: {},
    STOPPED: {},
    LOST: {},
}


def move(state: str, event: str) -> str:
    """The state after ``event``. Raises ValueError where the table has no such move."""
    try:
        return NEXT[state][event]
    except KeyError:
        raise ValueError("a job that is %s cannot be: %s" % (state, event)) from None


def ended(exit_status: int | None, signal: str | None, reason: str) -> str:
    """The event by which a job with this end is over, for `move`."""
    if reason in ("stopped", "session-ended", "lease"):
        return ENDED_BY_US
    if reason in ("supervisor-lost", "host-restarted", "link-lost", "may-have-run"):
        return VANISHED
    if reason == "exited" and exit_status == 0 and signal is None:
        return SUCCEEDED
    return WENT_WRONG
