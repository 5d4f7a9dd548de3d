"""Jobs whose supervisors are of the first version, and the present agent."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, new_id, processes_of
from testbed import processes, run

SUPERVISOR = Path(__file__).with_name("first_version") / "supervisor.py"


class Old:
    """A job of the first version's: it prints what it is told, and exits when told ``end``."""

    def __init__(self, state: Path) -> None:
        self.id = new_id()
        self.directory = state / "jobs" / self.id
        gate = state.parent / f"gate-{self.id}"
        os.mkfifo(gate)
        self._gate = os.open(gate, os.O_RDWR)
        line = (
            f'echo began >&2; while read w; do [ "$w" = end ] && exit 3; echo "$w"; done < {gate}'
        )
        self.argv = ["sh", "-c", line]
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", SUPERVISOR, state, self.id, "old", *self.argv],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"up\n"
        # Readers may come from here on; before that it is about to start.
        run.wait_until((self.directory / "process.json").exists, "its first process")

    def tell(self, line: str) -> None:
        os.write(self._gate, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._gate)
        self.process.kill()
        with self.process:
            pass
        processes.kill(processes_of(self.id))


@pytest.fixture
def old(state_dir: Path) -> Iterator[Old]:
    old = Old(state_dir)
    yield old
    old.close()


def listed(wire: Wire) -> Any:
    (found,) = wire.call("jobs", after=None, limit=10)["jobs"]
    return found


def test_it_is_listed_watched_and_read_to_its_end(old: Old, wire: Wire) -> None:
    found = listed(wire)
    assert (found["id"], found["name"], found["state"]) == (old.id, "old", "RUNNING")
    assert found["command"]["argv"] == [word.encode() for word in old.argv]
    assert found["problem"] is None
    watching = wire.request("watch", job=old.id)
    assert wire.accepted(watching)["state"] == "RUNNING"
    reading = wire.request("read", job=old.id, position=None, follow=True, consume=False)
    wire.accepted(reading)
    assert wire.piece(reading).data == b"began\n"
    for line in ("one", "two"):
        old.tell(line)
        assert wire.piece(reading).data == f"{line}\n".encode()
    old.tell("end")
    done = wire.collect(watching)
    assert (done.job["state"], done.outcome["exit_status"]) == ("FAILED", 3)
    assert (done.job["sizes"]["stdout"], done.job["sizes"]["stderr"]) == (8, 6)
    assert wire.collect(reading).end["complete"]


def test_it_runs_on_without_agents_and_what_is_used_up_is_remembered(
    old: Old, bring_up: Callable[..., Wire]
) -> None:
    first = bring_up()
    old.tell("one")
    reading = first.request("read", job=old.id, position=None, follow=True, consume=True)
    first.accepted(reading)
    position = {"stdout": 0, "stderr": 0}
    while sum(position.values()) < len(b"began\none\n"):
        piece = first.piece(reading)
        position[("stdout", "stderr")[piece.stream - 1]] += len(piece.data)
        first.event(reading, "used", position=position)
    first.close_channel(reading)
    assert first.goodbye()["left"] == []
    old.tell("two")
    old.tell("end")
    assert old.process.wait(10) == 0
    second = bring_up()
    assert listed(second)["has_more"]
    reading = second.request("read", job=old.id, position=None, follow=True, consume=True)
    begin = second.accepted(reading)["position"]
    assert {stream: begin[stream] for stream in position} == position
    assert second.piece(reading).data == b"two\n"
    assert second.call("remove", job=old.id, force=False) == {}
    assert not old.directory.exists()


def test_it_is_suspended_resumed_and_stopped(old: Old, wire: Wire) -> None:
    watching = wire.request("watch", job=old.id)
    wire.accepted(watching)
    assert wire.call("suspend", job=old.id)["state"] == "SUSPENDED"
    assert listed(wire)["state"] == "SUSPENDED"
    assert wire.call("resume", job=old.id)["state"] == "RUNNING"
    answer = wire.call("stop", job=old.id, grace=5.0)
    assert answer["survivors"] == []
    assert (answer["job"]["state"], answer["job"]["outcome"]["reason"]) == ("STOPPED", "stopped")
    assert wire.collect(watching).job["state"] == "STOPPED"
    assert processes_of(old.id) == []
    assert old.process.wait(10) == 0
    assert list((old.directory / "ask").iterdir()) == []


def test_it_is_removed_by_force_while_it_runs(old: Old, wire: Wire) -> None:
    with pytest.raises(Refused, match="RUNNING"):
        wire.call("remove", job=old.id, force=False)
    assert wire.call("remove", job=old.id, force=True) == {}
    assert not old.directory.exists()
    assert processes_of(old.id) == []


def test_its_id_is_not_run_again(old: Old, wire: Wire) -> None:
    channel = wire.request("start", **job("/bin/false", spool=True, id=old.id))
    again = wire.accepted(channel)
    assert (again["state"], again["name"]) == ("RUNNING", "old")
    assert wire.call("seal", job=old.id) == {"ran": True}


def test_what_such_a_supervisor_does_not_know_it_says(old: Old) -> None:
    """What later versions may put into ask/: a refusal is the answer, and the job goes on."""
    ask = old.directory / "ask"
    (ask / ".fresh").write_text("{}")
    (ask / ".fresh").rename(ask / "dance-0123")
    with (old.directory / "wake").open("wb", buffering=0) as wake:
        wake.write(b"w")
    run.wait_until((ask / "answer-dance-0123").exists, "an answer")
    assert "error" in (ask / "answer-dance-0123").read_text()
    assert old.process.poll() is None


def test_killed_it_leaves_a_lost_job_that_can_be_stopped(old: Old, wire: Wire) -> None:
    watching = wire.request("watch", job=old.id)
    wire.accepted(watching)
    run.wait_until((lambda: bool((old.directory / "stderr").stat().st_size)), "its first output")
    old.process.kill()
    done = wire.collect(watching)
    assert (done.job["state"], done.outcome["reason"]) == ("LOST", "supervisor-lost")
    reading = wire.request("read", job=old.id, position=None, follow=True, consume=False)
    assert wire.collect(reading).stderr == b"began\n"
    assert processes_of(old.id)
    assert wire.call("stop", job=old.id, grace=5.0)["survivors"] == []
    run.wait_until(lambda: not processes_of(old.id), "what it started to end", timeout=5)
