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
SURVIVED = "survived"  # a stop that could not end all of it, as of what another account runs
SURVIVED_PAUSED = "survived, paused"  # the same, of what was suspended
VANISHED = "vanished"  # nobody is left who could know its end
LINK_DOWN = "link down"  # the job goes on; it is we who lost sight of it
# It is in sight again, and is what it was or what it has come to meanwhile.
LINK_UP = "link up"
LINK_UP_NOT_STARTED = "link up, not started"
LINK_UP_PAUSED = "link up, paused"
LINK_UP_STOPPING = "link up, asked to stop"

_ENDS = {
    SUCCEEDED: COMPLETED,
    WENT_WRONG: FAILED,
    ENDED_BY_US: STOPPED,
    VANISHED: LOST,
}
_GOES_ON = dict(_ENDS, **{LINK_DOWN: DISCONNECTED})
_AGAIN = {
    LINK_UP: RUNNING,
    LINK_UP_NOT_STARTED: PENDING,
    LINK_UP_PAUSED: SUSPENDED,
    LINK_UP_STOPPING: STOPPING,
}

NEXT = {
    # Paused: a start that is asked for again finds what became of the job.
    PENDING: dict(_GOES_ON, **{STARTED: RUNNING, PAUSED: SUSPENDED, ASKED_TO_STOP: STOPPING}),
    RUNNING: dict(_GOES_ON, **{HELD_UP: BLOCKED, PAUSED: SUSPENDED, ASKED_TO_STOP: STOPPING}),
    BLOCKED: dict(_GOES_ON, **{READ_ON: RUNNING, PAUSED: SUSPENDED, ASKED_TO_STOP: STOPPING}),
    SUSPENDED: dict(_GOES_ON, **{CONTINUED: RUNNING, ASKED_TO_STOP: STOPPING}),
    # Started: the stop may be quicker than the start's news.
    STOPPING: dict(_GOES_ON, **{STARTED: STOPPING, SURVIVED: RUNNING, SURVIVED_PAUSED: SUSPENDED}),
    DISCONNECTED: dict(_ENDS, **_AGAIN),
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


def observed(old: str, told: str) -> str:
    """The state of a job that was last known as ``old``, and is now told to be ``told``: that, or
    ``old`` where no event of the table leads there.

    Who asks at several places hears of a job in any order: what the table has no way to is older
    than what is known.
    """
    return told if told in NEXT[old].values() else old


def ended(exit_status: int | None, signal: str | None, reason: str) -> str:
    """The event by which a job with this end is over, for `move`."""
    if reason in ("stopped", "session-ended", "lease"):
        return ENDED_BY_US
    if reason in ("supervisor-lost", "host-restarted", "link-lost", "may-have-run"):
        return VANISHED
    if reason == "exited" and exit_status == 0 and signal is None:
        return SUCCEEDED
    return WENT_WRONG
