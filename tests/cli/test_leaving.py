"""A signal while a command takes leave of a target that says nothing."""

from __future__ import annotations

import shlex
import signal
import sys
from contextlib import ExitStack

from cli.program import LIMIT, Cli
from testbed import gate, processes, run

# Some of what `test_surroundings` has whole, with real agents.
ROWS = [
    ("run", signal.SIGINT),
    ("run", signal.SIGQUIT),
    ("start --keep", signal.SIGQUIT),
    ("enter", signal.SIGHUP),
]


def test_who_is_ended_while_leaving_has_said_what_there_was_to_say_and_leaves_nothing(
    cli: Cli,
) -> None:
    marks = [cli.directory / f"mark{number}" for number in range(len(ROWS))]
    with ExitStack() as stack:
        rows = []
        for (command, _), mark in zip(ROWS, marks, strict=True):
            words = shlex.join([sys.executable, gate.__file__, str(mark)])
            line = [*command.split(), f"command:{words}", "--", "echo", "out"]
            rows.append(stack.enter_context(cli.running(*line)))
        for mark in marks:
            run.wait_until(mark.exists, "it to take leave", LIMIT)
        below = [process.pid for process in processes.descendants([row.pid for row in rows])]
        for process, (_, number) in zip(rows, ROWS, strict=True):
            process.send_signal(number)
        kept = []
        for process, (command, number) in zip(rows, ROWS, strict=True):
            out, err = process.communicate(timeout=LIMIT)
            # What ran is over, and its status stays its own.
            done = 0 if (command, number) == ("run", signal.SIGINT) else 128 + number
            assert process.returncode in (-number, done), (command, number)
            assert err == b""
            if command == "start --keep":
                kept.append(out.decode().strip())
            else:
                assert out.strip() == b"out"
    assert set(cli.listed()) == set(kept)
    cli("wait", *kept)
    run.wait_until(lambda: not any(map(processes.find, below)), "all to be gone", LIMIT)
