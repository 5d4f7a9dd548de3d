"""What a command costs before it does anything: CPU and wall, of its children too."""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks.place import Place
from benchmarks.table import Row, at_most

ROUNDS = 20
REMIT = str(Path(sys.executable).with_name("remit"))
# What is imported is compiled once, as where it is installed: to a place that can be written to.
_ENV = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


class Cost(NamedTuple):
    """Seconds."""

    cpu: float
    wall: float


def cost(argv: list[str], state: str) -> Cost:
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={
            **_ENV,
            "REMIT_STATE_DIR": state,
            "XDG_RUNTIME_DIR": state,
            "PYTHONPYCACHEPREFIX": f"{state}/compiled",
        },
        check=True,
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall)


def medians(commands: dict[str, list[str]], rounds: int) -> dict[str, Cost]:
    """In turn, so that what else the machine does hits all alike. The first does not count."""
    with tempfile.TemporaryDirectory() as state:
        found = [
            {name: cost(argv, state) for name, argv in commands.items()} for _ in range(rounds + 1)
        ][1:]
        for socket in Path(state).glob("remit/*"):  # a connection that stays
            words = ["ssh", "-o", f"ControlPath={socket}", "-O", "exit", "nowhere"]
            subprocess.run(words, capture_output=True)
    return {
        name: Cost(*map(statistics.median, zip(*(each[name] for each in found), strict=True)))
        for name in commands
    }


async def measure(place: Place) -> list[Row]:
    if place.loop != "asyncio":
        return []  # the command line has an event loop of its own
    commands = {
        "python": [sys.executable, "-c", "pass"],
        "--help": [REMIT, "--help"],
        "jobs": [REMIT, "jobs"],
        "local": [REMIT, "run", "local:", "--", "true"],
    }
    fab = _fab()
    if place.ssh is not None and place.ssh_target is not None:
        commands["ssh"] = [*place.ssh, "true"]
        commands["remote"] = [REMIT, "run", f"{place.ssh_target}&persist=0", "--", "true"]
        commands["reused"] = [REMIT, "run", place.ssh_target, "--", "true"]
        if fab is not None:
            _, _, config, host = place.ssh
            commands["fab"] = [fab, "-S", config, "-H", host, "--", "true"]
    found = medians(commands, place.amount(ROUNDS))
    python, told = found["python"], {name: _remark(each) for name, each in found.items()}

    def row(name: str, what: str, most: float) -> Row:
        ratio = found[name].cpu / python.cpu
        return Row(what, place.loop, ratio, at_most(most), f"{told[name]}; python {told['python']}")

    rows = [
        row("--help", "CPU of remit --help, against python -c pass", 4.0),
        row("jobs", "CPU of remit jobs where nothing is known", 6.0),
        row("local", "CPU of remit run local: -- true", 24.0),
    ]
    for ours, theirs, most in (
        ("remote", "fab", 1.0),
        ("reused", "fab", 0.5),
        ("remote", "ssh", 4.0),
        ("reused", "ssh", 3.0),
    ):
        if theirs in found:
            how = "" if ours == "remote" else ", connection reused"
            what = f"wall of remit run HOST -- true{how}, against {theirs}"
            ratio, remark = found[ours].wall / found[theirs].wall, f"{told[ours]}; {told[theirs]}"
            rows.append(Row(what, place.loop, ratio, at_most(most), remark))
    return rows


def _fab() -> str | None:
    """Fabric's command: it wants an environment of its own, which $FAB names."""
    places = [str(Path(sys.executable).parent), os.defpath]
    return os.environ.get("FAB") or shutil.which("fab", path=os.pathsep.join(places))


def _remark(cost: Cost) -> str:
    return f"{cost.cpu * 1000:.0f} ms of CPU, {cost.wall * 1000:.0f} ms"
