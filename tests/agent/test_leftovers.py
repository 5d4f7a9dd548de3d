"""What outlives a return job: it runs on where the job ended by itself, and ends with it where the
job was ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from agent.harness import Collected, Refused, Wire, new_id
from testbed import daemons, pythons
from testbed.daemons import Daemon


@pytest.fixture
def python() -> pythons.Interpreter:
    return min(pythons.found(), key=lambda one: one.minor)


@pytest.fixture(params=sorted(daemons.WAYS))
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with daemons.daemon(request.param) as one:
        yield one


def test_a_job_that_ends_by_itself_leaves_it_and_names_it(wire: Wire, daemon: Daemon) -> None:
    done = wire.run(line=daemon.line)
    assert done.job["state"] == "COMPLETED"
    assert_left(done, daemon)
    # Neither a later job nor the end of the session changes that.
    later = wire.run("true").outcome
    assert (later["left_behind"], later["note"]) == ([], None)
    assert wire.goodbye()["left"] == []
    wire.wait_ended()
    assert daemon.pids


def test_an_agent_that_is_killed_leaves_it_too(wire: Wire, daemon: Daemon) -> None:
    assert_left(wire.run(line=daemon.line), daemon)
    wire.kill()
    wire.wait_ended()
    assert daemon.pids


def test_where_the_job_is_stopped_it_ends_with_it(wire: Wire, daemon: Daemon) -> None:
    job_id = new_id()
    channel = wire.start(line=daemon.line + "\necho up; sleep 1000", id=job_id)
    assert wire.piece(channel).data == b"up\n"
    appears(daemon)
    assert wire.call("stop", job=job_id, grace=5.0)["survivors"] == []
    assert daemon.pids == []
    outcome = wire.collect(channel).outcome
    assert (outcome["reason"], outcome["left_behind"]) == ("stopped", [])


def test_at_its_time_limit_it_ends_with_it(wire: Wire, daemon: Daemon) -> None:
    done = wire.run(line=daemon.line + "\nsleep 1000", timeout=1.0)
    assert done.outcome["reason"] == "timeout"
    assert daemon.pids == []


@pytest.mark.parametrize(
    "end", [Wire.goodbye, Wire.hang_up, Wire.kill], ids=lambda end: end.__name__
)
def test_where_the_session_ends_before_the_job_it_ends_too(
    wire: Wire, daemon: Daemon, end: Callable[[Wire], object]
) -> None:
    channel = wire.start(line=daemon.line + "\necho up; sleep 1000")
    assert wire.piece(channel).data == b"up\n"
    appears(daemon)
    end(wire)
    wire.wait_ended()
    assert daemon.pids == []


def test_on_demand_it_ends_with_a_job_that_ends_by_itself(wire: Wire, daemon: Daemon) -> None:
    done = wire.run(line=daemon.line, leftovers="stop")
    assert done.job["state"] == "COMPLETED"
    assert (done.outcome["left_behind"], done.outcome["note"]) == ([], None)
    assert daemon.pids == []


@pytest.mark.parametrize("python", [max(pythons.found(), key=lambda one: one.minor)])
def test_under_a_new_python(wire: Wire, daemon: Daemon) -> None:
    assert_left(wire.run(line=daemon.line), daemon)
    wire.kill()
    wire.wait_ended()
    assert daemon.pids


class TestAmongOthers:
    """A daemon that bears no mark of its job, while another job runs."""

    @pytest.fixture
    def daemon(self) -> Iterator[Daemon]:
        with daemons.daemon("without its environment") as one:
            yield one

    def test_a_later_job_is_stopped_without_it(self, wire: Wire, daemon: Daemon) -> None:
        assert_left(wire.run(line=daemon.line), daemon)
        self.stop_another(wire)
        assert daemon.pids

    def test_a_job_that_ran_before_is_stopped_without_it(self, wire: Wire, daemon: Daemon) -> None:
        job_id = new_id()
        channel = wire.start("sleep", "1000", id=job_id)
        wire.accepted(channel)
        wire.run(line=daemon.line)
        wire.call("stop", job=job_id, grace=1.0)
        wire.goodbye()
        wire.wait_ended()
        assert daemon.pids

    def test_where_all_that_ran_then_is_ended_it_is_too(self, wire: Wire, daemon: Daemon) -> None:
        for _ in range(2):
            wire.accepted(wire.start("sleep", "1000"))
        channel = wire.start(line=daemon.line + "\necho up; sleep 1000")
        assert wire.piece(channel).data == b"up\n"
        appears(daemon)
        wire.goodbye()
        wire.wait_ended()
        assert daemon.pids == []

    def stop_another(self, wire: Wire) -> None:
        job_id = new_id()
        wire.accepted(wire.start("sleep", "1000", id=job_id))
        wire.call("stop", job=job_id, grace=1.0)


def test_what_leftovers_may_be(wire: Wire) -> None:
    with pytest.raises(Refused, match="leftovers is leave or stop") as refused:
        wire.run("true", leftovers="keep")
    assert refused.value.code == "bad-request"


def assert_left(done: Collected, daemon: Daemon) -> None:
    appears(daemon)
    named = {int(words.split()[1]) for words in done.outcome["left_behind"]}
    assert named
    assert named & set(daemon.pids)
    assert done.outcome["note"] == "left running: " + ", ".join(done.outcome["left_behind"])


def appears(daemon: Daemon, deadline: float = 10.0) -> None:
    until = time.monotonic() + deadline
    while not daemon.pids:
        assert time.monotonic() < until
        time.sleep(0.01)
