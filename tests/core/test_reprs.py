"""Reprs say what a thing is, how it stands and how much it holds, in one line."""

from __future__ import annotations

import re

import pytest

import remit

pytestmark = pytest.mark.anyio


async def test_what_lives_says_how_it_stands() -> None:
    async with remit.open_hub() as hub:
        assert repr(hub) == "<remit.Hub open, 0 sessions>"
        session = await hub.connect("local:")
        assert repr(hub) == "<remit.Hub open, 1 sessions>"
        assert repr(session) == "<remit.Session local: OPEN, 0 return jobs run>"
        job = await session.start(["cat"], stdin=remit.PIPE, name="named")
        assert repr(session) == "<remit.Session local: OPEN, 1 return jobs run>"
        assert repr(job) == f"<remit.Job {job.id} 'named' RUNNING on localhost>"
        receiver, along = job.receive(), job.receive(keep=True)
        assert repr(receiver) == f"<remit.Receiver of {job.id}: consuming>"
        assert repr(along) == f"<remit.Receiver of {job.id}: keeping>"
        await along.aclose()
        assert repr(along) == f"<remit.Receiver of {job.id}: over, keeping>"
        await job.stop()
        assert re.fullmatch("<remit.Job .* STOPPED on localhost>", repr(job))
    assert repr(session) == "<remit.Session local: CLOSED, 0 return jobs run>"
    assert repr(hub) == "<remit.Hub not open, 0 sessions>"
