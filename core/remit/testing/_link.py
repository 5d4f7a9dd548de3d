"""What remit makes of a transport's connection that fails, with the faults injected."""

from __future__ import annotations

import anyio
import pytest

import remit
from remit._errors import LinkLost
from remit._types import PIPE, JobState
from remit.abc import Target, Transport
from remit.testing._faulty import Fault, FaultyTransport
from remit.testing._processes import UP, children, new_marker, sh, until_gone

_LIMIT = 60.0
# Seconds of silence that are a dead link; an agent that comes up slowly must not seem to be one.
_SILENCE = 3.0
# 300,003 bytes.
_KEPT = "head -c 300000 /dev/zero; printf end"
_WORDS = bytes(range(256))


class LinkConformance:
    """Sessions over a transport whose connections are cut, closed on one side, reset, late and
    silent. Needs the fixtures of `StreamConformance`, and Python on the target."""

    pytestmark = pytest.mark.anyio

    async def test_a_broken_connection_costs_what_hangs_on_it_and_is_made_anew(
        self, transport: Transport, target: Target, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Cut, half closed or reset, a connection costs its return jobs, which are LOST and run on
        nowhere. The session reconnects; kept jobs are read to their last byte."""
        monkeypatch.setattr("remit._session.backoff.wait_before", lambda attempt, jitter: 0.01)
        faulty, before = FaultyTransport(transport, target), children()
        with anyio.fail_after(_LIMIT), faulty.there() as there:
            async with remit.connect(there) as session:
                kept = await session.start(sh(_KEPT), placement="keep")
                try:
                    for fault in (Fault.CUT, Fault.HALF_CLOSE, Fault.RESET):
                        await _break(session, kept, faulty, fault)
                    faulty.fail(Fault.DELAY)
                    assert (await session.run(["cat"], stdin=_WORDS)).stdout == _WORDS
                finally:
                    await kept.remove(force=True)
        assert children() <= before

    # Seconds of waiting, and nothing in it that the transport does otherwise on the other loop.
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_a_connection_that_falls_silent_is_given_up(
        self, transport: Transport, target: Target
    ) -> None:
        """A connection on which nothing arrives ends the session after ``silence`` seconds, and its
        job on the target ends too."""
        before = children()

        async def one(fault: Fault, words: str) -> None:
            # Transports of their own: what fails is every connection of one.
            faulty = FaultyTransport(transport, target, f"faulty-{fault.value}")
            marker = new_marker()
            with faulty.there() as there:
                async with remit.connect(there, silence=_SILENCE, reconnect=0) as session:
                    job = await session.start(sh(UP, marker), stdin=PIPE)
                    faulty.fail(fault)
                    await _is_lost(job, words)
                    with pytest.raises(LinkLost, match=words):
                        await session.jobs()
            await until_gone(marker)

        with anyio.fail_after(_LIMIT):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one, Fault.SILENCE, "nothing was heard of it for")
                # The agent hears nothing either, and may be the first to give it up.
                tasks.start_soon(one, Fault.DEAF, "nothing could be sent there|the stream ended")
        assert children() <= before


async def _break(
    session: remit.Session, kept: remit.Job, faulty: FaultyTransport, fault: Fault
) -> None:
    """The one connection fails while a job hangs on it and a kept one is read."""
    marker = new_marker()
    lost = await session.start(sh(UP, marker), stdin=PIPE)
    reading = kept.receive(keep=True, from_start=True)
    records: list[remit.Record] = [await anext(reading)]
    faulty.fail(fault)
    assert kept.id in {job.id for job in await session.jobs()}, "asked again over the next one"
    records += [record async for record in reading]
    assert b"".join(record.data for record in records) == bytes(300_000) + b"end", (
        "what is kept is whole, whatever became of the link"
    )
    await _is_lost(lost, "the link to faulty: was lost: ")
    await until_gone(marker)


async def _is_lost(job: remit.Job, words: str) -> None:
    assert await job.wait() is JobState.LOST
    assert job.outcome is not None
    assert job.outcome.reason == "link-lost"
    with pytest.raises(LinkLost, match=words):
        await _read_all(job)


async def _read_all(job: remit.Job) -> None:
    async for record in job.receive():
        assert record.data == b"up\n"
