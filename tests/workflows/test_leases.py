"""Leases and output limits as callers have them: a connection that ends starts the countdown, and
one that is made anew in time ends it."""

from __future__ import annotations

import time
from typing import Any

import anyio
import pytest

import remit

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), float("nan")])
def test_a_lease_is_a_span_of_time(seconds: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        remit.lease(seconds)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lifetime": remit.lease(1)}, "cannot be detached"),
        ({"placement": "keep", "lifetime": "lease"}, r"remit\.lease\(seconds\)"),
        ({"max_output": 10, "on_max": "truncate"}, "for kept jobs"),
        ({"placement": "keep", "max_output": 0}, "at least 1 byte"),
        ({"placement": "keep", "on_max": "truncate"}, "needs a max_output"),
        ({"placement": "keep", "max_output": 1, "on_max": "wrap"}, "on_max must be one of"),
    ],
)
async def test_what_can_never_be_right(options: dict[str, Any], words: str) -> None:
    async with remit.connect("local:") as session:
        with pytest.raises(ValueError, match=words):
            await session.start(["true"], **options)
        assert await session.jobs() == []


async def test_a_job_outlives_its_session_by_its_lease() -> None:
    async with remit.connect("local:") as session:
        job = await session.start("sleep 1000", placement="keep", lifetime=remit.lease(1.0))
        assert job.lifetime == "lease"
        left = time.time()
    while True:
        async with remit.connect("local:") as session:
            (info,) = await session.jobs()  # who only looks is no caller
            if info.state.finished:
                break
        assert time.time() < left + 60
        await anyio.sleep(0.2)
    assert (info.state, info.lifetime) == (remit.JobState.STOPPED, "lease")
    assert info.outcome is not None
    assert info.outcome.reason == "lease"
    assert info.finished is not None
    assert info.finished.timestamp() >= left + 0.9


async def test_output_that_is_too_much_stops_the_job() -> None:
    async with remit.connect("local:") as session:
        job = await session.start("yes", placement="keep", max_output=1000)
        assert await job.wait() is remit.JobState.FAILED
        assert job.outcome is not None
        assert job.outcome.reason == "max-output"
        records: list[remit.Record] = [record async for record in job.receive()]
        assert b"".join(record.data for record in records) == b"y\n" * 500


async def test_a_gap_stands_for_what_was_freed() -> None:
    whole = b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    async with remit.connect("local:") as session:
        job = await session.start(
            "seq 1 1000000", placement="keep", max_output=5000, on_max="truncate"
        )
        assert await job.wait() is remit.JobState.COMPLETED
        for keep in (True, False):
            records: list[remit.Record] = [one async for one in job.receive(keep=keep)]
            assert records[0].data == remit.Gap(len(whole) - 5000)
            assert (records[0].offset, records[0].end) == (0, len(whole) - 5000)
            assert b"".join(record.data for record in records[1:]) == whole[-5000:]
        assert not job.has_more_data
        assert [record async for record in job.receive()] == []
        again = await session.start(
            "seq 1 1000000", placement="keep", max_output=5000, on_max="truncate"
        )
        await again.wait()
        assert (await again.result()).stdout == whole[-5000:]
