"""Where a reading of a kept job ends: it is an end only where the job's end is known, and all of
its output has come."""

from __future__ import annotations

from typing import Any

import pytest

import remit
from core.conftest import Play
from core.fake_agent import FakeAgent, agent_script, job_map, pack
from remit._wire.conversation import Piece

pytestmark = pytest.mark.anyio

PRINTED = b"half\n"
SIZE = len(PRINTED)
OVER = {"exit_status": 0, "reason": "exited"}


def told(job_id: str, state: str, size: int = SIZE) -> dict[str, object]:
    outcome = OVER if state == "COMPLETED" else None
    sizes = {"stdout": size, "stderr": 0}
    return job_map(job_id, state, placement="keep", outcome=outcome, sizes=sizes)


def script(end: dict[str, Any] | None, state: str, size: int, all_sent: dict[str, Any]) -> Any:
    """An agent that has such a job, and sends a part of its output; ``end`` is that of the reading,
    beside the job map, None where it does not come."""

    async def play(agent: FakeAgent) -> None:
        say = agent.conversation
        async for channel, verb, arguments in agent.requests():
            job = told(arguments.get("job") or arguments["name"], state, size)
            if verb == "find":
                say.reply(channel, pack({"jobs": [job]}))
            elif verb == "watch":
                say.accept(channel, pack(job))
                if state == "COMPLETED":
                    say.end(channel, pack({"job": job}))
            elif verb == "read":
                say.accept(channel, pack({"position": {}}))
                say.data(channel, Piece(1, 0, 0, 1.0, PRINTED))
                if arguments["consume"]:
                    body = {"position": {"stdout": SIZE}, **all_sent}
                    say.event(channel, pack(["all-sent", body]))
                if end is not None:
                    say.end(channel, pack({"job": job, **end}))

    return agent_script(play)


async def received(job: remit.Job, **how: bool) -> bytes:
    """What came; the error that came instead of an end is raised."""
    data = b""
    try:
        async for record in job.receive(**how):
            assert isinstance(record.data, bytes)
            data += record.data
    finally:
        assert data == PRINTED  # all that came, first
    return data


FAILURE = {"error": {"code": "state", "message": "the output cannot be read"}}


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize(
    ("end", "state", "size", "words"),
    [
        ({"complete": True}, "COMPLETED", SIZE, None),
        ({"complete": False}, "RUNNING", SIZE, "less of the output"),
        ({"complete": False}, "DISCONNECTED", SIZE, "less of the output"),
        ({"complete": True}, "RUNNING", SIZE, "less of the output"),
        ({"complete": False}, "COMPLETED", 10, "stdout  5 of 10 bytes"),
        (FAILURE, "RUNNING", SIZE, "the output cannot be read"),
    ],
)
async def test_an_end_that_is_none_is_told(
    play: Play, keep: bool, end: dict[str, Any], state: str, size: int, words: str | None
) -> None:
    complete = bool(end.get("complete")) and state == "COMPLETED"
    play(script(end, state, size, {"complete": complete}))
    async with remit.connect("fake:") as session:
        job = await session.job(remit.new_job_id())
        if words is None:
            await received(job, keep=keep)
        else:
            with pytest.raises(remit.RemitError, match=words):
                await received(job, keep=keep)
        # Who asks for what there is now gets that.
        if "error" not in end:
            await received(job, keep=keep, wait=False, from_start=True)


async def test_a_result_that_is_cut_is_no_result(play: Play) -> None:
    """It is known before anything of it is used up."""
    play(script(None, "COMPLETED", 10, {"complete": False}))
    async with remit.connect("fake:") as session:
        job = await session.job(remit.new_job_id())
        with pytest.raises(remit.ResultError, match="5 of 10 bytes"):
            await job.result()


async def test_an_agent_that_says_nothing_of_it_is_believed(play: Play) -> None:
    """Those before this was told do not say it."""
    play(script({"complete": True}, "COMPLETED", SIZE, {}))
    async with remit.connect("fake:") as session:
        done = await (await session.job(remit.new_job_id())).result()
        assert done.stdout == PRINTED
