"""The session around the jobs: hello, requests gone wrong, signs of life, and every kind of end."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.harness import (
    DEADLINE,
    LinkEnded,
    Refused,
    Wire,
    job,
    new_id,
    processes_of,
    wait_until_ended,
    wait_until_gone,
)
from remit._wire.frames import ACCEPT, CREDIT, DATA, GOODBYE, REFUSAL, REQUEST, encode
from remit._wire.msgpack import pack, unpack
from testbed import pythons


def test_the_hello_tells_who_answers(wire: Wire, python: pythons.Interpreter) -> None:
    hello = wire.hello
    assert hello["protocol"] == 1
    assert hello["features"] == []
    assert hello["version"] == "test"
    assert hello["python"].startswith(f"3.{python.minor}.")
    assert os.path.samefile(hello["executable"], python.path)
    assert hello["hostname"] == socket.gethostname()
    assert (hello["uid"], hello["home"]) == (os.getuid(), os.fsencode(Path("~root").expanduser()))
    assert abs(hello["time"] - time.time()) < 10


def test_the_state_directory_asked_for_is_the_one_that_is_used(
    bring_up: Callable[..., Wire], state_dir: Path
) -> None:
    hello = bring_up(state=state_dir).hello
    assert (hello["state"], hello["state_problem"]) == (os.fsencode(state_dir), None)


def test_a_state_directory_that_others_may_write_to_is_a_problem(
    bring_up: Callable[..., Wire], state_dir: Path
) -> None:
    state_dir.chmod(0o777)
    wire = bring_up(state=state_dir)
    assert "can be written to by others" in wire.hello["state_problem"]
    assert wire.run("echo", "on").stdout == b"on\n"


class TestRequestsGoneWrong:
    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"\xc1",
            pack("start"),
            pack(["start"]),
            pack([1, {}]),
            pack(["start", []]),
            pack(["no-such-verb", {}]),
            pack(["start", {}]),
            pack(["stop", {"job": "../../etc"}]),
            pack(["stop", {"job": 7}]),
        ],
    )
    def test_they_are_refused(self, wire: Wire, body: bytes) -> None:
        channel = wire.raw_request(body)
        assert self.refusal(wire, channel)["code"] == "bad-request"
        assert wire.run("echo", "on").stdout == b"on\n"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"id": "j"},
            {"id": "J234567abcdef"},
            {"command": {}},
            {"command": {"argv": []}},
            {"command": {"argv": ["text"]}},
            {"command": {"argv": [b"a\0b"]}},
            {"command": {"argv": [b"a"], "line": b"b"}},
            {"cwd": b""},
            {"cwd": "text"},
            {"env": {b"A=B": b""}},
            {"env": {"A": "text"}},
            {"timeout": -1.0},
            {"timeout": float("nan")},
            {"merge": 1},
            {"lifetime": "detached"},
        ],
        ids=repr,
    )
    def test_an_argument_of_start_that_makes_no_sense_is_refused(
        self, wire: Wire, wrong: dict[str, object]
    ) -> None:
        channel = wire.request("start", **job("/bin/true") | wrong)
        assert self.refusal(wire, channel)["code"] == "bad-request"

    @staticmethod
    def refusal(wire: Wire, channel: int) -> dict[str, object]:
        return unpack(wire.expect(REFUSAL, channel))  # type: ignore[return-value]

    def test_a_malformed_event_does_not_end_anything(self, wire: Wire) -> None:
        channel = wire.start("cat", stdin=True)
        wire.accepted(channel)
        wire._conversation.event(channel, b"\xc1")
        wire.event(channel, "nobody-knows-this", x=1)
        wire.send(channel, b"on\n")
        wire.send_eof(channel)
        assert wire.collect(channel).stdout == b"on\n"


class TestTheCallerBreaksTheRules:
    @pytest.mark.parametrize(
        "said",
        [
            encode(ACCEPT, 1, b""),
            encode(DATA, 9, b""),
            encode(CREDIT, 9, bytes(8)),
            encode(REQUEST, 0, pack(["jobs", {}])),
            b"\xff" * 9,
        ],
        ids=["an answer", "data on no channel", "credit on no channel", "channel 0", "no frame"],
    )
    def test_the_session_ends_with_words_and_its_jobs_end(self, wire: Wire, said: bytes) -> None:
        job_id = new_id()
        wire.accepted(wire.start("sleep", "1000", id=job_id))
        os.write(wire._to, said)
        goodbye = unpack(wire.expect(GOODBYE, 0))
        assert "what it may not say" in goodbye["reason"]  # type: ignore[index]
        assert wire.wait_ended() == 2
        assert processes_of(job_id) == []


class TestSignsOfLife:
    def test_a_silent_agent_says_something_three_times_a_silence(
        self, bring_up: Callable[..., Wire]
    ) -> None:
        wire = bring_up(silence=0.6)
        wire.run("true")  # what the first request needs is imported
        assert 4 <= wire.pings_in(1.6) <= 9

    def test_a_caller_that_is_heard_is_alive(self, bring_up: Callable[..., Wire]) -> None:
        wire = bring_up(silence=0.4)
        wire.settle(1.5)
        assert wire.run("echo", "on").stdout == b"on\n"

    def test_a_caller_that_was_heard_while_the_agent_was_stopped_is_alive(
        self, bring_up: Callable[..., Wire]
    ) -> None:
        wire = bring_up(silence=0.5)
        os.kill(wire.agent_pid, signal.SIGSTOP)
        wire.settle(1.0)
        os.kill(wire.agent_pid, signal.SIGCONT)
        assert wire.run("echo", "on").stdout == b"on\n"

    def test_a_caller_that_is_not_heard_is_gone_and_so_are_its_jobs(
        self, bring_up: Callable[..., Wire]
    ) -> None:
        wire = bring_up(silence=2.0, ping=False)
        job_id = new_id()
        wire.accepted(wire.start("sleep", "1000", id=job_id))
        wire.wait_ended(8.0)
        assert processes_of(job_id) == []


class TestEnd:
    def test_goodbye_stops_the_jobs_and_is_answered(self, wire: Wire) -> None:
        job_id = new_id()
        channel = wire.start("sh", "-c", "setsid sleep 1000 & sleep 1000", id=job_id)
        wire.accepted(channel)
        assert wire.goodbye() == {"left": []}
        done = wire.collect(channel)
        assert (done.job["state"], done.outcome["reason"]) == ("STOPPED", "session-ended")
        with pytest.raises(LinkEnded):
            wire.settle(DEADLINE)
        assert wire.wait_ended() == 0
        assert processes_of(job_id) == []

    def test_what_was_printed_comes_before_the_goodbye(self, wire: Wire) -> None:
        channel = wire.start("head", "-c", "3000000", "/dev/zero")
        wire.accepted(channel)
        wire.piece(channel)
        wire.goodbye()
        assert wire.collect(channel).job["state"] in ("COMPLETED", "STOPPED")

    def test_each_of_many_jobs_is_told_before_the_goodbye(self, wire: Wire) -> None:
        channels = [wire.start("sleep", "1000") for _ in range(100)]
        for channel in channels:
            wire.accepted(channel)
        assert wire.goodbye() == {"left": []}
        for channel in channels:
            assert wire.collect(channel).outcome["reason"] == "session-ended"

    def test_an_unread_job_does_not_hold_up_the_end(self, wire: Wire) -> None:
        channel = wire.start("cat", "/dev/zero", credit=0)
        wire.wait_for_state(channel, "BLOCKED")
        assert wire.goodbye() == {"left": []}
        assert wire.wait_ended() == 0

    def test_a_hung_up_link_ends_the_jobs(self, wire: Wire) -> None:
        job_id = new_id()
        wire.accepted(wire.start("sh", "-c", "setsid sleep 1000 & sleep 1000", id=job_id))
        wire.hang_up()
        assert wire.wait_ended() == 0
        assert processes_of(job_id) == []

    def test_a_caller_that_vanishes_in_the_middle_of_output(self, wire: Wire) -> None:
        job_id = new_id()
        wire.piece(wire.start("cat", "/dev/zero", id=job_id))
        for pipe in (wire.process.stdout, wire.process.stdin):
            assert pipe is not None
            pipe.close()
        wire.wait_ended()
        assert processes_of(job_id) == []

    @pytest.mark.parametrize(
        "line",
        [
            "sleep 1000 & setsid sleep 1000",
            "setsid setsid sleep 1000 </dev/null >/dev/null 2>&1 & sleep 1000",
            "trap '' TERM HUP; while :; do sleep 1; done",
        ],
        ids=["a tree", "a daemon", "one that ignores TERM"],
    )
    def test_the_jobs_of_a_killed_agent_end(self, wire: Wire, line: str) -> None:
        job_id = new_id()
        wire.accepted(wire.start(line=line, id=job_id))
        wire.run("true")
        wire.kill()
        assert wait_until_gone(job_id, 30.0) < 8.0
        assert wire.wait_ended() == 128 + signal.SIGKILL

    def test_so_does_one_that_left_its_session_and_its_environment(self, wire: Wire) -> None:
        line = "exec env -i setsid sh -c 'echo $$; exec sleep 1000'"
        pid = int(wire.piece(wire.start(line=line)).data)
        wire.kill()
        wait_until_ended(pid, 30.0)

    def test_a_killed_agent_closes_the_link_at_once(self, wire: Wire) -> None:
        line = "trap '' TERM; echo up; while :; do sleep 1; done"
        wire.piece(wire.start(line=line))
        wire.kill()
        with pytest.raises(LinkEnded):
            wire.settle(1.0)

    def test_a_janitor_that_is_told_to_end_ends_the_session(self, wire: Wire) -> None:
        job_id = new_id()
        wire.accepted(wire.start("sleep", "1000", id=job_id))
        wire.process.terminate()
        assert "told to end" in unpack(wire.expect(GOODBYE, 0))["reason"]  # type: ignore[index]
        assert wire.wait_ended() == 128 + signal.SIGTERM
        assert processes_of(job_id) == []

    @pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGINT, signal.SIGPIPE])
    def test_other_signals_change_nothing(self, wire: Wire, signum: signal.Signals) -> None:
        wire.process.send_signal(signum)
        os.kill(wire.agent_pid, signum)
        assert wire.run("echo", "on").stdout == b"on\n"


def test_a_helper_that_is_killed_gives_an_error_and_no_more(wire: Wire) -> None:
    job_id = new_id()
    line = "trap '' TERM; echo up; while :; do sleep 1; done"
    channel = wire.start(line=line, id=job_id)
    wire.piece(channel)
    stopping = wire.request("stop", job=job_id, grace=1000.0)
    wire.wait_for_state(channel, "STOPPING")
    os.kill(helper_of(wire), signal.SIGKILL)
    with pytest.raises(Refused, match="that did it was killed") as refused:
        wire.reply(stopping)
    assert refused.value.code == "internal"
    assert wire.call("stop", job=job_id, grace=0.0)["survivors"] == []


def helper_of(wire: Wire) -> int:
    """The pid of the agent's only child that is a fork of it."""
    ours = Path(f"/proc/{wire.agent_pid}/cmdline").read_bytes()
    children = Path(f"/proc/{wire.agent_pid}/task/{wire.agent_pid}/children").read_text().split()
    (helper,) = (pid for pid in children if Path(f"/proc/{pid}/cmdline").read_bytes() == ours)
    return int(helper)
