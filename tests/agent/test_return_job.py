"""Return jobs: what they print, and how they end."""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.harness import PLENTY, Refused, Wire, job, new_id, processes_of, wait_until_gone
from remit._agent.returned import program
from remit._wire.credit import LEAST_CHARGE
from remit._wire.frames import ACCEPT
from testbed.processes import find, kill

BIG = 64 << 20
WINDOW = 100_000

# Prints BIG bytes that are nowhere the same, and their digest to stderr.
PRINT_BIG = f"""
import hashlib, sys
digest = hashlib.sha256()
for i in range({BIG >> 16}):
    piece = i.to_bytes(4, "big") * (1 << 14)
    digest.update(piece)
    sys.stdout.buffer.write(piece)
sys.stdout.flush()
sys.stderr.write(digest.hexdigest())
"""


def test_both_streams_come_apart_and_in_order(wire: Wire) -> None:
    done = wire.run(line="echo one; echo two >&2; echo three")
    assert done.stdout == b"one\nthree\n"
    assert done.stderr == b"two\n"
    assert [piece.seq for piece in done.pieces] == list(range(len(done.pieces)))
    for stream in (1, 2):
        offset = 0
        for piece in done.pieces:
            if piece.stream == stream:
                assert piece.offset == offset
                offset += len(piece.data)
    assert done.job["state"] == "COMPLETED"
    assert done.job["sizes"] == {"stdout": 10, "stderr": 4}
    assert done.job["started"] <= done.job["finished"]


def test_merged_output_is_one_stream(wire: Wire) -> None:
    done = wire.run(line="echo one; echo two >&2; echo three", merge=True)
    assert done.stdout == b"one\ntwo\nthree\n"
    assert done.stderr == b""


def test_what_was_asked_for_is_in_the_job_map(wire: Wire) -> None:
    job_id = new_id()
    channel = wire.start("/bin/true", id=job_id, name="logs", group="gaaaaaaaaaaaa", cwd=b"/tmp")
    shown = wire.accepted(channel)
    assert shown["id"] == job_id
    assert (shown["name"], shown["group"], shown["cwd"]) == ("logs", "gaaaaaaaaaaaa", b"/tmp")
    assert shown["command"] == {"argv": [b"/bin/true"]}
    assert (shown["placement"], shown["lifetime"]) == ("return", "session")
    assert shown["outcome"] is None
    assert wire.collect(channel).job["outcome"]["exit_status"] == 0


class TestEnd:
    def test_an_exit_status(self, wire: Wire) -> None:
        done = wire.run(line="exit 3")
        assert (done.outcome["exit_status"], done.outcome["signal"]) == (3, None)
        assert (done.outcome["reason"], done.job["state"]) == ("exited", "FAILED")

    def test_a_signal(self, wire: Wire) -> None:
        done = wire.run(line="kill -KILL $$")
        assert (done.outcome["exit_status"], done.outcome["signal"]) == (None, "SIGKILL")
        assert (done.outcome["reason"], done.job["state"]) == ("signalled", "FAILED")

    def test_no_such_program(self, wire: Wire) -> None:
        done = wire.run("no-such-program-here", "x")
        assert (done.outcome["reason"], done.job["state"]) == ("start-failed", "FAILED")
        assert done.outcome["error"] == "no such program: no-such-program-here"
        assert done.outcome["exit_status"] is None
        assert done.job["started"] is None

    def test_an_empty_name_is_no_program(self, wire: Wire) -> None:
        assert wire.run("").outcome["error"] == "no such program: the name is empty"

    def test_no_such_directory(self, wire: Wire) -> None:
        done = wire.run("/bin/true", cwd=b"/no/such/place")
        assert done.outcome["reason"] == "start-failed"
        assert done.outcome["error"] == "no such directory: /no/such/place"

    def test_a_program_that_may_not_be_run(self, wire: Wire, tmp_path: Path) -> None:
        program = tmp_path / "data"
        program.write_text("no program")
        error = wire.run(str(program)).outcome["error"]
        assert error == f"cannot run {program}: Permission denied"

    def test_a_script_whose_interpreter_is_missing(self, wire: Wire, tmp_path: Path) -> None:
        program = tmp_path / "script"
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        assert "its first line names is missing" in wire.run(str(program)).outcome["error"]

    def test_the_agent_serves_on_after_a_start_that_failed(self, wire: Wire) -> None:
        wire.run("no-such-program-here")
        assert wire.run("echo", "fine").stdout == b"fine\n"


class TestSurroundings:
    def test_it_is_alone_with_its_three_descriptors(self, wire: Wire) -> None:
        listing = "import os; print(sorted(os.listdir('/proc/self/fd'), key=int))"
        done = wire.run(sys.executable, "-I", "-S", "-c", listing)
        # The fourth is the listing's own.
        assert done.stdout == b"['0', '1', '2', '3']\n"

    def test_its_signals_are_the_default_ones(self, wire: Wire) -> None:
        lines = wire.run("cat", "/proc/self/status").stdout.decode().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        # 32 and 33 belong to the C library, whose posix_spawn leaves them so.
        assert int(status["SigIgn"], 16) & ~(1 << 31 | 1 << 32) == 0
        assert int(status["SigBlk"], 16) == 0

    def test_it_leads_a_session(self, wire: Wire) -> None:
        show = "import os; print(os.getpid() == os.getsid(0) == os.getpgid(0))"
        assert wire.run(sys.executable, "-I", "-S", "-c", show).stdout == b"True\n"

    def test_its_environment_is_the_agents_and_what_is_added(
        self, bring_up: Callable[..., Wire]
    ) -> None:
        wire = bring_up(env={"PATH": os.environ["PATH"], "THERE": "1", "BOTH": "agent"})
        job_id = new_id()
        env = {b"BOTH": b"job", b"ODD": b"\xff\n'"}
        done = wire.run("env", "-0", id=job_id, env=env)
        got = dict(entry.split(b"=", 1) for entry in done.stdout.split(b"\0") if entry)
        assert got[b"THERE"] == b"1"
        assert got[b"BOTH"] == b"job"
        assert got[b"ODD"] == b"\xff\n'"
        assert got[b"REMIT_JOB"] == job_id.encode()

    def test_programs_are_looked_up_on_its_own_path(self, wire: Wire, tmp_path: Path) -> None:
        program = tmp_path / "only-here"
        program.write_text("#!/bin/sh\necho found\n")
        program.chmod(0o755)
        assert wire.run("only-here").outcome["reason"] == "start-failed"
        env = {b"PATH": b"/no/such:" + os.fsencode(tmp_path)}
        assert wire.run("only-here", env=env).stdout == b"found\n"

    def test_a_directory_whose_name_is_no_utf8(self, wire: Wire, tmp_path: Path) -> None:
        place = os.fsencode(tmp_path) + b"/\xff\xfe"
        os.mkdir(place)
        assert wire.run("pwd", cwd=place).stdout == place + b"\n"
        # And the next job does not start in there.
        assert wire.run("pwd").stdout != place + b"\n"

    def test_a_job_that_names_no_directory_starts_where_the_agent_did(
        self, bring_up: Callable[..., Wire], tmp_path: Path
    ) -> None:
        wire = bring_up(cwd=tmp_path)
        assert wire.run("pwd").stdout == os.fsencode(tmp_path) + b"\n"

    def test_stdin_is_empty_where_none_is_sent(self, wire: Wire) -> None:
        assert wire.run("cat").stdout == b""


class TestCredit:
    def test_64_mib_arrive_whole_under_little_credit(self, wire: Wire) -> None:
        channel = wire.start(sys.executable, "-I", "-S", "-c", PRINT_BIG, credit=WINDOW)
        wire.accepted(channel)
        digest, seen, allowed, told = hashlib.sha256(), 0, WINDOW, b""
        while seen < BIG:
            piece = wire.piece(channel)
            if piece.stream == 1:
                assert piece.offset == seen
                digest.update(piece.data)
                seen += len(piece.data)
            else:
                told += piece.data
            allowed -= len(piece.data)
            assert allowed >= 0
            if allowed < WINDOW // 2:
                wire.grant(channel, WINDOW)
                allowed += WINDOW
        done = wire.collect(channel)
        assert (told + done.stderr).decode() == digest.hexdigest()
        assert done.job["sizes"]["stdout"] == BIG

    def test_without_credit_it_is_blocked_and_goes_on_with_some(self, wire: Wire) -> None:
        channel = wire.start("echo", "hello", credit=0)
        assert wire.accepted(channel)["state"] == "RUNNING"
        wire.wait_for_state(channel, "BLOCKED")
        wire.grant(channel, 3)
        wire.wait_for_state(channel, "RUNNING")
        assert wire.piece(channel).data == b"hel"
        wire.wait_for_state(channel, "BLOCKED")
        wire.grant(channel, LEAST_CHARGE)
        done = wire.collect(channel)
        assert done.stdout == b"lo\n"
        assert done.job["state"] == "COMPLETED"

    def test_a_silent_job_needs_no_credit_to_end(self, wire: Wire) -> None:
        assert wire.run("/bin/true", credit=0).job["state"] == "COMPLETED"

    def test_a_held_up_job_does_not_hold_up_another(self, wire: Wire) -> None:
        held = wire.start("cat", "/dev/zero", credit=10)
        wire.wait_for_state(held, "BLOCKED")
        assert wire.run("echo", "free").stdout == b"free\n"

    def test_output_that_nobody_takes_fills_no_memory(self, wire: Wire) -> None:
        before = resident(wire.agent_pid)
        channels = [wire.start("cat", "/dev/zero", credit=1 << 16) for _ in range(8)]
        for channel in channels:
            wire.wait_for_state(channel, "BLOCKED")
        assert resident(wire.agent_pid) - before < 16 << 20


class TestStdin:
    def test_it_passes_through(self, wire: Wire) -> None:
        sent = os.urandom(3 << 20)
        channel = wire.start("sha256sum", stdin=True)
        wire.accepted(channel)
        wire.send(channel, sent)
        wire.send_eof(channel)
        assert wire.collect(channel).stdout.split()[0].decode() == hashlib.sha256(sent).hexdigest()

    def test_a_job_that_does_not_read_holds_the_sender_up(self, wire: Wire) -> None:
        channel = wire.start("sleep", "100", stdin=True)
        wire.accepted(channel)
        with pytest.raises(TimeoutError):
            wire.send(channel, bytes(4 << 20), deadline=1.0)
        wire.close_channel(channel)

    def test_a_job_that_closes_it_says_so_and_what_comes_later_is_dropped(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="exec <&-; sleep 100", stdin=True, id=job_id)
        wire.accepted(channel)
        wire.news(channel, "stdin-closed")
        # More than any window: it is taken, and goes nowhere.
        wire.send(channel, bytes(2 << 20))
        wire.send_eof(channel)
        assert wire.call("stop", job=job_id, grace=1.0)["survivors"] == []

    def test_end_of_input_is_passed_on_though_nothing_was_sent(self, wire: Wire) -> None:
        channel = wire.start("cat", stdin=True)
        wire.accepted(channel)
        wire.send_eof(channel)
        assert wire.collect(channel).job["state"] == "COMPLETED"


class TestLeftBehind:
    def test_a_grandchild_that_holds_the_pipe_holds_nobody_up(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="echo before; sleep 100 &", id=job_id)
        wire.accepted(channel)
        done = wire.collect(channel)
        assert done.stdout == b"before\n"
        assert done.job["state"] == "COMPLETED"
        assert done.outcome["note"].startswith("output held open by pid ")
        assert "(sleep)" in done.outcome["note"]
        left = processes_of(job_id)
        assert [int(words.split()[1]) for words in done.outcome["left_behind"]] == left
        kill(left)

    def test_one_that_goes_on_printing_is_cut_off(self, wire: Wire) -> None:
        line = "echo first; (while :; do echo more; sleep 0.1; done) &"
        done = wire.run(line=line, leftovers="stop")
        assert done.stdout.startswith(b"first\nmore\n")
        assert done.outcome["note"]

    def test_another_jobs_daemon_is_left_alone(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(
            line="(setsid sleep 100 >/dev/null 2>&1 </dev/null &); echo up; sleep 100", id=job_id
        )
        assert wire.piece(channel).data == b"up\n"
        wait_for_processes(job_id, 3)
        before = processes_of(job_id)
        assert wire.run("echo", "short").stdout == b"short\n"
        assert processes_of(job_id) == before
        wire.close_channel(channel)
        wait_until_gone(job_id)


class TestStop:
    def test_it_leaves_nothing_of_the_tree(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("sh", "-c", "setsid sleep 1000 & sleep 1000", id=job_id)
        wire.accepted(channel)
        wait_for_processes(job_id, 3)
        answer = wire.call("stop", job=job_id, grace=5.0)
        assert answer["survivors"] == []
        assert processes_of(job_id) == []
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("STOPPED", "stopped")
        assert done.states == ["STOPPING"]

    def test_what_ignores_term_is_killed_after_the_grace(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="trap '' TERM; echo up; while :; do sleep 1; done", id=job_id)
        assert wire.piece(channel).data == b"up\n"
        assert wire.call("stop", job=job_id, grace=0.3)["survivors"] == []
        assert wire.collect(channel).outcome["signal"] == "SIGKILL"

    def test_it_is_stopped_whatever_its_exit_status(self, wire: Wire) -> None:
        job_id = new_id()
        line = "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"
        channel = wire.start(line=line, id=job_id)
        assert wire.piece(channel).data == b"up\n"
        wire.call("stop", job=job_id, grace=5.0)
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["exit_status"]) == ("STOPPED", 0)

    def test_one_that_dropped_its_environment_is_stopped_too(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="env -i sleep 1000 & echo $!; wait", id=job_id)
        pid = int(wire.piece(channel).data)
        wire.call("stop", job=job_id, grace=5.0)
        assert find(pid) is None

    def test_a_suspended_one_is_stopped(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("sleep", "1000", id=job_id)
        wire.accepted(channel)
        wire.call("suspend", job=job_id)
        assert wire.call("stop", job=job_id, grace=5.0)["survivors"] == []
        assert wire.collect(channel).outcome["signal"] == "SIGTERM"

    def test_its_answer_does_not_wait_for_output_that_nobody_takes(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("cat", "/dev/zero", id=job_id, credit=0)
        wire.wait_for_state(channel, "BLOCKED")
        assert wire.call("stop", job=job_id, grace=5.0)["job"]["state"] == "STOPPING"
        wire.grant(channel, PLENTY)
        done = wire.collect(channel)
        assert done.job["state"] == "STOPPED"
        assert len(done.stdout) >= 1 << 16  # what it had printed is not lost

    def test_twice_and_late_is_quiet(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("sleep", "1000", id=job_id)
        wire.accepted(channel)
        first, second = (wire.request("stop", job=job_id, grace=5.0) for _ in range(2))
        assert wire.reply(first)["survivors"] == wire.reply(second)["survivors"] == []
        wire.collect(channel)
        late = wire.call("stop", job=job_id, grace=5.0)
        assert (late["survivors"], late["job"]["state"]) == ([], "STOPPED")

    def test_a_timeout_stops_it_and_it_has_failed(self, wire: Wire) -> None:
        job_id = new_id()
        done = wire.run(line="echo up; sleep 1000", timeout=0.3, id=job_id)
        assert done.stdout == b"up\n"
        assert (done.job["state"], done.outcome["reason"]) == ("FAILED", "timeout")
        assert processes_of(job_id) == []


class TestSuspend:
    def test_it_stands_still_and_goes_on(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="while :; do echo tick; sleep 0.02; done", id=job_id)
        wire.accepted(channel)
        assert wire.call("suspend", job=job_id)["state"] == "SUSPENDED"
        wire.settle(0.1)  # what was printed before may still be on its way
        before = len(wire.arrived)
        wire.settle(0.3)
        assert len(wire.arrived) == before
        assert wire.call("resume", job=job_id)["state"] == "RUNNING"
        wire.piece(channel)
        wire.call("stop", job=job_id, grace=5.0)
        assert wire.collect(channel).states == ["SUSPENDED", "RUNNING", "STOPPING"]

    @pytest.mark.parametrize(("verb", "first"), [("resume", None), ("suspend", "suspend")])
    def test_where_it_changes_nothing_it_is_quiet(
        self, wire: Wire, verb: str, first: str | None
    ) -> None:
        job_id = new_id()
        channel = wire.start("sleep", "1000", id=job_id)
        state = wire.accepted(channel)["state"]
        if first:
            state = wire.call(first, job=job_id)["state"]
        assert wire.call(verb, job=job_id)["state"] == state
        wire.call("stop", job=job_id, grace=5.0)
        with pytest.raises(Refused, match="is STOPPED and cannot be") as refused:
            wire.call(verb, job=job_id)
        assert refused.value.code == "state"


class TestGivingUp:
    def test_close_stops_the_job_and_forgets_it(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="cat /dev/zero & sleep 1000", id=job_id)
        wire.accepted(channel)
        wire.close_channel(channel)
        wait_until_gone(job_id)
        assert wire.run("echo", "on").stdout == b"on\n"

    def test_close_together_with_the_start_takes_it_back(self, wire: Wire) -> None:
        job_id = new_id()
        wire.close_channel(wire.start("sleep", "1000", id=job_id))
        assert wire.run("echo", "on").stdout == b"on\n"
        wait_until_gone(job_id)

    def test_remove_is_refused_while_it_runs_unless_forced(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("sleep", "1000", id=job_id)
        wire.accepted(channel)
        with pytest.raises(Refused, match="cannot be removed: it runs") as refused:
            wire.call("remove", job=job_id, force=False)
        assert refused.value.code == "state"
        assert wire.call("remove", job=job_id, force=True) == {}
        assert wire.collect(channel).job["state"] == "STOPPED"


class TestWatch:
    def test_it_tells_each_change_and_the_end(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("sleep", "1000", id=job_id)
        wire.accepted(channel)
        watching = wire.request("watch", job=job_id)
        assert wire.accepted(watching)["state"] == "RUNNING"
        wire.call("suspend", job=job_id)
        wire.call("stop", job=job_id, grace=5.0)
        seen = wire.collect(watching)
        assert seen.states == ["SUSPENDED", "STOPPING"]
        assert seen.job["state"] == "STOPPED"

    def test_of_an_ended_job_it_ends_at_once(self, wire: Wire) -> None:
        job_id = new_id()
        wire.run("/bin/true", id=job_id)
        watching = wire.request("watch", job=job_id)
        assert wire.accepted(watching)["state"] == "COMPLETED"
        assert wire.collect(watching).job["state"] == "COMPLETED"

    def test_close_only_ends_the_news(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start(line="sleep 0.3; echo still here", id=job_id)
        watching = wire.request("watch", job=job_id)
        wire.accepted(watching)
        wire.close_channel(watching)
        assert wire.collect(channel).stdout == b"still here\n"


def test_an_id_is_taken_once(wire: Wire) -> None:
    job_id = new_id()
    wire.accepted(wire.start("sleep", "1000", id=job_id))
    with pytest.raises(Refused, match="in this session already") as refused:
        wire.accepted(wire.start("/bin/true", id=job_id))
    assert refused.value.code == "state"


def test_200_jobs_at_once(wire: Wire) -> None:
    channels = [wire.request("start", **job("echo", str(number))) for number in range(200)]
    for number, channel in enumerate(channels):
        wire.expect(ACCEPT, channel, 30.0)
        assert wire.collect(channel, 30.0).stdout == f"{number}\n".encode()
    assert descriptors(wire.agent_pid) < 20


def wait_for_processes(job_id: str, count: int, deadline: float = 10.0) -> None:
    until = time.monotonic() + deadline
    while len(processes_of(job_id)) < count:
        assert time.monotonic() < until
        time.sleep(0.01)


def resident(pid: int) -> int:
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_job_whose_program_runs_is_in_no_circle() -> None:
    """What holds itself waits for Python's collector, and thousands of jobs come before that."""

    class Watched:
        """Of the agent only what holds callbacks."""

        def __init__(self) -> None:
            self.children = self.loop = self
            self.held: list[object] = []

        def watch(self, pid: int, callback: object) -> None:
            self.held.append(callback)

        def watch_fd(self, fd: int, callback: object) -> None:
            self.watched = callback

        def unwatch_fd(self, fd: int) -> None:
            del self.watched

    class Started:
        def begin(self, place: Any, report: int) -> None:
            self.entry = program.Entry(place, os.getpid(), report, self.entered)

        def entered(self, *_: object) -> None:
            self.runs = True

    report, told = os.pipe()
    place, job = Watched(), Started()
    job.begin(place, report)
    os.close(told)
    job.entry.look()
    assert job.runs
    dead = weakref.ref(job)
    gc.disable()
    try:
        del job
        assert dead() is None
    finally:
        gc.enable()
