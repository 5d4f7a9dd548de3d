"""Prints the table: ``python -m benchmarks [NAME…] [--loop asyncio] [--scale 0.1]``."""

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

# The testbed is the tests' own; it is no package that is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import anyio

from benchmarks import calls, commands, kept, memory, opening, peers, start_up, streams
from benchmarks.place import Place, sshd
from benchmarks.table import Row, lines
from testbed import run
from testbed.sshd import Sshd

MEASURES: dict[str, Callable[[Place], Awaitable[list[Row]]]] = {
    "start-up": start_up.measure,
    "opening": opening.measure,
    "commands": commands.measure,
    "calls": calls.measure,
    "streams": streams.measure,
    "kept": kept.measure,
    "memory": memory.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURES)}")
    parser.add_argument("--loop", choices=["asyncio", "trio"], help="only this event loop")
    parser.add_argument("--scale", type=float, default=1.0, help="smaller amounts, to try it out")
    options = parser.parse_args()
    if unknown := set(options.names) - set(MEASURES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    loops = [options.loop] if options.loop else ["asyncio", "trio"]
    with ExitStack() as stack:
        directory = stack.enter_context(run.directory())
        server = stack.enter_context(sshd(directory)) if os.geteuid() == 0 else None
        rows: list[Row] = []
        failed: list[str] = []
        for loop in loops:
            place = _place(loop, directory, server, options.scale)
            for name in options.names or MEASURES:
                print(f"{loop}: {name} …", file=sys.stderr)
                try:
                    rows += anyio.run(MEASURES[name], place, backend=loop)
                except Exception as exc:  # the others are worth having
                    failed.append(f"{loop}: {name}: {exc}")
    print("\n".join(lines(rows)))
    for failure in failed:
        print(f"failed: {failure}")
    if server is None:
        print("left out: what needs an sshd, which needs root")
    if absent := peers.missing():
        print(f"left out: comparisons with {', '.join(absent)}, not installed")


def _place(loop: str, directory: Path, server: Sshd | None, scale: float) -> Place:
    if server is None:
        return Place(loop, directory, None, None, scale)
    ssh = ("ssh", "-F", str(server.config), "quiet")
    return Place(loop, directory, ssh, f"ssh:quiet?config={server.config}", scale)


if __name__ == "__main__":
    main()
