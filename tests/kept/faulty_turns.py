"""Turns of readers in whose way each system call fails. Runs under any Python from 3.6 on.

``faulty_turns.py SOURCES STATE ERRNO``: whichever call of a turn fails, the reader is told what is
so, or to ask again; then that goes on as if nothing had been. Prints how many calls failed.
"""

import errno as errnos
import json
import os
import sys
from importlib import import_module
from typing import Any

FAULTY: Any = import_module("faulty")  # which stands beside this program


OURS, THEIRS = "0123456789abcdef", "fedcba9876543210"
STDOUT, STDERR = b"one\ntwo\n", b"oops\n"
WHOLE = {"stdout": len(STDOUT), "stderr": len(STDERR), "records": 0}
INDEXED = {"stdout": 4, "stderr": 5, "records": 0}
NOTHING = dict.fromkeys(WHOLE, 0)


def job(state: Any, number: Any, ended: Any) -> Any:
    """The id and the directory of a job that has printed; where it runs, by a lock that is held."""
    from remit._jobdir import files, liveness, proc

    job_id, path, dir_fd = FAULTY.prepared(state, number)
    files.write_json(dir_fd, files.JOB, {"format": 1, "id": job_id, "command": {"argv": ["x"]}})
    me = {"pid": os.getpid(), "start_time": proc.start_time(os.getpid())}
    process = dict(liveness.here(), started=1.0, supervisor=me, **me)
    files.write_json(dir_fd, files.PROCESS, process)
    for name, data in ((b"stdout", STDOUT), (b"stderr", STDERR)):
        fd = files.open_output(dir_fd, name)
        files.write_all(fd, data)
        os.close(fd)
    fd = files.open_output(dir_fd, files.INDEX)
    # What the index does not tell of comes at the end.
    for stream, at, size in ((b"stdout", 0, 4), (b"stderr", 0, 5)):
        files.write_all(fd, files.pack_line(1.0, stream, at, size))
    os.close(fd)
    if ended:
        sizes = {"stdout": len(STDOUT), "stderr": len(STDERR)}
        outcome = {"format": 1, "exit_status": 0, "reason": "exited", "sizes": sizes}
        files.write_outcome(dir_fd, outcome)
    else:
        hold(dir_fd)
    files.write_marks(dir_fd, files.Marks(NOTHING, OURS))
    return job_id, path, dir_fd


def hold(dir_fd: Any) -> Any:
    """A lock is not seen by who holds it: another process does, for as long as this one lives."""
    from remit._jobdir import liveness

    held, writing = os.pipe()
    alive, ours = os.pipe()
    if not os.fork():
        os.close(ours)
        liveness.take(dir_fd)
        os.write(writing, b"+")
        os.read(alive, 1)
        os._exit(0)
    os.close(writing)
    os.read(held, 1)


class Turn:
    """Calls one of the turns of `looks`, with a fault in it."""

    def __init__(self, faults: Any, state: Any) -> None:
        self.faults = faults
        self.state = os.fsencode(state)

    def __call__(self, bad: Any, name: Any, job_id: Any, *args: Any) -> Any:
        """The answer, None where it is to be asked again. ``bad``: the number of the call."""
        from remit._agent.kept import looks
        from remit._wire.refusal import Refused

        self.faults.bad, self.faults.count, self.faults.armed = (bad,), 0, True
        try:
            return looks.TURNS[name](self.state, job_id, *args)
        except Refused as exc:
            if exc.facts.get("passing") or exc.code == "no-state":
                return None
            raise
        finally:
            self.faults.armed = False

    def read(self, bad: Any, job_id: Any, number: Any, token: Any) -> Any:
        place = [dict(NOTHING), None]
        return self(bad, "read", job_id, number, place, 1 << 18, token, True, -1)


def reading(turn: Any, job_id: Any, ended: Any, token: Any) -> Any:
    number = failed = 0
    for warm in (False, True):
        bad = calls = 0
        while bad <= calls:
            number += 1
            if warm:  # what it reads is open already
                turn(0, "read", job_id, number, [dict(NOTHING), None], 0, token, True, -1)
            answer = turn.read(bad, job_id, number, token)
            calls = calls or turn.faults.count  # those of the first, which goes undisturbed
            check(answer, ended, bad)
            failed += answer is None
            if answer is None:
                answer = turn.read(0, job_id, number, token)
            again = turn(0, "read", job_id, number, answer["place"], 99, token, True, None)
            assert again["over"] == ended, (bad, again)
            assert again["place"][0] == (WHOLE if ended else INDEXED), (bad, again)
            turn(0, "forget", job_id, number)
            bad += 1
    return failed


def check(answer: Any, ended: Any, bad: Any) -> Any:
    """It says that it is over where it is, and has given all then."""
    if answer is None:
        return
    assert not answer["superseded"], (bad, answer)
    if answer["over"] or answer["view"] is not None:
        assert ended, (bad, answer)
        assert answer["over"], (bad, answer)
        assert answer["view"]["state"] == "COMPLETED", (bad, answer)
        assert answer["place"][0] == WHOLE, (bad, answer)


def marking(turn: Any, job_id: Any, dir_fd: Any) -> Any:
    """They say what is used up, or that is not said; and nobody takes them from somebody else."""
    from remit._jobdir import files

    failed = 0
    for reader in (OURS, THEIRS):
        bad = calls = 0
        while bad <= calls:
            before = files.Marks(NOTHING, reader)
            files.write_marks(dir_fd, before)
            answer = turn(bad, "mark", job_id, 0, OURS, WHOLE)
            calls = calls or turn.faults.count
            after = files.read_marks(dir_fd)
            if answer is None or not answer["written"]:
                failed += 1
                assert after == before, (bad, after)
            elif reader == OURS:
                assert answer["ours"], bad
                assert after == files.Marks(WHOLE, OURS), (bad, after)
            else:
                assert not answer["ours"], bad
                assert after == before, (bad, after)
            bad += 1
    return failed


def main(state: Any, number: Any) -> Any:
    close = os.close
    faults = FAULTY.Faults((), number)
    os.close = close  # which fails to no effect
    turn = Turn(faults, state)
    failed = 0
    for ended in (False, True):
        job_id, _, dir_fd = job(state, 1 + ended, ended)
        for token in (None, OURS):
            failed += reading(turn, job_id, ended, token)
        failed += marking(turn, job_id, dir_fd)
    print(json.dumps({"failed": failed}))


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        exec(file.read())
    main(sys.argv[2], getattr(errnos, sys.argv[3]))
