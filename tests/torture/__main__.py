"""``python -m torture``: see the package. A summary comes last; the status is 1 if one failed."""

from __future__ import annotations

import argparse
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from torture.places import PLACES, Place
from torture.play import Verdict, play
from torture.script import Script, invent
from torture.shrink import shrunk


def main() -> int:
    # Who ends this run shall not leave its processes behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = _options()
    names = options.places.split(",")
    if options.replay is not None:
        script = Script.from_json(options.replay.read_bytes())
        names = [script.place]
    with ExitStack() as stack:
        places = {name: stack.enter_context(PLACES[name]()) for name in names}
        if options.replay is not None:
            verdicts = iter([play(script, places[script.place])])
        else:
            verdicts = _play_on(options.seed, options.seconds, places)
        heard = []
        for verdict in verdicts:
            heard.append(verdict)
            if verdict.complaints:
                report(verdict, places[verdict.script.place], options.shrink)
            else:
                script = verdict.script
                count = len(verdict.faults)
                print(f"ok: seed {script.seed}, {script.place}, {count} faults", flush=True)
    print("\n".join(summary(heard, options.seed)))
    return 1 if any(verdict.complaints for verdict in heard) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="torture")
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20))
    parser.add_argument("--places", default=",".join(PLACES), help=f"of {', '.join(PLACES)}")
    parser.add_argument("--replay", type=Path, help="a script to play instead")
    parser.add_argument(
        "--shrink", type=float, default=0.0, help="seconds to look for a shorter script that fails"
    )
    return parser.parse_args()


def _play_on(seed: int, seconds: float, places: dict[str, Place]) -> Iterator[Verdict]:
    """Scripts of that seed and of those after it, at each place in turn, until time is over."""
    deadline = time.monotonic() + seconds
    names = list(places)
    number = 0
    while time.monotonic() < deadline:
        place = places[names[number % len(names)]]
        yield play(invent(seed + number, place.name, place.kinds, place.can_fill), place)
        number += 1


def report(verdict: Verdict, place: Place, patience: float) -> None:
    script = verdict.script
    path = Path(verdict.evidence, "script.json")
    path.write_bytes(script.to_json())
    print(f"FAILED: seed {script.seed}, {script.place}; replay with --replay {path}")
    for complaint in verdict.complaints:
        print(f"  {complaint}")
    if patience:
        script = shrunk(script, lambda shorter: bool(play(shorter, place).complaints), patience)
        print(script.to_json().decode())
    sys.stdout.flush()


def summary(heard: list[Verdict], seed: int) -> list[str]:
    """What was played, what went wrong, and what there is to complain of, a line each."""
    places = Counter(verdict.script.place for verdict in heard)
    faults = Counter(kind for verdict in heard for kind in verdict.faults)
    cancels = sum(len(verdict.script.cancels) for verdict in heard)
    failed = [verdict for verdict in heard if verdict.complaints]
    return [
        f"seed {seed}: {len(heard)} scripts ({_counted(places)}), {len(failed)} failed",
        f"faults: {faults.total()} ({_counted(faults)}); cancelled: {cancels}",
        f"bytes doubled after crashes: {sum(verdict.doubled for verdict in heard)}",
        *(
            f"FAILED: seed {verdict.script.seed}, {verdict.script.place}: "
            f"{len(verdict.complaints)}, the first: {verdict.complaints[0]}"
            for verdict in failed
        ),
    ]


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


if __name__ == "__main__":
    raise SystemExit(main())
