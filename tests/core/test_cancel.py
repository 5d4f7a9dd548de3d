"""A cancel, at any moment of any call: the session goes on, and nothing is left behind."""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

import remit
from testbed import processes, waits

from .conftest import until

pytestmark = pytest.mark.anyio

_marks = itertools.count(os.getpid() * 10_000)  # nobody else's, in other workers either
# Before most answers have come, and after. Each step of the caller's own is walked without an
# agent, in `test_over_links`; this is about what the agent makes of it.
MOMENTS = (0.001, 0.02)

Call = Callable[[remit.Session, remit.Job, Path], Awaitable[object]]

CALLS: dict[str, Call] = {
    "wait": lambda session, job, path: job.wait(),
    "receive": lambda session, job, path: anext(job.receive()),
    "receive keep": lambda session, job, path: anext(job.receive(keep=True)),
    "result": lambda session, job, path: job.result(),
    "changes": lambda session, job, path: _second(job),
    "refresh": lambda session, job, path: job.refresh(),
    "stop": lambda session, job, path: job.stop(),
    "suspend": lambda session, job, path: job.suspend(),
    "resume": lambda session, job, path: job.resume(),
    "signal": lambda session, job, path: job.signal("URG"),
    "save": lambda session, job, path: job.save(path / "saved"),
    "remove": lambda session, job, path: job.remove(force=True),
    "jobs": lambda session, job, path: session.jobs(),
    "job": lambda session, job, path: session.job(job.id),
    "connect": lambda session, job, path: _connect(),
}


async def _second(job: remit.Job) -> None:
    changes = job.changes()
    await anext(changes)
    await anext(changes)


async def _connect() -> None:
    async with remit.connect("local:"):
        await anyio.sleep_forever()


async def until_gone(mark: str) -> None:
    while left := processes.running(mark):
        await waits.gone(*left)


@pytest.mark.parametrize("placement", ["return", "keep"])
@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_leaves_the_session_usable(
    session: remit.Session, tmp_path: Path, name: str, placement: str
) -> None:
    for moment in MOMENTS:
        mark = f"sleep {next(_marks)}"
        job = await session.start(mark, placement=placement)
        with anyio.move_on_after(moment):
            await CALLS[name](session, job, tmp_path)
        assert (await session.run(["echo", "on"])).stdout == b"on\n"
        if name == "stop":
            await until_gone(mark)  # it goes on there
        elif name != "remove":
            await job.remove(force=True)
        await until_gone(mark)
    # A save that had been asked for may have been carried out: whole.
    assert [path.name for path in tmp_path.iterdir()] in ([], ["saved"])


@pytest.mark.parametrize("placement", ["return", "keep"])
@pytest.mark.parametrize("verb", ["start", "run"])
async def test_a_cancelled_start_is_taken_back(
    session: remit.Session, verb: str, placement: str
) -> None:
    for moment in MOMENTS:
        mark, job_id = f"sleep {next(_marks)}", remit.new_job_id()
        with anyio.move_on_after(moment) as scope:
            await getattr(session, verb)(mark, placement=placement, id=job_id)
        if not scope.cancelled_caught:  # it was quicker
            assert verb == "start"
            await (await session.job(job_id)).remove(force=True)
        await until_gone(mark)
        with anyio.fail_after(10):
            while await session.jobs():
                pass  # each is a round trip
        if placement == "keep":
            with pytest.raises(
                remit.JobStateError, match="its id cannot be used again"
            ):  # it never runs again
                await session.start(mark, placement=placement, id=job_id)


async def test_a_cancelled_send_leaves_the_job_reading(
    session: remit.Session, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job = await session.start(f"{until(gate)}; exec wc -c", stdin=remit.PIPE)
    with anyio.move_on_after(0.05) as scope:
        await job.send(b"x" * 5_000_000)
    assert scope.cancelled_caught
    gate.touch()
    await job.send_eof()
    sent = int((await job.result()).stdout)
    assert 0 < sent < 5_000_000


async def test_a_cancelled_close_still_closes() -> None:
    async with remit.open_hub() as hub:
        session = await hub.connect("local:")
        mark = f"sleep {next(_marks)}"
        await session.start(mark)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.aclose()
        assert session.state is remit.SessionState.CLOSED
        await until_gone(mark)
