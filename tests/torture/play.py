"""Plays a script: the caller in its own process, the faults at their times, then the judge."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from testbed import processes, run
from testbed.processes import Process
from torture import caller, cast, directories, judge
from torture.faults import strike
from torture.journal import Journal, read_notes
from torture.order import Order, journal_path
from torture.places import Place, Stage
from torture.script import Fault, Script

# What the caller may take once nothing goes wrong any more: reconnecting waits at most 30 s.
_CALLER_PATIENCE = 120.0
# Guarantee 6: a vanished caller's session-bound jobs, and a killed agent's, are gone by then.
_GONE_WITHIN = 30.0
# How long a fault waits for somebody whom it could hit: a new agent, most often.
_VICTIM_PATIENCE = 1.5
_STEP = 0.02


@attrs.frozen
class Verdict:
    """``complaints`` is empty where remit kept all its promises."""

    script: Script
    complaints: list[str]
    faults: list[str]
    """The kinds that happened: some find nobody to hit."""
    doubled: int
    """Bytes that a consuming reader got twice, after a crash that allows it."""
    evidence: str
    """Where the journal and the reels are, if there is a complaint."""


def play(script: Script, place: Place) -> Verdict:
    directory = Path(tempfile.mkdtemp(prefix="remit-torture-"))
    with place.stage(script.small) as stage:
        if script.musl:
            stage.shim.imitate_musl()
        performance = _Performance(script, place, stage, directory)
        complaints, doubled = performance.run()
        if complaints:
            shutil.copytree(stage.state, directory / "state", ignore=_fifos, symlinks=True)
            shutil.copytree(stage.diaries, directory / "diaries")
    if not complaints:
        shutil.rmtree(directory)
    return Verdict(script, complaints, performance.struck, doubled, str(directory))


class _Performance:
    def __init__(self, script: Script, place: Place, stage: Stage, directory: Path) -> None:
        self._script = script
        self._place = place
        self._stage = stage
        self._directory = directory
        self._journal = Journal(journal_path(directory))
        self._log = directory / "stderr"
        self._caller: subprocess.Popen[bytes] | None = None
        self._generation = 0
        self._mends: list[tuple[float, Fault, Callable[[], None]]] = []
        self._complaints: list[str] = []
        self.struck: list[str] = []

    def run(self) -> tuple[list[str], int]:
        """The complaints, and how many bytes were doubled as they may be."""
        order = Order(
            self._script,
            self._stage.target,
            self._stage.python,
            self._stage.diaries_there,
            time.monotonic() + 0.5,
        )
        order.save(self._directory)
        try:
            self._start_caller("0")
            self._have_faults(order.begin)
            self._await_caller("the caller")
            self._start_caller(caller.COLLECT)
            self._await_caller("the collector")
            self._await_nobody(order)
        finally:
            self._mend(float("inf"))
            assert self._caller is not None
            self._caller.kill()
            self._caller.wait()
            processes.kill(process.pid for process in cast.everyone(self._stage.python))
        for who in self._stage.bystanders.harmed():
            self._complain(f"harmed: {who}")
        found = directories.complaints(self._stage.state)
        self._journal.close()
        verdict = judge.judge(order, self._directory, self._stage.diaries)
        return self._complaints + found + verdict.complaints, verdict.doubled

    def _start_caller(self, generation: str) -> None:
        # Where this package and what it needs were found, they are found again.
        path = os.pathsep.join(entry for entry in sys.path if entry)
        with self._log.open("ab") as log:
            self._caller = self._place.popen(
                [sys.executable, "-m", "torture.caller", self._directory, generation],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,
            )
        self._journal.note("caller", generation=generation, pid=self._caller.pid)

    # -- the faults

    def _have_faults(self, begin: float) -> None:
        for fault in self._script.faults:
            while (now := time.monotonic()) < begin + fault.at:
                self._mend(now)
                time.sleep(min(_STEP, begin + fault.at - now))
            self._strike(fault)
        while self._mends:
            self._mend(time.monotonic())
            time.sleep(_STEP)

    def _strike(self, fault: Fault) -> None:
        assert self._caller is not None
        deadline = time.monotonic() + _VICTIM_PATIENCE
        while True:
            at = time.monotonic()
            struck = strike(fault, self._place, self._stage, self._caller.pid)
            if struck is not None:
                break
            if at > deadline:
                return
            self._mend(at)
            time.sleep(_STEP)
        self.struck.append(fault.kind)
        self._journal.note(
            "fault",
            kind=fault.kind,
            begin=at,
            end=at + fault.length,
            victim=struck.victim,
            of=struck.job,
        )
        if struck.mend is not None:
            self._mends.append((at + fault.length, fault, struck.mend))
        if fault.kind == "kill-caller":
            self._caller.wait()
            self._generation += 1
            self._start_caller(str(self._generation))

    def _mend(self, now: float) -> None:
        due = [entry for entry in self._mends if entry[0] <= now]
        for entry in due:
            self._mends.remove(entry)
            entry[2]()
            self._journal.note("mended", kind=entry[1].kind)

    # -- the end

    def _await_caller(self, name: str) -> None:
        assert self._caller is not None
        try:
            status = self._caller.wait(_CALLER_PATIENCE)
        except subprocess.TimeoutExpired:
            self._complain(f"{name} was not done after {_CALLER_PATIENCE:g} s")
            os.kill(self._caller.pid, signal.SIGUSR1)  # it writes down what it waits for
            time.sleep(1)
            processes.kill([self._caller.pid])
            self._caller.wait()
        else:
            if status:
                self._complain(f"{name} ended with {status}: {_tail(self._log)}")

    def _await_nobody(self, order: Order) -> None:
        """Nobody but what jobs left behind that ended by themselves; and that is there."""
        notes = read_notes(journal_path(self._directory))
        marks = {order.mark(plan): judge.may_run_on(plan, notes) for plan in order.script.jobs}

        def too_many() -> list[Process]:
            spare = {mark: most for mark, (_, most) in marks.items()}
            left = []
            for process in cast.everyone(self._stage.python):
                mark = next((word for word in cast.words(process.pid) if spare.get(word)), None)
                if mark is None:
                    left.append(process)
                else:
                    spare[mark] -= 1
            return left

        try:
            run.wait_until(lambda: not too_many(), "all processes to end", _GONE_WITHIN)
        except TimeoutError:
            for process in too_many():
                line = " ".join(word[:60] for word in cast.words(process.pid)[-9:])
                self._complain(
                    f"{_GONE_WITHIN:g} s after the end: pid {process.pid} ({process.name}), "
                    f"child of {process.parent}: {line}"
                )
        for mark, (least, _) in marks.items():
            found = len(cast.of_job(self._stage.python, mark))
            if found < least:
                self._complain(f"{least} were left behind on purpose, {found} run on: {mark}")

    def _complain(self, words: str) -> None:
        self._journal.note("complaint", words=words)
        self._complaints.append(words)


def _tail(path: Path) -> str:
    return path.read_text(errors="replace")[-1500:]


def _fifos(directory: str, names: list[str]) -> set[str]:
    return {"wake"}.intersection(names)
