"""Kept jobs through an agent: how they start, end and are stopped, and what outlives what."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agent.harness import (
    Refused,
    Wire,
    job,
    new_id,
    processes_of,
    wait_until_ended,
    wait_until_gone,
)
from testbed import needs
from testbed.processes import find, running

DEADLINE = 15.0


def keep(wire: Wire, *argv: str, stdin: bytes | None = None, **args: Any) -> tuple[int, Any]:
    """Starts a kept job: its channel and the job map that it was accepted with."""
    channel = wire.request("start", **job(*argv, spool=True, stdin=stdin is not None, **args))
    if stdin is not None:
        wire.send(channel, stdin)
        wire.send_eof(channel)
    return channel, wire.accepted(channel)


def shown(wire: Wire, job_id: str) -> Any:
    (found,) = wire.call("find", name=job_id)["jobs"]
    return found


def wait_for(what: Callable[[], object], deadline: float = DEADLINE) -> None:
    until = time.monotonic() + deadline
    while not what():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} stayed false")
        time.sleep(0.02)


def process_of(state_dir: Path, job_id: str) -> Any:
    return json.loads((state_dir / "jobs" / job_id / "process.json").read_text())


def supervisor_of(state_dir: Path, job_id: str) -> int:
    return int(process_of(state_dir, job_id)["supervisor"]["pid"])


class TestEnd:
    @pytest.mark.parametrize(
        ("line", "state", "reason", "exit_status", "signal_name"),
        [
            ("exit 0", "COMPLETED", "exited", 0, None),
            ("exit 3", "FAILED", "exited", 3, None),
            ("kill -KILL $$", "FAILED", "signalled", None, "SIGKILL"),
        ],
    )
    def test_an_end_by_itself(
        self,
        wire: Wire,
        line: str,
        state: str,
        reason: str,
        exit_status: int | None,
        signal_name: str | None,
    ) -> None:
        channel, accepted = keep(wire, line=line)
        done = wire.collect(channel).job
        assert done["state"] == state
        end = done["outcome"]
        assert (end["reason"], end["exit_status"]) == (reason, exit_status)
        assert end["signal"] == signal_name
        assert accepted["created"] <= done["started"] <= done["finished"]

    def test_a_missing_program_and_a_missing_directory_are_told_apart(self, wire: Wire) -> None:
        _, accepted = keep(wire, "no-such-program-here")
        assert (accepted["state"], accepted["outcome"]["reason"]) == ("FAILED", "start-failed")
        assert accepted["outcome"]["error"] == "no such program: no-such-program-here"
        assert accepted["started"] is None
        _, accepted = keep(wire, "/bin/true", cwd=b"/no/such")
        assert accepted["outcome"]["error"] == "no such directory: /no/such"

    def test_a_time_limit(self, wire: Wire) -> None:
        channel, accepted = keep(wire, "sleep", "1000", timeout=0.2)
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("FAILED", "timeout")
        wait_until_gone(accepted["id"])

    def test_output_held_open_by_a_grandchild_is_waited_for_briefly(self, wire: Wire) -> None:
        began = time.monotonic()
        channel, accepted = keep(wire, line="setsid sleep 1000 & echo done")
        done = wire.collect(channel)
        assert time.monotonic() - began < 6
        assert done.job["state"] == "COMPLETED"
        assert "output held open by pid" in done.outcome["note"]
        assert "(sleep)" in done.outcome["note"]
        assert len(done.outcome["left_behind"]) == 1
        # The job is over, and what it left behind can still be stopped by its id.
        watching = wire.request("watch", job=accepted["id"])
        assert wire.accepted(watching)["state"] == "COMPLETED"
        with pytest.raises(Refused, match="left behind runs on") as refused:
            wire.call("remove", job=accepted["id"], force=False)
        assert refused.value.code == "state"
        assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
        assert processes_of(accepted["id"]) == []
        assert wire.collect(watching).job["state"] == "COMPLETED"


class TestStart:
    def test_the_environment_and_stdin_reach_the_job_and_no_file(
        self, wire: Wire, state_dir: Path
    ) -> None:
        channel, accepted = keep(
            wire, line="echo $SECRET; wc -c", env={b"SECRET": b"qwertz"}, stdin=b"x" * 3_000_000
        )
        done = wire.collect(channel).job
        directory = state_dir / "jobs" / accepted["id"]
        assert (directory / "stdout").read_bytes().split() == [b"qwertz", b"3000000"]
        assert done["sizes"]["stdout"] == (directory / "stdout").stat().st_size
        others = [path for path in directory.iterdir() if path.is_file() and path.name != "stdout"]
        assert not any(b"qwertz" in path.read_bytes() for path in others)

    def test_all_files_are_private(self, wire: Wire, state_dir: Path) -> None:
        channel, accepted = keep(wire, "/bin/true")
        wire.collect(channel)
        directory = state_dir / "jobs" / accepted["id"]
        assert directory.stat().st_mode & 0o777 == 0o700
        for path in directory.iterdir():
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path

    def test_a_repeated_start_runs_nothing(self, bring_up: Callable[..., Wire]) -> None:
        first, second = bring_up(), bring_up()
        asked = job(line="echo once; sleep 1000", spool=True)
        channels = [(wire, wire.request("start", **asked)) for wire in (first, second, first)]
        answers = [wire.accepted(channel) for wire, channel in channels]
        assert {answer["started"] for answer in answers} == {answers[0]["started"]}
        assert len(processes_of(asked["id"])) == 2
        first.call("stop", job=asked["id"], grace=5.0)
        for wire, channel in channels:
            assert wire.collect(channel).job["state"] == "STOPPED"
        again = second.request("start", **asked)
        assert second.accepted(again)["state"] == "STOPPED"

    def test_a_removed_or_sealed_id_never_runs(self, wire: Wire, state_dir: Path) -> None:
        channel, accepted = keep(wire, "/bin/true")
        wire.collect(channel)
        wait_for(lambda: wire.call("remove", job=accepted["id"], force=True) == {})
        assert (state_dir / "gone" / accepted["id"]).read_bytes() == b""
        with pytest.raises(Refused, match="its id cannot be used again") as refused:
            keep(wire, "/bin/true", id=accepted["id"])
        assert refused.value.code == "gone"
        sealed = new_id()
        assert wire.call("seal", job=sealed) == {"ran": False}
        assert wire.call("seal", job=sealed) == {"ran": False}
        with pytest.raises(Refused, match="its id cannot be used again") as refused:
            keep(wire, "/bin/true", id=sealed)
        assert refused.value.code == "gone"
        assert wire.call("jobs", after=None, limit=10)["jobs"] == []

    def test_what_ran_is_not_sealed(self, wire: Wire) -> None:
        channel, accepted = keep(wire, "/bin/true")
        assert wire.call("seal", job=accepted["id"]) == {"ran": True}
        assert wire.collect(channel).job["state"] == "COMPLETED"
        assert wire.accepted(
            wire.request("start", **job("/bin/true", spool=True, id=accepted["id"]))
        )

    def test_a_start_given_up_before_its_answer_is_taken_back(
        self, wire: Wire, state_dir: Path
    ) -> None:
        asked = job("sleep", "1000", spool=True)
        channel = wire.request("start", **asked)
        wire.close_channel(channel)
        wait_for(lambda: _pumped(wire) and (state_dir / "gone" / asked["id"]).exists())
        wait_for(lambda: not (state_dir / "jobs" / asked["id"]).exists())
        assert processes_of(asked["id"]) == []

    def test_a_start_cut_short_before_its_first_process_is_run_by_the_next(
        self, wire: Wire, state_dir: Path
    ) -> None:
        asked = job(line="echo ran", spool=True)
        (state_dir / "jobs" / asked["id"]).mkdir(parents=True, mode=0o700)
        (state_dir / "jobs").chmod(0o700)
        channel = wire.request("start", **asked)
        wire.accepted(channel)
        assert wire.collect(channel).job["sizes"]["stdout"] == 4

    def test_too_much_stdin_is_refused(self, wire: Wire) -> None:
        channel = wire.request("start", **job("wc", spool=True, stdin=True))
        wire.send(channel, b"x" * ((64 << 20) + 1))
        with pytest.raises(Refused, match="64 MiB at most"):
            wire.accepted(channel)

    @pytest.mark.parametrize(
        "args",
        [{"id": "../../etc"}, {"lifetime": "eternal"}, {"limits": {"x": b"raw"}}, {"timeout": -1.0},
         {"command": {"argv": []}}, {"stdin": "yes"}],
    )  # fmt: skip
    def test_arguments_that_make_no_sense(self, wire: Wire, args: dict[str, Any]) -> None:
        with pytest.raises(Refused) as refused:
            wire.accepted(wire.request("start", **job("/bin/true", spool=True, **args)))
        assert refused.value.code == "bad-request"


def _pumped(wire: Wire) -> bool:
    wire.settle(0.01)
    return True


class TestStop:
    def test_no_process_is_left_daemons_included(self, wire: Wire) -> None:
        sleep = f"sleep 1000{os.getpid()}{time.monotonic_ns()}"
        channel, accepted = keep(
            wire, line=f"(setsid env -u REMIT_JOB {sleep} &) ; setsid {sleep} & {sleep}"
        )
        wait_for(lambda: len(_sleepers(sleep)) == 3)
        assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
        assert _sleepers(sleep) == []
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("STOPPED", "stopped")

    def test_one_that_ignores_term_is_killed_after_the_grace(self, wire: Wire) -> None:
        _, accepted = keep(wire, line="trap '' TERM; echo up; while :; do sleep 0.1; done")
        wait_for(lambda: shown(wire, accepted["id"])["sizes"]["stdout"] == 3)
        answer = wire.call("stop", job=accepted["id"], grace=0.3)
        assert answer["job"]["state"] == "STOPPED"
        assert answer["job"]["outcome"]["signal"] == "SIGKILL"

    def test_a_second_stop_with_less_patience_is_heard(self, wire: Wire) -> None:
        channel, accepted = keep(wire, line="trap '' TERM; echo up; while :; do sleep 0.1; done")
        wait_for(lambda: shown(wire, accepted["id"])["sizes"]["stdout"] == 3)
        patient = wire.request("stop", job=accepted["id"], grace=1000.0)
        wire.wait_for_state(channel, "STOPPING")
        assert wire.call("stop", job=accepted["id"], grace=0.0)["survivors"] == []
        assert wire.reply(patient)["job"]["state"] == "STOPPED"

    def test_a_suspended_job_is_seen_resumed_and_stopped(self, wire: Wire) -> None:
        channel, accepted = keep(wire, line="sleep 1000")
        assert wire.call("suspend", job=accepted["id"])["state"] == "SUSPENDED"
        assert wire.call("resume", job=accepted["id"])["state"] == "RUNNING"
        wire.call("suspend", job=accepted["id"])
        assert wire.call("stop", job=accepted["id"], grace=5.0)["job"]["state"] == "STOPPED"
        assert wire.collect(channel).states[:3] == ["SUSPENDED", "RUNNING", "SUSPENDED"]
        with pytest.raises(Refused, match="is STOPPED: cannot suspend") as refused:
            wire.call("suspend", job=accepted["id"])
        assert refused.value.code == "state"

    def test_term_for_the_supervisor_stops_the_job_with_its_record_written(
        self, wire: Wire, state_dir: Path
    ) -> None:
        channel, accepted = keep(wire, "sleep", "1000")
        supervisor = supervisor_of(state_dir, accepted["id"])
        os.kill(supervisor, signal.SIGHUP)
        os.kill(supervisor, signal.SIGINT)
        os.kill(supervisor, signal.SIGTERM)
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("STOPPED", "stopped")

    def test_removing_a_running_job_takes_force(self, wire: Wire, state_dir: Path) -> None:
        channel, accepted = keep(wire, "sleep", "1000")
        with pytest.raises(Refused, match="RUNNING") as refused:
            wire.call("remove", job=accepted["id"], force=False)
        assert refused.value.code == "state"
        assert wire.call("remove", job=accepted["id"], force=True) == {}
        assert not (state_dir / "jobs" / accepted["id"]).exists()
        assert wire.collect(channel).job["state"] == "STOPPED"
        for verb in ("stop", "remove", "suspend", "watch", "read", "save"):
            with pytest.raises(Refused, match="is kept here") as refused:
                wire.accepted(wire.request(verb, job=accepted["id"], path=b"x"))
            assert refused.value.code == "not-found", verb

    def test_old_seals_are_forgotten(self, wire: Wire, state_dir: Path) -> None:
        wire.call("seal", job=new_id())
        old, young = new_id(), new_id()
        for job_id, days in ((old, 8), (young, 6)):
            path = state_dir / "gone" / job_id
            path.touch()
            os.utime(path, (time.time() - days * 86400,) * 2)
        channel, accepted = keep(wire, "/bin/true")
        wire.collect(channel)
        wait_for(lambda: wire.call("remove", job=accepted["id"], force=True) == {})
        left = {path.name for path in (state_dir / "gone").iterdir()}
        assert (old in left, young in left, accepted["id"] in left) == (False, True, True)


def _sleepers(words: str) -> list[int]:
    """The processes that are this very ``sleep``, whoever started them."""
    return [pid for pid in running(words) if (process := find(pid)) and process.name == "sleep"]


class TestWhatOutlivesWhat:
    def test_a_job_goes_on_without_its_agent_and_its_end_is_recorded(
        self, bring_up: Callable[..., Wire], state_dir: Path, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        os.mkfifo(go)
        first = bring_up()
        _, accepted = keep(first, line=f"cat {go}; exit 7")
        first.kill()
        first.wait_ended()
        assert find(supervisor_of(state_dir, accepted["id"]))
        go.write_bytes(b"said after the agent's end\n")
        second = bring_up()
        done = second.collect(second.request("watch", job=accepted["id"])).job
        assert (done["state"], done["outcome"]["exit_status"]) == ("FAILED", 7)
        read = second.collect(
            second.request("read", job=accepted["id"], position=None, follow=True, consume=False)
        )
        assert read.stdout == b"said after the agent's end\n"

    def test_without_its_supervisor_a_job_is_lost_and_can_still_be_stopped(
        self, wire: Wire, state_dir: Path
    ) -> None:
        channel, accepted = keep(
            wire, line="trap '' PIPE; echo before; setsid sleep 1000 & sleep 1000; sleep 1000"
        )
        wait_for(lambda: shown(wire, accepted["id"])["sizes"]["stdout"] == 7)
        os.kill(supervisor_of(state_dir, accepted["id"]), signal.SIGKILL)
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("LOST", "supervisor-lost")
        read = wire.request("read", job=accepted["id"], position=None, follow=True, consume=False)
        assert wire.collect(read).stdout == b"before\n"
        again = wire.request("start", **job("/bin/true", spool=True, id=accepted["id"]))
        assert wire.accepted(again)["outcome"]["reason"] == "may-have-run"
        assert processes_of(accepted["id"])
        assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
        assert processes_of(accepted["id"]) == []

    def test_a_session_that_ends_in_order_takes_its_jobs_along(
        self, bring_up: Callable[..., Wire], state_dir: Path
    ) -> None:
        wire = bring_up()
        _, running = keep(wire, "sleep", "1000", lifetime="session")
        channel, ended = keep(wire, line="echo over", lifetime="session")
        wire.collect(channel)
        _, detached = keep(wire, "sleep", "1000")
        assert wire.goodbye()["left"] == []
        assert {path.name for path in (state_dir / "jobs").iterdir()} == {detached["id"]}
        assert processes_of(running["id"]) == []
        assert (state_dir / "gone" / ended["id"]).exists()
        assert find(supervisor_of(state_dir, detached["id"]))
        other = bring_up()
        assert other.call("remove", job=detached["id"], force=True) == {}

    @pytest.mark.parametrize("how", ["the link breaks", "the agent is killed"])
    def test_after_a_broken_end_what_they_wrote_stays_a_day(
        self, bring_up: Callable[..., Wire], state_dir: Path, how: str
    ) -> None:
        wire = bring_up()
        _, running = keep(wire, line="echo kept; sleep 1000", lifetime="session")
        wait_for(lambda: shown(wire, running["id"])["sizes"]["stdout"] == 5)
        if how == "the link breaks":
            wire.hang_up()
        else:
            wire.kill()
        wire.wait_ended()
        other = bring_up()
        wait_until_gone(running["id"])
        done = other.collect(other.request("watch", job=running["id"])).job
        assert (done["state"], done["outcome"]["reason"]) == ("STOPPED", "session-ended")
        (left,) = other.call("jobs", after=None, limit=10)["jobs"]
        assert left["sizes"]["stdout"] == 5
        expires = state_dir / "jobs" / running["id"] / "expires"
        assert 86000 < json.loads(expires.read_text())["time"] - time.time() <= 86400
        expires.write_text(json.dumps({"time": time.time() - 1}))
        assert other.call("jobs", after=None, limit=10)["jobs"] == []
        assert not expires.parent.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    needs.root("mounting a small file system")
    path = tmp_path / "small"
    path.mkdir()
    options = ["-o", "size=16m,mode=0700"]
    subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)


class TestFullDisk:
    def test_the_job_is_stopped_and_its_end_recorded(
        self, bring_up: Callable[..., Wire], small_disk: Path
    ) -> None:
        wire = bring_up(state=small_disk)
        channel, accepted = keep(wire, line="head -c 100000000 /dev/zero; sleep 1000")
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("FAILED", "no-space")
        assert "No space left" in done.outcome["error"]
        directory = small_disk / "jobs" / accepted["id"]
        written = (directory / "stdout").stat().st_size
        assert written > 15_000_000
        assert done.job["sizes"]["stdout"] == written
        read = wire.request("read", job=accepted["id"], position=None, follow=True, consume=False)
        collected = wire.collect(read)
        assert collected.end["complete"]
        assert sum(len(piece.data) for piece in collected.pieces) == written
        # Nothing more can be kept there until something is removed.
        with pytest.raises(Refused, match="No space left") as refused:
            keep(wire, "/bin/true")
        assert refused.value.code == "no-state"
        assert wire.call("remove", job=accepted["id"], force=True) == {}
        channel, _ = keep(wire, "/bin/true")
        assert wire.collect(channel).job["state"] == "COMPLETED"

    def test_a_stop_gets_through(self, bring_up: Callable[..., Wire], small_disk: Path) -> None:
        wire = bring_up(state=small_disk)
        channel, accepted = keep(wire, "sleep", "1000")
        _fill(small_disk)
        assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
        assert wire.collect(channel).job["state"] == "STOPPED"


def _fill(directory: Path) -> None:
    with (directory / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def test_a_supervisor_is_gone_once_nothing_of_its_job_runs(wire: Wire, state_dir: Path) -> None:
    channel, accepted = keep(wire, "/bin/true")
    wire.collect(channel)
    wait_until_ended(supervisor_of(state_dir, accepted["id"]))
