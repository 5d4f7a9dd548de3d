"""What one release left or keeps running, another one lists, reads, waits for, stops and removes.

Each earlier release is in an environment of its own, from its commit, and meets the present one in
both directions: kept jobs and their supervisors, and the collectors of jobs that return results.
"""

from __future__ import annotations

import json
import lzma
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from releases import installed
from testbed import processes, run

DRIVER = Path(__file__).with_name("driver.py")
PRESENT = "present"
LIMIT = 60.0


class Driver:
    """A session of one release, driven by its Python API."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.remit = self._heard()

    def __call__(self, verb: str, **arguments: Any) -> Any:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([verb, arguments]).encode() + b"\n")
        self._process.stdin.flush()
        heard = self._heard()
        assert "answer" in heard, (verb, arguments, heard)
        return heard["answer"]

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _heard(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver ended: its traceback is on stderr"
        return json.loads(line)


class Releases:
    """Each release, with one state directory and one account's directory for all of them."""

    def __init__(self, pythons: dict[str, Path], state: Path, directory: Path) -> None:
        self._pythons = pythons
        self._directory = directory
        self._target = f"local:?state={state}"
        self._env = {**os.environ, "REMIT_STATE_DIR": str(state)}

    @contextmanager
    def driver(self, release: str) -> Iterator[Driver]:
        process = subprocess.Popen(
            [self._pythons[release], DRIVER, self._target],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._env,
            cwd=self._directory,
        )
        with process:
            try:
                yield Driver(process)
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(LIMIT)

    def command(self, release: str, *words: str) -> str:
        """What ``remit WORDS`` of that release prints."""
        done = subprocess.run(
            [self._pythons[release], "-m", "remit.cli", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=self._env,
            cwd=self._directory,
            timeout=LIMIT,
        )
        assert done.returncode == 0, (words, done)
        return done.stdout.decode().strip()


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    earlier = {
        release: installed.install(release, tmp_path_factory.mktemp(release))
        for release in installed.RELEASES
    }
    return {PRESENT: Path(sys.executable), **earlier}


@pytest.fixture
def releases(pythons: dict[str, Path], state_dir: Path, tmp_path: Path) -> Iterator[Releases]:
    yield Releases(pythons, state_dir, tmp_path)
    mark = f"REMIT_STATE_DIR={state_dir}".encode()
    for process in processes.everyone():
        if mark in _environment(process.pid):
            os.kill(process.pid, signal.SIGKILL)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


ways = pytest.mark.parametrize(
    ("starter", "other"),
    [way for release in installed.RELEASES for way in ((release, PRESENT), (PRESENT, release))],
)


@pytest.mark.parametrize(("release", "commit"), installed.RELEASES.items())
def test_an_earlier_release_is_what_was_committed(release: str, commit: str) -> None:
    """A clone without history has nothing to compare with; one with it has to agree."""
    packed = lzma.decompress((installed.HERE / f"{release}.tar.xz").read_bytes())
    assert installed.as_committed(commit) in (packed, None)


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Callable[[str], None]]:
    """Tells the job that reads the FIFO ``gate`` a line."""
    os.mkfifo(tmp_path / "gate")
    end = os.open(tmp_path / "gate", os.O_RDWR)
    yield lambda line: void(os.write(end, line.encode() + b"\n"))
    os.close(end)


def void(_: object) -> None: ...


READER = ["sh", "-c", 'while read w; do [ "$w" = end ] && exit 3; echo "$w"; done < gate']
FAILING = ["sh", "-c", "echo out; echo err >&2; exit 3"]
LARGE = ["sh", "-c", "head -c 300000 /dev/zero | tr '\\0' x"]
SLEEPING = ["sleep", "1000"]


@ways
def test_kept_jobs_of_one_release_are_another_ones_too(
    releases: Releases, starter: str, other: str, gate: Callable[[str], None], tmp_path: Path
) -> None:
    with releases.driver(starter) as first, releases.driver(other) as second:
        assert first.remit != second.remit
        failing = first("start", argv=FAILING, name="failing", env={"A": "b"})
        large = first("start", argv=LARGE)
        value = first("evaluate", text="{'six': 2 * 3}", name="value")
        running = first("start", argv=READER, name="running", cwd=str(tmp_path))
        sleeping = first("start", argv=SLEEPING)
        for job, state in ((failing, "FAILED"), (large, "COMPLETED"), (value, "COMPLETED")):
            assert (second("wait", job=job), first("wait", job=job)) == (state, state)

        # Both see the same, whichever of them started it.
        own = second("start", argv=FAILING)
        assert first("wait", job=own) == "FAILED"
        assert first("jobs") == second("jobs")
        assert second("jobs")[failing]["exit_status"] == 3
        assert second("jobs")[running]["state"] == "RUNNING"

        said = {"stdout": "out\n", "stderr": "err\n", "value": []}
        assert second("receive", job=failing, keep=True) == said
        assert second("receive", job=failing) == said
        assert first("receive", job=failing)["stdout"] == ""
        assert not first("jobs")[failing]["has_more_data"]
        assert first("receive", job=failing, from_start=True) == said
        assert second("receive", job=large)["stdout"] == "x" * 300_000
        assert second("receive", job=value)["value"] == [{"six": 6}]

        # One of them reads what is there, the other one goes on from that place.
        gate("one")
        run.wait_until(
            lambda: bool(second("receive", job=running, wait=False, keep=True)["stdout"]), "output"
        )
        assert second("receive", job=running, wait=False)["stdout"] == "one\n"
        gate("two")
        gate("end")
        assert first("receive", job=running)["stdout"] == "two\n"
        assert second("wait", job=running) == "FAILED"
        saved = second("save", job=running, path=str(tmp_path / "saved"))
        assert Path(saved).read_text() == "one\ntwo\n"

        assert second("suspend", job=sleeping) == "SUSPENDED"
        assert first("jobs")[sleeping]["state"] == "SUSPENDED"
        assert second("resume", job=sleeping) == "RUNNING"
        if other == PRESENT:
            told = f"job {sleeping}: cannot signal, an earlier remit started it"
            assert second("signal", job=sleeping, name="INT") == told
        assert second("stop", job=sleeping) == []
        assert (first("wait", job=sleeping), first("jobs")[sleeping]["reason"]) == (
            "STOPPED",
            "stopped",
        )
        second("remove", job=failing)
        assert failing not in first("jobs")
        assert second("prune") == sorted([large, value, running, sleeping, own])
        assert first("jobs") == {}


@ways
def test_a_job_outlives_the_release_that_started_it(
    releases: Releases, starter: str, other: str, gate: Callable[[str], None], tmp_path: Path
) -> None:
    """Its caller is killed: the job goes on, one that is bound to the session ends with it."""
    with releases.driver(starter) as first:
        running = first("start", argv=READER, cwd=str(tmp_path))
        bound = first("start", argv=SLEEPING, lifetime="session")
        first.kill()
    with releases.driver(other) as second:
        assert second("wait", job=bound) == "STOPPED"
        assert second("jobs")[bound]["reason"] == "session-ended"
        gate("one")
        gate("end")
        assert second("receive", job=running)["stdout"] == "one\n"
        assert second("jobs")[running]["exit_status"] == 3
        # And it starts its own beside what the killed one left.
        own = second("start", argv=FAILING)
        assert second("wait", job=own) == "FAILED"
        second("remove", job=running)
        second("remove", job=own, force=True)
        assert list(second("jobs")) == [bound]


@ways
def test_a_collector_of_one_release_answers_another(
    releases: Releases, starter: str, other: str, gate: Callable[[str], None]
) -> None:
    def start(name: str, argv: list[str]) -> str:
        return releases.command(starter, "start", "--name", name, "local:", "--", *argv)

    failing, running, sleeping = (
        start(name, argv) for name, argv in (("a", FAILING), ("b", READER), ("c", SLEEPING))
    )
    with releases.driver(starter) as first, releases.driver(other) as second:
        assert second("wait", job=failing) == "FAILED"
        told = second("jobs")
        assert told.keys() == first("jobs").keys() == {failing, running, sleeping}
        assert {job["name"]: job["state"] for job in told.values()} == {
            "a": "FAILED",
            "b": "RUNNING",
            "c": "RUNNING",
        }
        assert second("receive", job=failing, keep=True)["stdout"] == "out\n"
        # A reader that goes on until the job ends, from a command line of the other release.
        gate("one")
        gate("end")
        assert releases.command(other, "receive", running) == "one"
        assert first("wait", job=running) == "FAILED"
        # The first release's collector answers before it is to be seen.
        second("suspend", job=sleeping)
        run.wait_until(lambda: second("jobs")[sleeping]["state"] == "SUSPENDED", "suspended")
        assert second("resume", job=sleeping) == "RUNNING"
        if other == PRESENT:
            refused = f"job {sleeping}: cannot signal, an earlier remit started it"
            assert second("signal", job=sleeping, name="INT") == refused
        assert second("stop", job=sleeping) == []
        assert first("wait", job=sleeping) == "STOPPED"
        for job in (failing, running, sleeping):
            second("remove", job=job)
        assert first("jobs") == {}
