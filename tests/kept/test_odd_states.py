"""Stop and remove where a job's directory is another computer's, or is malformed: clear words,
nothing half done, and a way to be rid of it."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, new_id, processes_of, wait_until_gone
from testbed import needs

HOLD = """\
import fcntl, sys
file = open(sys.argv[1], "r+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(flush=True)
input()
"""
ELSEWHERE = {"boot_id": "other", "hostname": "elsewhere"}


@pytest.fixture
def ended(wire: Wire, state_dir: Path) -> Path:
    """The directory of a job that is over, its supervisor too."""
    channel = wire.request("start", **job(line="echo x", spool=True))
    job_id: str = wire.accepted(channel)["id"]
    wire.collect(channel)
    wire.collect(wire.request("watch", job=job_id))
    return state_dir / "jobs" / job_id


@pytest.fixture
def running(wire: Wire, state_dir: Path) -> Path:
    channel = wire.request("start", **job(line="setsid sleep 1000 & sleep 1000", spool=True))
    return state_dir / "jobs" / str(wire.accepted(channel)["id"])


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def shown(wire: Wire, directory: Path) -> Any:
    listed = wire.call("jobs", after=None, limit=10)["jobs"]
    (found,) = [each for each in listed if each["id"] == directory.name]
    return found


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Another process holds the supervisor's lock meanwhile, as one elsewhere would."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, directory / "lock"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    holder.stdout.readline()
    try:
        yield
    finally:
        with holder.stdin, holder.stdout:
            holder.kill()
            holder.wait()


class TestElsewhere:
    """The job was started by another computer that shares the home."""

    @pytest.mark.parametrize("held", [False, True], ids=["unheld", "held"])
    @pytest.mark.parametrize(
        ("verb", "args"),
        [
            ("stop", {"grace": 1.0}),
            ("suspend", {}),
            ("resume", {}),
            ("remove", {"force": False}),
            ("remove", {"force": True}),
        ],
        ids=["stop", "suspend", "resume", "remove", "remove by force"],
    )
    def test_what_cannot_be_done_from_here_says_where(
        self, wire: Wire, ended: Path, held: bool, verb: str, args: dict[str, Any]
    ) -> None:
        (ended / "outcome.json").unlink()
        change(ended / "process.json", **ELSEWHERE)
        before = content(ended)
        if held:
            with locked(ended):
                assert shown(wire, ended)["state"] == "RUNNING"
                refusal = self.refusal(wire, verb, job=ended.name, **args)
        else:
            assert shown(wire, ended)["state"] == "DISCONNECTED"
            refusal = self.refusal(wire, verb, job=ended.name, **args)
        assert refusal["code"] == "state"
        assert "from here" in refusal["message"]
        assert "elsewhere" in refusal["message"]
        assert str(ended) in refusal["hint"]
        assert content(ended) == before
        assert list((ended / "ask").iterdir()) == []

    def refusal(self, wire: Wire, verb: str, **args: Any) -> dict[str, Any]:
        with pytest.raises(Refused) as refused:
            wire.call(verb, **args)
        return refused.value.facts

    def test_one_that_ended_there_is_removed_like_any_other(self, wire: Wire, ended: Path) -> None:
        change(ended / "process.json", **ELSEWHERE)
        assert wire.call("remove", job=ended.name, force=False) == {}
        assert not ended.exists()


class TestUnreadable:
    @pytest.mark.parametrize("name", ["job.json", "process.json", "outcome.json"])
    def test_a_file_that_makes_no_sense_keeps_no_job_from_being_removed(
        self, wire: Wire, ended: Path, name: str
    ) -> None:
        (ended / name).write_bytes(b"\0\xff{")
        assert shown(wire, ended)["id"] == ended.name
        assert wire.call("stop", job=ended.name, grace=1.0)["survivors"] == []
        assert wire.call("remove", job=ended.name, force=False) == {}
        assert not ended.exists()

    @pytest.mark.parametrize("name", ["job.json", "process.json"])
    def test_a_job_that_runs_all_the_same_is_not_removed_but_by_force(
        self, wire: Wire, running: Path, name: str
    ) -> None:
        (running / name).write_bytes(b"{")
        with pytest.raises(Refused, match="is DISCONNECTED") as refused:
            wire.call("remove", job=running.name, force=False)
        assert refused.value.code == "state"
        assert len(processes_of(running.name)) >= 2
        assert wire.call("remove", job=running.name, force=True) == {}
        assert processes_of(running.name) == []
        assert not running.exists()

    def test_what_a_killed_supervisor_left_is_stopped_though_no_file_tells_of_it(
        self, wire: Wire, running: Path
    ) -> None:
        supervisor = json.loads((running / "process.json").read_text())["supervisor"]["pid"]
        os.kill(supervisor, 9)
        (running / "process.json").write_bytes(b"{")
        assert wire.call("stop", job=running.name, grace=1.0)["survivors"] == []
        assert processes_of(running.name) == []
        assert wire.call("remove", job=running.name, force=False) == {}

    def test_a_directory_of_a_later_format_is_left_alone(self, wire: Wire, ended: Path) -> None:
        change(ended / "job.json", format=2)
        for force in (False, True):
            with pytest.raises(Refused, match="left alone") as refused:
                wire.call("remove", job=ended.name, force=force)
            assert refused.value.code == "state"
        assert ended.exists()

    def test_a_start_on_its_way_is_pending_and_not_removed(
        self, wire: Wire, state_dir: Path
    ) -> None:
        directory = state_dir / "jobs" / new_id()
        directory.parent.mkdir(mode=0o700)
        directory.mkdir(mode=0o700)
        claim = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(claim, fcntl.LOCK_EX)
            assert shown(wire, directory)["state"] == "PENDING"
            with pytest.raises(Refused, match="PENDING"):
                wire.call("remove", job=directory.name, force=False)
        finally:
            os.close(claim)
        assert shown(wire, directory)["state"] == "LOST"
        assert wire.call("remove", job=directory.name, force=False) == {}


class TestUntrusted:
    """Not a directory that is ours alone: listed with the reason, and removed by force only."""

    @pytest.fixture(params=["writable by others", "a link", "a file"])
    def untrusted(self, request: pytest.FixtureRequest, ended: Path, tmp_path: Path) -> Path:
        if request.param == "writable by others":
            ended.chmod(0o777)
            return ended
        path = ended.with_name(new_id())
        if request.param == "a link":
            elsewhere = tmp_path / "elsewhere"
            elsewhere.mkdir(mode=0o700)
            (elsewhere / "precious").write_text("kept")
            path.symlink_to(elsewhere)
        else:
            path.write_text("")
        return path

    def test_it_is_removed_by_force_only(self, wire: Wire, untrusted: Path, tmp_path: Path) -> None:
        view = shown(wire, untrusted)
        assert view["state"] == "LOST"
        assert untrusted.name in view["problem"]
        for verb, args in (("stop", {"grace": 1.0}), ("remove", {"force": False})):
            with pytest.raises(Refused, match="cannot be used") as refused:
                wire.call(verb, job=untrusted.name, **args)
            assert refused.value.code == "state"
            assert "force" in refused.value.facts["hint"]
        assert os.path.lexists(untrusted)
        assert wire.call("remove", job=untrusted.name, force=True) == {}
        assert not os.path.lexists(untrusted)
        assert (tmp_path / "state" / "gone" / untrusted.name).exists()
        precious = tmp_path / "elsewhere" / "precious"
        assert not precious.parent.exists() or precious.read_text() == "kept"

    def test_what_others_could_have_written_there_ends_nobody(
        self, bring_up: Callable[..., Wire], ended: Path
    ) -> None:
        wire = bring_up()
        with subprocess.Popen(["sleep", "1000"], start_new_session=True) as stranger:
            fields = Path(f"/proc/{stranger.pid}/stat").read_text().rpartition(")")[2].split()
            change(ended / "process.json", pid=stranger.pid, start_time=int(fields[19]))
            (ended / "outcome.json").unlink()
            ended.chmod(0o777)
            assert wire.call("remove", job=ended.name, force=True) == {}
            assert stranger.poll() is None
            stranger.kill()

    def test_its_job_is_ended_before_it_is_removed(self, wire: Wire, running: Path) -> None:
        running.chmod(0o777)
        assert wire.call("remove", job=running.name, force=True) == {}
        wait_until_gone(running.name)
        assert not running.exists()

    def test_another_accounts_directory_stays(self, wire: Wire, ended: Path) -> None:
        needs.root("giving a directory away")
        os.chown(ended, 65534, 65534)
        before = content(ended)
        with pytest.raises(Refused, match="belongs to user 65534") as refused:
            wire.call("remove", job=ended.name, force=True)
        assert refused.value.code == "state"
        assert content(ended) == before
