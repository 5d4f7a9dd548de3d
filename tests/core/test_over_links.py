"""What a session, its jobs and its readers do by themselves: links that come and go, cancels at
each step, waits of any length. On a target in memory, and on time that jumps."""

from __future__ import annotations

import gc
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import remit
from remit import JobState, SessionState
from testbed import virtual_time
from testbed.fake_session import FakeTarget

pytestmark = pytest.mark.anyio

MOST_STEPS = 400  # turns of the loop that none of these calls takes


@pytest.fixture(scope="module", params=virtual_time.PARAMS, ids=virtual_time.IDS)
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    found: tuple[str, dict[str, Any]] = request.param
    return found


@pytest.fixture(params=["return", "keep"])
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def after(steps: int, then: Callable[[], object]) -> None:
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    then()


async def cancelled_after(steps: int, use: Callable[[], Awaitable[object]]) -> bool:
    """Whether it was cancelled: it may have been over before."""
    async with anyio.create_task_group() as tasks:
        with anyio.CancelScope() as scope:
            tasks.start_soon(after, steps, scope.cancel)
            await use()
            return False
    return True


# -- how a session stands


async def test_a_closed_session_says_so() -> None:
    async with FakeTarget().session() as session:
        pass
    assert session.state is SessionState.CLOSED
    with pytest.raises(remit.SessionClosed, match="is closed"):
        await session.run(["true"])
    await session.aclose()  # twice is quiet


async def test_changes_tell_the_states_in_order() -> None:
    target = FakeTarget()
    seen: list[SessionState] = []

    async def watch(session: remit.Session) -> None:
        seen.extend([state async for state in session.changes()])

    async with anyio.create_task_group() as tasks, target.session() as session:
        tasks.start_soon(watch, session)
        await anyio.wait_all_tasks_blocked()
        target.cut()
        await anyio.sleep(3600)
    assert seen == ["OPEN", "RECONNECTING", "OPEN", "CLOSED"]


async def test_without_reconnecting_a_lost_link_breaks_the_session() -> None:
    target = FakeTarget()
    async with target.session(reconnect=0) as session:
        job = await session.start(["sleep", "1000"])
        kept = await session.start(["sleep", "1000"], placement="keep")
        target.cut()
        assert await job.wait() is JobState.LOST
        assert job.outcome is not None
        assert job.outcome.reason == "link-lost"
        async for _ in session.changes():
            pass
        assert session.state is SessionState.BROKEN
        assert kept.state is JobState.DISCONNECTED
        assert await kept.wait(disconnected=True) is JobState.DISCONNECTED
        for call in (kept.wait, lambda: session.run(["true"])):
            with pytest.raises(remit.LinkLost, match="was lost"):
                await call()
    async with target.session() as session:
        job = await session.job(kept.id)
        target.only().ends()
        assert await job.wait() is JobState.COMPLETED


async def test_what_is_asked_meanwhile_waits_for_the_next_link(placement: str) -> None:
    target = FakeTarget()
    async with target.session() as session:
        target.is_up = False
        target.cut()
        async for state in session.changes():
            if state is SessionState.RECONNECTING:
                break
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.run, ["true"])
            tasks.start_soon(session.jobs)
            await anyio.sleep(100)
            assert target.asked == []
            target.is_up = True
            while not target.jobs:
                await anyio.sleep(1)
            target.only().ends()
        assert len(target.dials) > 10


async def test_a_target_that_falls_silent_is_left_and_reached_again() -> None:
    target = FakeTarget()
    async with target.session(silence=30) as session:
        job = await session.start(["true"], placement="keep")
        target.is_silent = True
        began = anyio.current_time()
        assert await job.wait(disconnected=True) is JobState.DISCONNECTED
        assert 20 <= anyio.current_time() - began <= 30
        target.is_silent = False
        states = job.changes()
        assert [await anext(states) for _ in range(2)] == ["DISCONNECTED", "RUNNING"]


# -- kept jobs over one link after another


async def test_a_reader_goes_on_over_whatever_becomes_of_the_link() -> None:
    """Each byte once, in order, wherever the link is cut."""
    target = FakeTarget()
    rng = random.Random(7)
    lines = [b"%d\n" % number for number in range(400)]

    async def print_all() -> None:
        for line in lines:
            await anyio.sleep(rng.choice([0, 0, 0.5]))
            target.only().prints(line)
        target.only().ends()

    async def cut() -> None:
        while True:
            await anyio.sleep(rng.uniform(0, 20))
            target.cut()

    async with target.session() as session:
        job = await session.start(["printer"], placement="keep")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(print_all)
            tasks.start_soon(cut)
            got = [record.data async for record in job.receive()]
            tasks.cancel_scope.cancel()
        assert b"".join(got) == b"".join(lines)  # type: ignore[arg-type]
        assert len(target.dials) > 5
        assert await job.wait() is JobState.COMPLETED
        assert not job.has_more_data


@pytest.mark.parametrize("held", [True, False])
async def test_a_session_that_reconnects_is_a_caller_again(held: bool) -> None:
    """So a lease goes on, whether its handle was dropped or not."""
    target = FakeTarget()
    async with target.session() as session:
        job = await session.start(["true"], placement="keep", lifetime=remit.lease(4))
        there = target.only()
        if not held:
            del job
            gc.collect()
        for _ in range(5):
            assert there.callers == 1
            target.cut()
            await anyio.sleep(4)
        there.ends()
        await anyio.wait_all_tasks_blocked()
    assert there.callers == 0


async def test_what_was_removed_meanwhile_is_waited_for_no_more() -> None:
    target = FakeTarget()
    async with target.session() as session:
        job = await session.start(["sleep", "1000"], placement="keep")
        target.is_up = False
        target.cut()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(job.wait)
            await anyio.sleep(60)
            target.jobs.clear()
            target.is_up = True
        assert [state async for state in job.changes()] == [JobState.LOST]
        assert job.outcome is not None
        assert job.outcome.reason == "removed"


# -- cancels


@pytest.mark.parametrize("verb", ["start", "run"])
async def test_a_start_that_is_cancelled_at_any_step_is_taken_back(
    verb: str, placement: str
) -> None:
    target = FakeTarget()
    target.turns = 3
    begun = 0
    async with target.session() as session:
        for steps in range(MOST_STEPS):
            job_id = remit.new_job_id()
            begin = getattr(session, verb)
            with anyio.fail_after(60):

                async def use() -> None:
                    await begin(["sleep", "1000"], placement=placement, id=job_id)  # noqa: B023

                was_cancelled = await cancelled_after(steps, use)
            if not was_cancelled:
                break
            begun += job_id in target.ever
            await anyio.wait_all_tasks_blocked()
            assert target.jobs == {}, steps
            assert (session.state, len(session._connection.seals)) == ("OPEN", 0)
            if placement == "keep":
                with pytest.raises(remit.JobStateError, match="cannot be used again"):
                    await session.start(["true"], placement=placement, id=job_id)
            if verb == "run" and steps > 100:
                break  # it waits for its end by now
        assert begun, "no cancel came late enough to meet a job"
        link = session._connection.link
        assert link is not None
        gc.collect()
        assert len(link.channels) <= 1


@pytest.mark.parametrize("cut", [False, True])
async def test_a_kept_start_is_taken_back_after_a_cancel_from_outside_the_block(cut: bool) -> None:
    """Also where the link was lost just before: it is done over the next one."""
    for steps in range(0, 120, 3):
        target = FakeTarget()

        async def use() -> None:
            async with target.session() as session:  # noqa: B023
                await session.run(["sleep", "1000"], placement="keep")

        def spoil() -> None:
            if cut:
                target.cut()  # noqa: B023

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(after, steps, spoil)
            assert await cancelled_after(steps + 1, use)
        # What a lost link left behind is out of reach once the session is.
        assert cut or target.jobs == {}, steps


CALLS: dict[str, Callable[[remit.Session, remit.Job], Awaitable[object]]] = {
    "wait": lambda session, job: job.wait(),
    "receive": lambda session, job: anext(job.receive()),
    "receive keep": lambda session, job: anext(job.receive(keep=True)),
    "result": lambda session, job: job.result(),
    "refresh": lambda session, job: job.refresh(),
    "stop": lambda session, job: job.stop(),
    "remove": lambda session, job: job.remove(force=True),
    "jobs": lambda session, job: session.jobs(),
    "job": lambda session, job: session.job(job.id),
}


@pytest.mark.parametrize("name", CALLS)
async def test_a_call_that_is_cancelled_at_any_step_leaves_the_session_usable(
    name: str, placement: str
) -> None:
    target = FakeTarget()
    target.turns = 2
    async with target.session() as session:
        for steps in range(40):
            job = await session.start(["sleep", "1000"], placement=placement)

            async def use() -> None:
                await CALLS[name](session, job)  # noqa: B023

            await cancelled_after(steps, use)
            await session.jobs()
            with suppress(remit.JobNotFound):  # a removal that had been asked for was carried out
                await job.remove(force=True)
            await anyio.wait_all_tasks_blocked()
            assert target.jobs == {}, steps
        gc.collect()
        link = session._connection.link
        assert link is not None
        assert len(link.channels) <= 1


async def test_who_asked_first_for_a_result_may_be_cancelled(placement: str) -> None:
    target = FakeTarget()
    async with target.session() as session:
        job = await session.start(["true"], placement=placement)
        target.only().prints(b"out\n")
        results: list[str] = []

        async def ask() -> None:
            results.append((await job.result()).text)

        async with anyio.create_task_group() as first:
            first.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as second:
                second.start_soon(ask)
                await anyio.wait_all_tasks_blocked()
                first.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                    target.only().ends()
                    assert (await job.result()).text == "out\n"


# -- blocks, and what is told


@pytest.mark.parametrize("ends", ["runs", "has ended", "raises", "cancelled"])
async def test_a_job_ends_with_its_block(placement: str, ends: str) -> None:
    target = FakeTarget()
    async with target.session() as session:
        with anyio.CancelScope() as scope:
            try:
                async with await session.start(["true"], placement=placement) as job:
                    if ends == "has ended":
                        target.only().ends()
                        await job.wait()
                    elif ends == "raises":
                        raise KeyError("mine")
                    elif ends == "cancelled":
                        scope.cancel()
                        await anyio.sleep_forever()
            except KeyError:
                assert ends == "raises"
        assert job.state is (JobState.COMPLETED if ends == "has ended" else JobState.STOPPED)
        left = [info.id for info in await session.jobs()]
        assert left == ([job.id] if placement == "keep" else [])


async def test_changes_begin_now_and_end_with_the_job(placement: str) -> None:
    target = FakeTarget()
    async with target.session() as session:
        job = await session.start(["true"], placement=placement)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_end_after, target, 3600.0)
            assert [state async for state in job.changes()] == ["RUNNING", "COMPLETED"]
        assert [state async for state in job.changes()] == ["COMPLETED"]


async def _end_after(target: FakeTarget, seconds: float) -> None:
    await anyio.sleep(seconds)
    target.only().ends()
