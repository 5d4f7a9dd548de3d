"""Who is hit is who was meant: supervisors and the forkserver are both children of an agent."""

from __future__ import annotations

import pytest

import remit
from torture.cast import Cast, supervisors
from torture.places import PLACES

pytestmark = [pytest.mark.anyio, pytest.mark.real]


async def test_everybody_is_taken_for_what_they_are() -> None:
    with PLACES["local"]() as place, place.stage(False) as stage:
        async with remit.connect(stage.target) as session:
            # From its first return job on the agent adopts orphans, which supervisors are.
            await session.run(["true"])
            job = await session.start(["sleep", "1000"], placement="keep")
            try:
                cast = Cast(stage.python)
                ((name, supervisor),) = supervisors(stage.state)
                (agent,), (janitor,), (forkserver,) = (
                    cast.agents(),
                    cast.janitors(),
                    cast.forkservers(),
                )
                assert name == job.id
                assert len({agent, janitor, forkserver, supervisor}) == 4
                assert cast.attended() == [agent]
                assert session._hello is not None
                assert session._hello.pid == agent
            finally:
                await job.stop()
