"""Credit is charged for what a piece weighs here, so that windows bound memory whatever is sent."""

from __future__ import annotations

import gc
import tracemalloc

import anyio
import anyio.lowlevel
import pytest

import remit
from remit._jobs import spool_reader
from remit._wire import frames
from remit._wire.conversation import AGENT, Conversation, Piece
from remit._wire.credit import LEAST_CHARGE, charge

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio

ID = "jaaaaaaaaaaaa"


class Flood:
    """Sends pieces of so many bytes of a kept job's output, as many as there is credit for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self.pieces = 0

    async def serve(self, agent: FakeAgent) -> None:
        fake, agent.conversation = agent.conversation, Conversation(AGENT, LEAST_CHARGE)
        agent.conversation._met = fake._met
        while True:
            event = await agent.next(frames.REQUEST)
            verb, _arguments = agent.unpack(event.body)
            if verb == "find":
                page = {"jobs": [job_map(ID, placement="keep")], "next": None}
                agent.conversation.reply(event.channel, pack(page))
            else:
                agent.conversation.accept(event.channel, pack(ANSWERS[verb]))
            await agent.flush()
            if verb == "read":
                await agent.next(frames.CREDIT)
                await self._send(agent, event.channel)

    async def _send(self, agent: FakeAgent, channel: int) -> None:
        while agent.conversation.credit(channel) >= self._size:
            at = self.pieces * self._size
            piece = Piece(1, self.pieces, at, 1.0 + self.pieces, b"x" * self._size)
            agent.conversation.data(channel, piece)
            self.pieces += 1
        await agent.flush()


ANSWERS = {"watch": job_map(ID, placement="keep"), "read": {"position": {}}}


@pytest.mark.parametrize("size", [1, 16, 100, LEAST_CHARGE, 4096])
async def test_what_is_sent_ahead_of_a_reader_weighs_no_more_than_its_window(
    play: Play, size: int
) -> None:
    flood = Flood(size)
    play(agent_script(flood.serve))
    async with remit.connect("fake:") as session:
        job = await session.job(ID)
        reader = job._backing.store.read(None, follow=True, consume=False)
        tracemalloc.start()
        try:
            with anyio.fail_after(30):
                await reader.next()
                held = reader._reader._records  # type: ignore[attr-defined]
                while len(held) < flood.pieces - 1:
                    await anyio.lowlevel.checkpoint()
            gc.collect()
            weight = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert weight <= 1.6 * spool_reader._WINDOW, (size, flood.pieces)
        assert flood.pieces * charge(size) > spool_reader._WINDOW - charge(size)
        session._life.abandon()
