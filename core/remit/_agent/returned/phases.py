"""The life of a return job as the agent leads it: its phases and all their moves, on one screen.

What its caller is told of it are the states of `remit._wire.states`, which know of less. Pure.
Standard library only, Python 3.6.
"""

from __future__ import annotations

STARTING = "starting"  # its first process is on its way to what it is to run
RUNS = "runs"  # that has begun
STRUCK = "struck"  # a stop has done its work, and the news of the end are on their way
DRAINS = "drains"  # it has ended, and its pipes are waited for
FLUSHES = "flushes"  # what is in its pipes goes out as there is credit, and no more is waited for
CLEARED = "cleared"  # the same, and all that can be ended of it has been
SWEEPS = "sweeps"  # its pipes are closed, and what it left behind is looked for
OVER = "over"

BEGUN = "begun"
FAILED = "failed"  # it could not be begun
STOP = "stop"  # it is to be stopped, whoever wants that
STOP_DONE = "stop done"
GIVEN_UP = "given up"  # its first process is not ours to end, and runs on
ENDED = "ended"  # its first process, or nobody can tell any more
WAITED = "waited"  # long enough for its pipes
IDLE = "idle"  # its pipes are closed, and no helper is at work for it

NEXT = {
    STARTING: {BEGUN: RUNS, FAILED: OVER, STOP: OVER},
    RUNS: {STOP: RUNS, STOP_DONE: STRUCK, GIVEN_UP: CLEARED, ENDED: DRAINS},
    STRUCK: {STOP: STRUCK, STOP_DONE: STRUCK, GIVEN_UP: CLEARED, ENDED: CLEARED},
    DRAINS: {STOP: DRAINS, STOP_DONE: CLEARED, WAITED: FLUSHES, IDLE: SWEEPS},
    FLUSHES: {STOP: FLUSHES, STOP_DONE: CLEARED, IDLE: SWEEPS},
    CLEARED: {STOP: CLEARED, STOP_DONE: CLEARED, ENDED: CLEARED, IDLE: OVER},
    SWEEPS: {STOP: SWEEPS, STOP_DONE: SWEEPS, IDLE: OVER},
    OVER: {STOP: OVER, ENDED: OVER},  # of one that was given up before
}
# Those in which how its first process ends is still open.
OPEN = frozenset((STARTING, RUNS, STRUCK))


def move(phase: str, event: str) -> str:
    """The phase after ``event``. Raises ValueError where the table has no such move."""
    try:
        return NEXT[phase][event]
    except KeyError:
        raise ValueError("a return job that %s has no move by: %s" % (phase, event)) from None
