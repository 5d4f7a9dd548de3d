"""Many targets as one: groups, results, maps. The targets are this computer, several times, and
commands that play targets which cannot be reached."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

import remit
from remit import JobState
from testbed import processes

pytestmark = pytest.mark.anyio

REFUSES = "command:false"
HANGS = "command:sh -c 'exec sleep 60'"


def pid() -> int:
    return os.getpid()


def double(number: int) -> int:
    return 2 * number


def die_with_agent(number: int) -> int:
    """Kills the agent that it is run for, the first time that anyone does."""
    mark = os.environ.get("REMIT_TEST_MARK", "")
    if number == 5 and mark and not os.path.exists(mark):
        with open(mark, "w"):
            pass
        with open(f"/proc/{os.getppid()}/status") as file:
            fields = dict(line.split(":", 1) for line in file)
        os.kill(int(fields["PPid"]), signal.SIGKILL)
        os.kill(os.getppid(), signal.SIGKILL)
    return number


# -- results


async def test_results_are_in_the_order_of_the_targets() -> None:
    async with remit.connect_many(["local:", REFUSES, "local:"]) as fleet:
        results = await fleet.run("echo out; echo err >&2; exit 3")
    assert [one.target for one in results] == ["local:", REFUSES, "local:"]
    for one in (results[0], results[2]):
        assert one.result == remit.CommandResult(3, b"out\n", b"err\n")
        assert one.error is None
        assert not one.ok
    assert results[1].result is None
    assert isinstance(results[1].error, remit.ConnectError)


async def test_results_are_there_while_others_still_connect() -> None:
    async with remit.connect_many([HANGS, "local:"], connect_timeout=60) as fleet:
        async for one in fleet.run(["true"]):
            assert one.target == "local:"
            assert one.ok
            break
        assert fleet.sessions[0].state is remit.SessionState.OPENING


async def test_a_function_is_called_on_each() -> None:
    async with remit.connect_many(["local:"] * 3) as fleet:
        results = await fleet.call(pid)
        assert len({one.result for one in results}) == 3
        assert [one.result for one in await fleet.run(divmod, 7, 2)] == [(3, 1)] * 3


async def test_check_raises_once_all_are_over() -> None:
    async with remit.connect_many(["local:", REFUSES, "local:"]) as fleet:
        with pytest.raises(remit.GroupFailed, match="1 of 3 jobs failed") as caught:
            await fleet.run(["true"], check=True)
        assert [one and one.exit_status for one in caught.value.results] == [0, None, 0]
        (failure,) = caught.value.failures
        assert isinstance(failure.__cause__, remit.ConnectError)
        with pytest.raises(remit.GroupFailed, match="3 of 3 jobs failed") as caught:
            await fleet.run("exit 4", check=True)
        assert [one.exit_status for one in caught.value.failures] == [4, None, 4]
        results = fleet.run(["true"], check=True)
        taken = [(await anext(results)).ok for _ in range(3)]
        assert sorted(taken) == [False, True, True]
        with pytest.raises(remit.GroupFailed, match="1 of 3"):
            await anext(results)


async def test_a_cancel_gives_up_what_has_not_come(tmp_path: Path) -> None:
    async with remit.connect_many(["local:", "local:"]) as fleet:
        await fleet.call(pid)  # both are open
        results = fleet.run(f"touch {tmp_path}/$$; exec sleep 60")

        async def leave() -> None:
            while len(list(tmp_path.iterdir())) < 2:
                await anyio.sleep(0.02)
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            with anyio.CancelScope() as scope:
                await results
        assert scope.cancelled_caught
        pids = [int(file.name) for file in tmp_path.iterdir()]
        with anyio.fail_after(10):
            while any(processes.find(pid) for pid in pids):
                await anyio.sleep(0.05)


async def test_soon_starts_no_other_and_now_stops_those_that_run(tmp_path: Path) -> None:
    async with remit.connect_many(["local:"] * 4) as fleet:
        results = await fleet.run("exit 1", throttle=1, halt="soon")
        assert [one.ok for one in results] == [False] * 4
        exited = [one for one in results if one.result is not None]
        assert len(exited) == 1
        for one in results:
            if one.error is not None:
                with pytest.raises(remit.JobFailed, match="not started: 1 of 4 had failed"):
                    raise one.error
        line = f"mkdir {tmp_path}/first && exit 1; exec sleep 60"
        results = await fleet.run(line, halt="now")
        assert sum(one.result is not None for one in results) == 1


# -- groups


async def test_a_group_is_a_job_for_each_target() -> None:
    async with remit.connect_many(["local:", REFUSES, "local:"]) as fleet:
        group = await fleet.start("echo $REMIT_JOB", name="who")
        assert group.state is JobState.PENDING
        assert await group.wait() is JobState.FAILED
        first, refused, last = group.children
        assert {child.group for child in group.children} == {group.id}
        assert first.id != last.id
        assert group.name == "who"
        assert group.location == "localhost,false,localhost"
        assert refused.state is JobState.FAILED
        assert refused.started is None
        assert refused.outcome is not None
        assert refused.outcome.reason == "connect-failed"
        with pytest.raises(remit.GroupFailed, match="1 of 3 jobs failed") as caught:
            await group.result()
        texts = [one and one.text.strip() for one in caught.value.results]
        assert texts == [first.id, None, last.id]
        (failure,) = caught.value.failures
        assert failure.reason == "connect-failed"
        assert isinstance(failure.__cause__, remit.ConnectError)


async def test_no_more_than_the_throttle_run_and_the_others_are_pending(tmp_path: Path) -> None:
    async with remit.connect_many(["local:"] * 4) as fleet:
        group = await fleet.start(f"until [ -e {tmp_path}/go ]; do sleep 0.02; done", throttle=2)
        while sum(child.state is JobState.RUNNING for child in group.children) < 2:
            await anyio.sleep(0.02)
        waiting = [child for child in group.children if child.state is JobState.PENDING]
        assert len(waiting) == 2
        assert group.state is JobState.PENDING
        stopped, left = waiting
        assert await stopped.stop() == []
        assert stopped.state is JobState.STOPPED
        assert stopped.started is None
        assert [record async for record in stopped.receive()] == []
        with pytest.raises(remit.JobStateError, match="was not started"):
            await left.suspend()
        (tmp_path / "go").touch()
        assert await group.wait() is JobState.STOPPED
        assert left.state is JobState.COMPLETED


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_child_can_be_read_before_its_turn(placement: str, state_dir: Path) -> None:
    target = f"local:?state={state_dir}"
    async with remit.connect_many([target, target, HANGS], connect_timeout=60) as fleet:
        group = await fleet.start("echo hello", placement=placement, throttle=1)
        for child in group.children[:2]:
            assert [record.data async for record in child.receive()] == [b"hello\n"]
        hangs = group.children[2]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hangs.wait)
            await hangs.stop()
        assert [record async for record in hangs.receive()] == []
        with pytest.raises(remit.JobFailed, match="is STOPPED"):
            await hangs.result()
        await hangs.remove()
    assert group.state is JobState.STOPPED


async def test_records_come_interleaved_and_are_used_up_as_they_are_given() -> None:
    async with remit.connect_many(["local:", "local:"]) as fleet:
        group = await fleet.start("echo one; read line; echo $line", stdin=remit.PIPE)
        receiver = group.receive()
        seen = [await anext(receiver), await anext(receiver)]
        assert {record.job for record in seen} == {child.id for child in group.children}
        await receiver.aclose()
        await group.send(b"two\n")
        await group.send_eof()
        # The one in hand at the end comes again.
        again = [record async for record in group.receive()]
        assert sorted(record.data for record in again if isinstance(record.data, bytes)) == [
            b"one\n",
            b"two\n",
            b"two\n",
        ]
        assert await group.wait() is JobState.COMPLETED
        assert not group.has_more_data


async def test_a_block_stops_what_still_runs() -> None:
    async with remit.connect_many(["local:", "local:"]) as fleet:
        async with await fleet.start(["sleep", "60"]) as group:
            async for state in group.changes():
                if state is JobState.RUNNING:
                    break
            await group.suspend()
            assert {child.state for child in group.children} == {JobState.SUSPENDED}
            await group.resume()
        assert group.state is JobState.STOPPED


async def test_a_kept_group_is_found_again(state_dir: Path) -> None:
    target = f"local:?state={state_dir}"
    async with remit.connect_many([target, target]) as fleet:
        group = await fleet.start("echo kept", placement="keep")
        await group.wait()
    async with remit.connect_many([target]) as fleet:
        again = await fleet.group(group.id)
        assert {child.id for child in again.children} == {child.id for child in group.children}
        assert [one.text for one in await again.result()] == ["kept\n"] * 2
        await again.remove()
        with pytest.raises(remit.JobNotFound, match="no job of group"):
            await fleet.group(group.id)
        with pytest.raises(ValueError, match="the id of a group"):
            await fleet.group("logs")


async def test_leaving_the_fleet_ends_what_waits() -> None:
    async with remit.connect_many(["local:", HANGS], throttle=1, connect_timeout=60) as fleet:
        group = await fleet.start(["sleep", "60"])
        async for state in group.children[0].changes():
            if state is JobState.RUNNING:
                break
    assert await group.children[1].wait() is JobState.STOPPED
    assert group.state is JobState.STOPPED


# -- maps


async def test_a_map_gives_values_in_order_or_as_they_come() -> None:
    async with remit.connect_many(["local:", "local:", REFUSES], workers=1) as fleet:
        values = [value async for value in fleet.map(double, range(50))]
        assert values == [2 * number for number in range(50)]
        mixed = [value async for value in fleet.map(double, range(50), ordered=False)]
        assert sorted(mixed) == values


async def test_a_map_tells_the_first_failure_in_its_place() -> None:
    def choosy(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    async with remit.connect_many(["local:"], workers=1) as fleet:
        values = fleet.map(choosy, range(10))
        assert [await anext(values) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(remit.JobFailed, match="three"):
            await anext(values)
        kept = [one async for one in fleet.map(choosy, range(10), return_exceptions=True)]
        assert isinstance(kept[3], remit.JobFailed)
        assert [one for one in kept if isinstance(one, int)] == [0, 1, 2, 4, 5, 6, 7, 8, 9]


async def test_a_map_over_nobody_says_why() -> None:
    async with remit.connect_many([REFUSES, REFUSES]) as fleet:
        with pytest.raises(remit.ConnectError, match="false"):
            async for _ in fleet.map(double, range(3)):
                pass
        assert [one async for one in fleet.map(double, [])] == []


@pytest.mark.parametrize("retries", [0, 1])
async def test_items_of_a_lost_target_go_to_another(
    retries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_TEST_MARK", str(tmp_path / "mark"))
    async with remit.connect_many(["local:", "local:"], reconnect=0, workers=1) as fleet:
        got = []
        trouble = None
        try:
            async for value in fleet.map(die_with_agent, range(30), retries=retries):
                got.append(value)
        except remit.LinkLost as exc:
            trouble = exc
        if retries:
            assert got == list(range(30))
        else:
            assert trouble is not None
            assert got == list(range(len(got)))
            assert len(got) <= 5


# -- what can never be right


async def test_bad_arguments_are_refused_before_anything_is_started() -> None:
    with pytest.raises(ValueError, match="a target at least"):
        remit.connect_many([])
    with pytest.raises(TypeError, match="a list of targets"):
        remit.connect_many("local:")
    with pytest.raises(remit.TargetError, match="nosuch"):
        remit.connect_many(["local:", "nosuch:x"])
    for word in ("throttle", "retries"):
        with pytest.raises(ValueError, match=word):
            remit.connect_many(["local:"], **{word: -1})  # type: ignore[arg-type]
    async with remit.connect_many(["local:", "local:"]) as fleet:
        with pytest.raises(ValueError, match="id= names one job"):
            await fleet.start(["true"], id=remit.new_job_id())
        with pytest.raises(ValueError, match="halt must be"):
            await fleet.start(["true"], halt="later")
        with pytest.raises(ValueError, match="throttle"):
            fleet.run(["true"], throttle=0)
        with (
            pytest.raises(ValueError, match="one stdin cannot be read"),
            open("/dev/null", "rb") as f,
        ):
            fleet.run(["cat"], stdin=f)
        with pytest.raises(ValueError, match="the command line is empty"):
            fleet.run("")
        with pytest.raises(TypeError, match="a function is called"):
            fleet.call("true")  # type: ignore[call-overload]
    with pytest.raises(RuntimeError, match="not open"):
        fleet.run(["true"])
