"""What outlives an entered shell: as at the end of any terminal, and it is named."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from enter.entered import Entered
from testbed import daemons, processes, pythons, run
from testbed.daemons import Daemon


@pytest.fixture
def python() -> pythons.Interpreter:
    return min(pythons.found(), key=lambda one: one.minor)


@pytest.fixture(params=sorted(daemons.WAYS))
def daemon(request: pytest.FixtureRequest) -> Iterator[Daemon]:
    with daemons.daemon(request.param) as one:
        yield one


def test_it_runs_on_and_is_named(enter: Callable[..., Entered], daemon: Daemon) -> None:
    entered = enter("sh")
    entered.type(daemon.line.encode() + b"\n")
    entered.wire.flush()
    run.wait_until(lambda: bool(daemon.pids), "the daemon to begin")
    entered.type(b"remit start --name own -- sleep 1000; exit 3\n")
    entered.wire.flush()
    end = entered.end()
    assert (end["exit_status"], end["signal"]) == (3, None)
    named = {int(words.split()[1]) for words in end["left_behind"]}
    assert named & set(daemon.pids)
    assert entered.wire.goodbye()["left"] == []
    entered.wire.wait_ended()
    assert daemon.pids


@pytest.mark.parametrize("end", ["hang_up", "kill"])
def test_it_outlives_a_lost_link_too(
    enter: Callable[..., Entered], daemon: Daemon, end: str
) -> None:
    entered = enter("sh")
    entered.type(daemon.line.encode() + b"\n")
    entered.wire.flush()
    run.wait_until(lambda: bool(daemon.pids), "the daemon to begin")
    getattr(entered.wire, end)()
    entered.wire.wait_ended()
    time.sleep(0.1)  # what the hang-up ends has had its time
    assert daemon.pids


def test_jobs_of_the_session_end_with_it_and_nothing_is_named(
    enter: Callable[..., Entered],
) -> None:
    entered = enter("sh")
    mark = daemons.Daemon("setsid").mark
    entered.type(b"remit start -- sleep %s; exit\n" % mark.encode())
    entered.wire.flush()
    assert "left_behind" not in entered.end()
    assert entered.wire.goodbye()["left"] == []
    entered.wire.wait_ended()
    assert processes.running(mark) == []


def test_what_is_in_front_is_hung_up_with_the_shell(enter: Callable[..., Entered]) -> None:
    entered = enter("sh")
    mark = daemons.Daemon("setsid").mark
    entered.type(b"sleep %s\n" % mark.encode())
    entered.wire.flush()
    run.wait_until(lambda: bool(processes.running(f"sleep {mark}")), "it to begin")
    entered.wire.hang_up()
    entered.wire.wait_ended()
    assert processes.running(mark) == []
