"""What a supervisor bears: requests that are none, stops from its own job, limits of the system."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, new_id, processes_of, wait_until_ended
from testbed import pythons
from testbed.disk import Disk
from testbed.limits import ProcessLimit
from testbed.processes import descendants, find

# Longer than the patience with a supervisor that is stopped again and again.
DEADLINE = 60.0
MUCH = 48 << 20
LITTLE = 8 << 20
# Nothing is said on the link while a disk is filled, which takes what the disk needs.
SILENCE = 600.0
STOPS = "while :; do kill -STOP $PPID; done"


def keep(wire: Wire, *argv: str, **args: Any) -> tuple[int, Any]:
    channel = wire.request("start", **job(*argv, spool=True, **args))
    return channel, wire.accepted(channel, DEADLINE)


def shown(wire: Wire, job_id: str) -> Any:
    (found,) = wire.call("find", name=job_id)["jobs"]
    return found


def wait_for(what: Callable[[], object], deadline: float = DEADLINE) -> None:
    until = time.monotonic() + deadline
    while not what():
        if time.monotonic() > until:
            raise TimeoutError(f"{what} stayed false")
        time.sleep(0.02)


def told(directory: Path, name: str) -> Any:
    return json.loads((directory / name).read_text())


def supervisor_of(directory: Path) -> int:
    return int(told(directory, "process.json")["supervisor"]["pid"])


def private(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


# -- requests


def a_directory(path: Path) -> None:
    (path / "deeper" / "still").mkdir(parents=True)


def a_socket(path: Path) -> None:
    directory = os.open(path.parent, os.O_PATH)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(f"/proc/self/fd/{directory}/{path.name}")
    os.close(directory)


def a_huge_file(path: Path) -> None:
    with path.open("x") as file:
        file.truncate(1 << 40)


def text(data: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(data)


GARBAGE: dict[str, Callable[[Path], object]] = {
    "stop-directory": a_directory,
    "stop-empty-directory": Path.mkdir,
    "suspend-fifo": os.mkfifo,
    "stop-socket": a_socket,
    "stop-link": lambda path: path.symlink_to("/etc/passwd"),
    "stop-dangling": lambda path: path.symlink_to("nowhere"),
    "resume-loop": lambda path: path.symlink_to(path.name),
    "stop-cut": text("{"),
    "stop-cut-later": text('{"grace": 1'),
    "stop-nothing": text(""),
    "stop-list": text("[]"),
    "stop-deep": text("[" * 100_000),
    "stop-huge": a_huge_file,
    "stop-large": text('{"grace": "' + "x" * (9 << 20) + '"}'),
    "stop-binary": lambda path: path.write_bytes(b"\0\xff\x80"),
    "unknown": text("{}"),
    "-": text("{}"),
    "stop-" + "n" * 250: text("{"),
    "\udcff\udc80": text("{}"),
    **{f"what-{number}": text("{}") for number in range(200)},
}


@pytest.mark.parametrize("python", pythons.found(), ids=lambda python: python.version)
def test_what_is_no_request_is_answered_or_put_aside_and_the_next_one_is_heard(
    wire: Wire, state_dir: Path
) -> None:
    channel, accepted = keep(wire, "sleep", "1000")
    directory = state_dir / "jobs" / accepted["id"]
    for name, make in GARBAGE.items():
        make(directory / "ask" / name)
    assert wire.call("suspend", job=accepted["id"])["state"] in ("SUSPENDED", "STOPPING")
    wire.call("resume", job=accepted["id"])
    wait_for(lambda: not {path.name for path in (directory / "ask").iterdir()} & GARBAGE.keys())
    assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
    assert wire.collect(channel).job["state"] == "STOPPED"
    assert wire.call("remove", job=accepted["id"], force=True) == {}


@pytest.mark.parametrize("grace", ["1e400", "-1", '"soon"', "null", "1" + "0" * 400, "[]", "true"])
def test_a_grace_that_is_none_is_the_usual_one(wire: Wire, state_dir: Path, grace: str) -> None:
    channel, accepted = keep(wire, "sleep", "1000")
    directory = state_dir / "jobs" / accepted["id"]
    (directory / "ask" / "stop-1").write_text(f'{{"grace": {grace}}}')
    (directory / "wake").write_text("w")
    assert wire.collect(channel).job["state"] == "STOPPED"


# -- times and limits


@pytest.mark.parametrize("seconds", [2_147_484.0, 9e9])
def test_limits_of_many_days_are_waited_for(wire: Wire, seconds: float) -> None:
    channel, accepted = keep(
        wire,
        line="read x; exit 3",
        timeout=seconds,
        lifetime="lease",
        limits={"lease": seconds},
        stdin=False,
    )
    done = wire.collect(channel)
    assert (done.job["state"], done.outcome["exit_status"]) == ("FAILED", 3)
    channel, accepted = keep(wire, "sleep", "1000", timeout=seconds)
    wire.call("stop", job=accepted["id"], grace=5.0)
    assert wire.collect(channel).job["state"] == "STOPPED"


def test_a_time_limit_holds_where_no_process_can_be_had(
    wire: Wire, state_dir: Path, process_limit: ProcessLimit
) -> None:
    channel, accepted = keep(wire, line="while :; do sleep 1000; done", timeout=2.0)
    process_limit.take(supervisor_of(state_dir / "jobs" / accepted["id"]))
    process_limit.set(0)
    done = wire.collect(channel, DEADLINE)
    assert done.outcome["reason"] == "timeout"
    assert processes_of(accepted["id"]) == []


def test_a_start_with_stdin_is_answered_where_no_process_can_be_had(
    wire: Wire, process_limit: ProcessLimit
) -> None:
    first, _ = keep(wire, "true")  # the process that supervisors come from is there
    wire.collect(first)
    process_limit.take(wire.agent_pid)
    channels = []
    for _ in range(2):
        channels.append(wire.request("start", **job("wc", spool=True, stdin=True)))
        wire.send(channels[-1], b"some")
    process_limit.hold()
    for channel in channels:
        wire.send_eof(channel)
        with pytest.raises(Refused, match="no process is available") as refused:
            wire.accepted(channel)
        assert refused.value.facts["errno"] == errno.EAGAIN
    process_limit.lift()
    channel, _ = keep(wire, "true")
    assert wire.collect(channel).job["state"] == "COMPLETED"


@pytest.mark.parametrize("size", [70_000, 1 << 17])
def test_names_that_are_too_long_are_told_in_part(wire: Wire, size: int) -> None:
    """`size` is more than a pipe holds, with room for the escapes."""
    long = b"/" + b"\xff" * (size - 20)
    for argv, cwd in ((long, None), (b"true", long)):
        channel = wire.request("start", **job(argv, spool=True, cwd=cwd))
        view = wire.accepted(channel)
        assert view["outcome"]["reason"] == "start-failed"
        assert len(view["outcome"]["error"]) <= 500


# -- a job that stops its supervisor


class TestStopped:
    def test_one_that_is_stopped_at_first_is_woken(self, wire: Wire, state_dir: Path) -> None:
        channel, accepted = keep(wire, line="kill -STOP $PPID; echo on; exit 3")
        directory = state_dir / "jobs" / accepted["id"]
        wait_for(
            lambda: _is_stopped(supervisor_of(directory)) or (directory / "outcome.json").exists()
        )
        answer = wire.call("stop", DEADLINE, job=accepted["id"], grace=5.0)
        assert answer["survivors"] == []
        done = wire.collect(channel, DEADLINE)
        assert done.job["state"] in ("FAILED", "STOPPED")
        wait_until_ended(supervisor_of(directory))

    @pytest.mark.parametrize("verb", ["stop", "remove"])
    def test_one_that_is_stopped_on_and_on_is_done_without(
        self, wire: Wire, state_dir: Path, verb: str
    ) -> None:
        sleep = f"sleep 1000{os.getpid()}{time.monotonic_ns()}"
        line = f"(setsid env -u REMIT_JOB {sleep} &); trap '' TERM; {STOPS}"
        _, accepted = keep(wire, line=line)
        directory = state_dir / "jobs" / accepted["id"]
        supervisor = supervisor_of(directory)
        wait_for(lambda: _is_stopped(supervisor))
        args: dict[str, Any] = {"grace": 0.5} if verb == "stop" else {"force": True}
        wire.call(verb, DEADLINE, job=accepted["id"], **args)
        assert processes_of(accepted["id"]) == []
        wait_until_ended(supervisor)
        assert [each for each in descendants([1]) if each.name == sleep] == []

    def test_a_start_given_up_is_taken_back(self, wire: Wire, state_dir: Path) -> None:
        asked = job(line=f"trap '' TERM; {STOPS}", spool=True)
        channel = wire.request("start", **asked)
        directory = state_dir / "jobs" / asked["id"]
        wire.close_channel(channel)  # at once: what was answered would not be taken back

        def gone() -> bool:
            wire.settle(0.05)
            return (state_dir / "gone" / asked["id"]).exists() and not directory.exists()

        wait_for(gone)
        assert processes_of(asked["id"]) == []

    def test_the_process_that_supervisors_come_from_is_woken_too(self, wire: Wire) -> None:
        first, _ = keep(wire, "true")
        wire.collect(first)
        (forkserver,) = [
            each for each in descendants([wire.agent_pid]) if each.name == "remit-keep"
        ]
        os.kill(forkserver.pid, signal.SIGSTOP)
        channel, _ = keep(wire, "true")
        assert wire.collect(channel).job["state"] == "COMPLETED"

    @pytest.mark.parametrize("number", [signal.SIGTSTP, signal.SIGUSR1, signal.SIGQUIT])
    def test_what_a_terminal_or_a_script_sends_is_ignored(
        self, wire: Wire, state_dir: Path, number: int
    ) -> None:
        channel, _accepted = keep(wire, line=f"kill -{int(number)} $PPID; exit 3")
        assert wire.collect(channel).outcome["exit_status"] == 3


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "T"


# -- what is taken from under it


class TestDeleted:
    @pytest.mark.parametrize("verb", ["stop", "remove"])
    def test_a_job_whose_state_directory_is_gone_is_reached(
        self, wire: Wire, state_dir: Path, verb: str
    ) -> None:
        _, accepted = keep(wire, line="setsid sleep 1000 & sleep 1000")
        supervisor = supervisor_of(state_dir / "jobs" / accepted["id"])
        shutil.rmtree(state_dir / "jobs")
        if verb == "stop":
            answer = wire.call("stop", DEADLINE, job=accepted["id"], grace=5.0)
            assert answer["survivors"] == []
            assert answer["job"]["state"] == "STOPPED"
        else:
            assert wire.call("remove", DEADLINE, job=accepted["id"], force=True) == {}
        assert processes_of(accepted["id"]) == []
        wait_until_ended(supervisor)
        with pytest.raises(Refused, match="is kept here") as refused:
            wire.call("stop", DEADLINE, job=accepted["id"], grace=5.0)
        assert refused.value.code == "not-found"

    @pytest.mark.parametrize("what", ["wake", "ask", "lock"])
    def test_a_job_that_deletes_what_it_is_reached_by_is_stopped(
        self, wire: Wire, state_dir: Path, what: str
    ) -> None:
        _, accepted = keep(wire, "sleep", "1000")
        directory = state_dir / "jobs" / accepted["id"]
        supervisor = supervisor_of(directory)
        if what == "ask":
            (directory / what).rmdir()
        else:
            (directory / what).unlink()
        assert wire.call("stop", DEADLINE, job=accepted["id"], grace=5.0)["survivors"] == []
        assert processes_of(accepted["id"]) == []
        wait_until_ended(supervisor)


# -- memory


def test_input_is_let_go_of_once_it_is_read(wire: Wire, state_dir: Path) -> None:
    channel = wire.request("start", **job(line="wc -c; sleep 1000", spool=True, stdin=True))
    wire.send(channel, b"x" * MUCH, DEADLINE)
    wire.send_eof(channel)
    accepted = wire.accepted(channel, DEADLINE)
    wait_for(lambda: shown(wire, accepted["id"])["sizes"]["stdout"])
    supervisor = supervisor_of(state_dir / "jobs" / accepted["id"])
    wait_for(lambda: private(supervisor) < LITTLE)
    (forkserver,) = [each for each in descendants([wire.agent_pid]) if each.name == "remit-keep"]
    assert private(forkserver.pid) < LITTLE
    wire.call("stop", job=accepted["id"], grace=5.0)


# -- ids


def test_what_has_a_process_is_never_sealed_as_unrun(wire: Wire, state_dir: Path) -> None:
    """Whoever sealed it before was killed over it, or is on the way as well."""
    _channel, accepted = keep(wire, "sleep", "1000")
    mark = state_dir / "gone" / accepted["id"]
    mark.write_text("never ran\n")
    assert wire.call("seal", job=accepted["id"]) == {"ran": True}
    assert not mark.exists()
    assert wire.call("remove", job=accepted["id"], force=True) == {}
    assert mark.read_text() == ""
    assert wire.call("seal", job=accepted["id"]) == {"ran": True}


def test_a_removed_id_is_not_sealed_as_unrun(wire: Wire, state_dir: Path) -> None:
    job_id = new_id()
    assert wire.call("seal", job=job_id) == {"ran": False}
    (state_dir / "gone" / job_id).write_text("")
    assert wire.call("seal", job=job_id) == {"ran": True}


# -- disks


class TestFullBtrfs:
    """It rewrites nothing in place: what was reserved beforehand is of no use."""

    def test_a_job_that_ends_runs_until_its_end_can_be_written(
        self, bring_up: Callable[..., Wire], btrfs: Disk
    ) -> None:
        wire = bring_up(state=btrfs.path, silence=SILENCE)
        (btrfs.path / "there").mkdir()
        quiet, waiting = keep(wire, line=f"while [ -e {btrfs.path}/there ]; do sleep 0.1; done")
        loud, printing = keep(wire, line="while :; do echo x; done")
        btrfs.fill()
        (btrfs.path / "there").rmdir()
        for each in (waiting, printing):
            wait_for(lambda each=each: not processes_of(each["id"]))  # type: ignore[misc]
            assert shown(wire, each["id"])["state"] == "RUNNING"
        btrfs.free()
        assert wire.collect(quiet, DEADLINE).outcome["exit_status"] == 0
        assert wire.collect(loud, DEADLINE).outcome["reason"] == "no-space"

    @pytest.mark.parametrize("verb", ["stop", "remove"])
    def test_a_stop_gets_through(
        self, bring_up: Callable[..., Wire], btrfs: Disk, verb: str
    ) -> None:
        wire = bring_up(state=btrfs.path, silence=SILENCE)
        channel, accepted = keep(wire, "sleep", "1000")
        supervisor = supervisor_of(btrfs.path / "jobs" / accepted["id"])
        btrfs.fill()
        assert wire.call("stop", DEADLINE, job=accepted["id"], grace=1.0)["survivors"] == []
        assert processes_of(accepted["id"]) == []
        assert find(supervisor)
        btrfs.free()
        if verb == "remove":
            wire.call("remove", DEADLINE, job=accepted["id"], force=True)
            wait_until_ended(supervisor)
        else:
            assert wire.collect(channel, DEADLINE).job["state"] == "STOPPED"
