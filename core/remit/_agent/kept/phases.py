"""The life of a supervisor: its phases and all their moves, on one screen.

Pure. Standard library only, Python 3.6. Plain numbers, since what a supervisor compares costs each
of many a little.
"""

from __future__ import annotations

STARTS = "starts"  # the job's place is taken, and its first process made
RUNS = "runs"  # that may run
DRAINS = "drains"  # it has ended, and its pipes are waited for
RECORDS = "records"  # its end is to be written down, however often that has to be tried
LINGERS = "lingers"  # what it left behind runs, and can be stopped by the job's id
CLOSES = "closes"  # as `RECORDS`, and nobody is left who would ask for what it left behind
LEAVES = "leaves"  # as `LINGERS`, the same
OVER = "over"

STARTED = "started"
FAILED = "failed"  # the first process could not be made
ENDED = "ended"  # the first process
STOP = "stop"  # all of it is to be stopped, whoever wants that
STOP_DONE = "stop done"
DRAINED = "drained"  # or waited for long enough, and no stop is under way
RECORDED = "recorded"  # or there is no place any more where it could be
SESSION_OVER = "session over"  # of a job that ends with its session
ALONE = "alone"  # nothing is left that is looked after, and no stop is under way

NEXT = {
    STARTS: {STARTED: RUNS, FAILED: RECORDS},
    RUNS: {STOP: RUNS, STOP_DONE: RUNS, SESSION_OVER: RUNS, ENDED: DRAINS},
    DRAINS: {STOP: DRAINS, STOP_DONE: DRAINS, SESSION_OVER: DRAINS, DRAINED: RECORDS},
    RECORDS: {STOP: RECORDS, STOP_DONE: RECORDS, SESSION_OVER: CLOSES, RECORDED: LINGERS},
    LINGERS: {STOP: LINGERS, STOP_DONE: LINGERS, SESSION_OVER: LEAVES, ALONE: OVER},
    CLOSES: {STOP: CLOSES, STOP_DONE: CLOSES, RECORDED: LEAVES},
    LEAVES: {STOP: LEAVES, STOP_DONE: LEAVES, ALONE: OVER},
    OVER: {},
}


def move(phase: str, event: str) -> str:
    """The phase after ``event``. Raises ValueError where the table has no such move."""
    try:
        return NEXT[phase][event]
    except KeyError:
        raise ValueError("a supervisor that %s has no move by: %s" % (phase, event)) from None
