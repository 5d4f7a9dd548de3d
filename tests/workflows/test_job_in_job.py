"""A job that is started from within a job, and is to outlive that: neither is part of the other."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import anyio
import pytest

import remit
from remit import JobState
from workflows import inner_start

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # what is tried here is the agent


@pytest.fixture
async def session() -> AsyncIterator[remit.Session]:
    async with remit.connect("local:") as session:
        yield session
        for job in await session.jobs():
            found = await session.job(job.id)
            await found.remove(force=True)


def command(*, session_for: float, goes_on_for: float) -> list[str]:
    return [sys.executable, inner_start.__file__, str(session_for), str(goes_on_for)]


async def first_line(job: remit.Job) -> str:
    text = b""
    async for record in job.receive():
        text += record.data if isinstance(record.data, bytes) else b""
        if b"\n" in text:
            return text.decode().strip()
    raise AssertionError(f"it ended: {job.outcome}")


@pytest.mark.parametrize("placement", ["return", "keep"])
@pytest.mark.parametrize("session_for", [0.0, 1000.0], ids=["its session over", "its session open"])
async def test_stopping_the_outer_one_leaves_the_inner_one(
    session: remit.Session, placement: str, session_for: float
) -> None:
    outer = await session.start(
        command(session_for=session_for, goes_on_for=1000.0), placement=placement
    )
    inner = await session.job(await first_line(outer))
    assert await outer.stop() == []
    assert outer.outcome is not None
    assert (outer.outcome.reason, outer.outcome.left_behind) == ("stopped", ())
    await inner.refresh()
    assert inner.state is JobState.RUNNING
    assert await inner.stop() == []
    assert await inner.wait() is JobState.STOPPED


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_the_inner_one_is_nothing_that_the_outer_one_left(
    session: remit.Session, placement: str
) -> None:
    outer = await session.start(command(session_for=0.0, goes_on_for=0.0), placement=placement)
    inner = await session.job(await first_line(outer))
    with anyio.fail_after(30):
        assert await outer.wait() is JobState.COMPLETED
    assert outer.outcome is not None
    assert (outer.outcome.left_behind, outer.outcome.note) == ((), None)
    # And its supervisor is not kept by it.
    await outer.remove()
    await inner.refresh()
    assert inner.state is JobState.RUNNING


async def test_stopping_the_inner_one_leaves_the_outer_one(session: remit.Session) -> None:
    outer = await session.start(command(session_for=0.0, goes_on_for=1000.0), placement="keep")
    inner = await session.job(await first_line(outer))
    await inner.stop()
    await inner.remove()
    await outer.refresh()
    assert outer.state is JobState.RUNNING
