"""Pruning as callers have it."""

from __future__ import annotations

import pytest

import remit

pytestmark = pytest.mark.anyio


async def test_what_is_over_goes_and_what_runs_stays() -> None:
    async with remit.connect("local:") as session:
        jobs = []
        for name in ("first", "second"):
            job = await session.start(["true"], placement="keep", name=name)
            await job.wait()
            jobs.append(job)
        running = await session.start(["sleep", "1000"], placement="keep")
        assert await session.prune(older_than=3600.0) == []
        told = await session.prune(max_total=0, dry_run=True)
        assert [(job.id, job.name, job.state) for job in told] == [
            (jobs[0].id, "first", remit.JobState.COMPLETED),
            (jobs[1].id, "second", remit.JobState.COMPLETED),
        ]
        assert [job.finished for job in told] == [job.finished for job in jobs]
        assert all(job.size > 0 for job in told)
        assert len(await session.jobs()) == 3
        assert await session.prune(max_total=0) == told
        assert [info.id for info in await session.jobs()] == [running.id]
        await running.remove(force=True)


async def test_without_a_limit_it_is_a_mistake() -> None:
    async with remit.connect("local:") as session:
        with pytest.raises(ValueError, match="older_than or max_total"):
            await session.prune()
        with pytest.raises(ValueError, match="seconds"):
            await session.prune(older_than=-1.0)
        with pytest.raises(ValueError, match="bytes"):
            await session.prune(max_total=-1)
