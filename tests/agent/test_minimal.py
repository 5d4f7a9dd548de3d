"""An agent under Debian's python3-minimal, which lacks json, ctypes, termios, resource and more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import remit
from agent.harness import STDERR, STDOUT, Refused, Wire, job, new_id, processes_of, wait_until_gone
from enter.entered import Entered
from remit import BootstrapError
from testbed import processes, run
from testbed.minimal import Minimal


@pytest.fixture
def state(minimal_python: Minimal) -> Iterator[Path]:
    """A state directory, by its path inside. Whatever is kept there ends with the test."""
    inside = Path("/tmp") / new_id()
    outside = minimal_python.root / inside.relative_to("/")
    yield inside
    left = [pid for path in outside.glob("jobs/*") for pid in processes_of(path.name)]
    processes.kill(left)
    run.wait_until(
        lambda: not [one for one in processes.everyone() if _supervises(one, outside)],
        "the supervisors to end",
    )


def _supervises(process: processes.Process, state: Path) -> bool:
    """By what it holds open: the directory of a job."""
    if process.name != "remit-keep":
        return False
    try:
        held = [str(fd.readlink()) for fd in Path(f"/proc/{process.pid}/fd").iterdir()]
    except OSError:
        return False
    return any(path.startswith(str(state)) for path in held)


@pytest.fixture
def bring_up(minimal_python: Minimal, state: Path) -> Iterator[Callable[[], Wire]]:
    with ExitStack() as wires:
        yield lambda: wires.enter_context(Wire(minimal_python.python, state=state))


@pytest.fixture
def wire(bring_up: Callable[[], Wire]) -> Wire:
    return bring_up()


def keep(wire: Wire, line: str, **args: Any) -> tuple[int, Any]:
    channel = wire.request("start", **job(line=line, spool=True, **args))
    return channel, wire.accepted(channel)


def test_it_greets_as_any_other(wire: Wire, minimal_python: Minimal, state: Path) -> None:
    assert wire.hello["python"].startswith(minimal_python.version + ".")
    assert (wire.hello["user"], wire.hello["home"]) == ("root", b"/root")
    assert (wire.hello["state"], wire.hello["state_problem"]) == (bytes(state), None)


class TestReturned:
    def test_output_and_end_come_back(self, wire: Wire) -> None:
        done = wire.run(line="echo one; echo oops >&2; exit 3")
        assert (done.stdout, done.stderr) == (b"one\n", b"oops\n")
        assert (done.job["state"], done.outcome["exit_status"]) == ("FAILED", 3)
        assert wire.run(line="kill -KILL $$").outcome["signal"] == "SIGKILL"
        assert wire.run("no-such-program").outcome["error"] == "no such program: no-such-program"

    def test_much_output_comes_whole(self, wire: Wire) -> None:
        done = wire.run(line="seq 300000")
        assert done.stdout == b"".join(b"%d\n" % number for number in range(1, 300001))

    def test_stop_leaves_nothing_of_the_tree(self, wire: Wire) -> None:
        asked = job(line="setsid sleep 1000 & echo up; sleep 1000")
        channel = wire.request("start", **asked)
        wire.accepted(channel)
        assert wire.piece(channel).data == b"up\n"
        assert wire.call("stop", job=asked["id"], grace=5.0)["survivors"] == []
        assert processes_of(asked["id"]) == []
        assert wire.collect(channel).job["state"] == "STOPPED"

    @pytest.mark.parametrize("leftovers", ["leave", "stop"])
    def test_who_holds_the_output_open_is_named(self, wire: Wire, leftovers: str) -> None:
        done = wire.run(line="setsid sleep 1000 & echo done", leftovers=leftovers)
        assert done.stdout == b"done\n"
        assert "(sleep)" in done.outcome["note"]
        left = processes_of(done.job["id"])
        assert len(left) == len(done.outcome["left_behind"]) == (leftovers == "leave")
        processes.kill(left)

    def test_nothing_outlives_a_killed_agent(self, wire: Wire) -> None:
        asked = job(line="setsid sleep 1000 & echo up; sleep 1000")
        channel = wire.request("start", **asked)
        assert wire.piece(channel).data == b"up\n"
        wire.kill()
        wait_until_gone(asked["id"], 30)


class TestKept:
    def test_a_whole_life(self, bring_up: Callable[[], Wire]) -> None:
        starter, reader = bring_up(), bring_up()
        waits = "while ! [ -e go ]; do usleep 10000; done"
        channel, accepted = keep(starter, f"echo one; {waits}; rm go; echo two >&2; exit 3")
        reading = reader.request(
            "read", job=accepted["id"], position=None, follow=True, consume=True
        )
        reader.accepted(reading)
        first = reader.piece(reading)
        assert (first.stream, first.data) == (STDOUT, b"one\n")
        assert starter.run(line="touch go").outcome["exit_status"] == 0
        second = reader.piece(reading)
        assert (second.stream, second.data) == (STDERR, b"two\n")
        reader.event(reading, "used", position={"stdout": 4, "stderr": 4})
        end = reader.collect(reading).end
        assert (end["complete"], end["job"]["has_more"]) == (True, False)
        done = starter.collect(channel).job
        assert (done["state"], done["outcome"]["exit_status"]) == ("FAILED", 3)
        (listed,) = reader.call("jobs", after=None, limit=10)["jobs"]
        assert (listed["id"], listed["used"]) == (
            accepted["id"],
            {"stdout": 4, "stderr": 4, "records": 0},
        )
        assert reader.call("remove", job=accepted["id"], force=True) == {}
        assert starter.call("jobs", after=None, limit=10)["jobs"] == []

    def test_the_end_is_recorded_though_the_agent_is_killed(
        self, bring_up: Callable[[], Wire]
    ) -> None:
        killed = bring_up()
        _, accepted = keep(killed, "usleep 300000; echo done")
        killed.kill()
        other = bring_up()
        watching = other.request("watch", job=accepted["id"])
        other.accepted(watching)
        assert other.collect(watching).job["state"] == "COMPLETED"

    def test_stop_leaves_nothing_of_the_tree(self, wire: Wire) -> None:
        channel, accepted = keep(wire, "setsid sleep 1000 & sleep 1000")
        assert wire.call("stop", job=accepted["id"], grace=5.0)["survivors"] == []
        assert processes_of(accepted["id"]) == []
        assert wire.collect(channel).job["state"] == "STOPPED"

    def test_what_a_job_leaves_behind_can_still_be_stopped(self, wire: Wire) -> None:
        channel, accepted = keep(wire, "setsid sleep 1000 >/dev/null 2>&1 &")
        done = wire.collect(channel)
        assert (done.job["state"], len(done.outcome["left_behind"])) == ("COMPLETED", 1)
        with pytest.raises(Refused, match="left behind runs on"):
            wire.call("remove", job=accepted["id"], force=False)
        assert wire.call("remove", job=accepted["id"], force=True) == {}
        assert processes_of(accepted["id"]) == []

    def test_suspend_and_resume(self, wire: Wire) -> None:
        channel, accepted = keep(wire, "sleep 1000")
        assert wire.call("suspend", job=accepted["id"])["state"] == "SUSPENDED"
        assert wire.call("resume", job=accepted["id"])["state"] == "RUNNING"
        wire.call("stop", job=accepted["id"], grace=5.0)
        assert wire.collect(channel).job["state"] == "STOPPED"


class TestEnter:
    def test_a_terminal_whose_jobs_are_the_sessions_own(self, wire: Wire) -> None:
        entered = Entered(wire)
        assert entered.answer["problem"] is None
        entered.wait_for(rb"\[there\] .*# ")
        entered.type(b"tty; remit start --name logs -- echo three; remit wait logs; remit jobs\n")
        entered.wait_for(rb"/dev/pts/\d+\r\n")
        entered.wait_for(rb"logs +Completed +True +localhost +echo three\r\n")
        entered.type(b"remit receive logs; remit jobs --json; remit receive; echo $?; exit 4\n")
        assert entered.end() == {"exit_status": 4, "signal": None}
        assert b"\r\nthree\r\n" in entered.shown
        assert b'"state": "COMPLETED"' in entered.shown
        assert b"required: JOB\r\n2\r\n" in entered.shown

    def test_a_new_size_reaches_the_program(self, wire: Wire) -> None:
        entered = Entered(wire, "sh", "-c", "stty size; read x; stty size", rows=30, columns=90)
        entered.wait_for(rb"30 90")
        wire.event(entered.channel, "resize", rows=40, columns=100)
        entered.type(b"\r\n")
        entered.end()
        assert b"40 100" in entered.shown


@pytest.mark.anyio
async def test_the_three_workflows_from_the_caller(minimal_python: Minimal, state: Path) -> None:
    target = f"{minimal_python.target}"
    async with remit.start(target, ["echo", "returned"]) as returned:
        assert (await returned.result()).stdout == b"returned\n"
    async with remit.connect(target) as session:
        kept = await session.start("echo kept", placement="keep")
        assert (await kept.result()).stdout == b"kept\n"
        await kept.remove(force=True)


HIDES = """\
#!{python}
import sys

class Hider:
    def find_spec(self, name, path=None, target=None):
        if name == "{module}":
            raise ModuleNotFoundError("No module named %r" % name, name=name)

sys.meta_path.insert(0, Hider())
sys.modules.pop("{module}", None)
code, sys.argv = sys.argv[4], ["-c", *sys.argv[5:]]
exec(code)
"""


@pytest.mark.anyio
@pytest.mark.parametrize("module", ["zlib", "heapq"])
async def test_a_python_that_lacks_what_the_agent_needs_is_told_by_that(
    module: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(HIDES.format(python="/usr/bin/python3", module=module))
    python.chmod(0o755)
    with pytest.raises(BootstrapError, match=f"lacks the module {module}") as caught:
        async with remit.connect(f"local:?python={python}"):
            pass
    assert "python3" in caught.value.hint
