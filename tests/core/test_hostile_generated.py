"""An agent that lies by chance: whatever it says is refused or taken, in bounded memory, and is no
bug of remit. What is taken is what its type says."""

from __future__ import annotations

import re
import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import remit
from remit._decoding import decode
from remit._errors import LocalProtocolError, RemitError
from remit._jobs.options import Full
from remit._link.messages import JobMap, JobPage, PrunedPage, Refusal
from remit._plugins import plugins
from remit._wire import frames as wire
from remit._wire.conversation import PIECE
from remit._wire.credit import LEAST_CHARGE
from remit._wire.sanitize import harmless
from remit.testing import FakeTransport

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

ID = "jaaaaaaaaaaaa"
OUTCOME = {"exit_status": 0, "signal": None, "reason": "exited", "error": None, "note": None}
SOUND: dict[str, Any] = {
    **job_map(ID, "COMPLETED", outcome=OUTCOME),
    "name": "n",
    "group": None,
    "lifetime": "session",
    "location": None,
    "command": {"argv": [b"true"]},
    "sizes": {"stdout": 1, "stderr": 0},
    "used": {},
    "started": 1.0,
    "finished": 2.0,
    "problem": None,
}
odd_text = st.sampled_from(
    ["", "\x1b]0;x\x07", "a\r\nremit: all is well", "../../etc/passwd", "\u202egnp", "x" * 5000]
) | st.text(max_size=20)
numbers = st.sampled_from([-1, 0, 1, 255, 256, 99999999999, 1 << 63, 1e300, float("nan"), -0.5])
odd = st.recursive(
    st.none() | st.booleans() | numbers | odd_text | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)
states = st.sampled_from([*remit.JobState, "GREAT", ""])


@st.composite
def job_maps(draw: st.DrawFn) -> dict[str, Any]:
    """A sound one, of which some parts are anything."""
    job = dict(SOUND)
    for key in draw(st.lists(st.sampled_from(sorted(SOUND)), max_size=4)):
        job[key] = draw(states if key == "state" and draw(st.booleans()) else odd)
    if draw(st.booleans()):
        outcome = dict(OUTCOME)
        for key in draw(st.lists(st.sampled_from(sorted(OUTCOME)), max_size=2)):
            outcome[key] = draw(odd)  # type: ignore[assignment]
        job["outcome"] = outcome
    return job


@settings(max_examples=300, deadline=None)
@given(job_maps())
def test_what_is_taken_of_a_job_is_what_its_type_says(said: dict[str, Any]) -> None:
    try:
        info = decode(_pack(said), JobMap).info("server01", here=False)
    except remit.RemoteProtocolError:
        return
    assert re.fullmatch(r"j[a-z2-7]{12}", info.id)
    assert info.group is None or re.fullmatch(r"g[a-z2-7]{12}", info.group)
    assert info.location == "server01", "a target cannot pass for another"
    outcome = info.outcome or remit.Outcome()
    assert outcome.exit_status is None or 0 <= outcome.exit_status <= 255
    assert re.fullmatch(r"[\w.+-]{0,64}", outcome.reason, re.ASCII)
    assert re.fullmatch(r"[\w.+-]{0,64}", outcome.signal or "", re.ASCII)
    if info.state is remit.JobState.COMPLETED:
        assert outcome.exit_status == 0
    if info.state in ("COMPLETED", "FAILED", "STOPPED"):
        assert info.outcome is not None
    assert harmless(repr(info)) == repr(info)


@pytest.mark.parametrize(
    "job_id", ["../../dir/package", "j/../aaaaaaaaa", "", ID + "\n", ID.upper(), ID + "a", "x" * 13]
)
@pytest.mark.parametrize("kind", ["job", "next", "pruned", "pruned next", "ids"])
def test_no_id_is_a_path(kind: str, job_id: str) -> None:
    pruned = {"id": ID, "state": "FAILED", "size": 1}
    said: dict[str, tuple[Any, Any]] = {
        "job": (JobMap, {**SOUND, "id": job_id}),
        "next": (JobPage, {"jobs": [], "next": job_id}),
        "pruned": (PrunedPage, {"jobs": [{**pruned, "id": job_id}]}),
        "pruned next": (PrunedPage, {"jobs": [], "next": [1.0, job_id]}),
        "ids": (Refusal, {"code": "ambiguous", "message": "x", "ids": [job_id]}),
    }
    kinds, body = said[kind]
    with pytest.raises(remit.RemoteProtocolError):
        decode(pack(body), kinds)


# -- a whole session with a liar


def _pack(value: object) -> bytes:
    try:
        return pack(value)
    except (OverflowError, ValueError, UnicodeEncodeError):
        return b"\xc1"  # what msgspec does not write it would not read


bodies = st.one_of(
    job_maps().map(_pack),
    job_maps().map(lambda job: _pack({"job": job})),
    job_maps().map(lambda job: _pack({"jobs": [job], "next": None})),
    job_maps().map(lambda job: _pack(["job", job])),
    st.tuples(odd_text, odd).map(_pack),
    odd.map(_pack),
    st.binary(max_size=30),
    st.builds(
        lambda stream, offset, time, data: PIECE.pack(stream, 0, offset, time) + data,
        st.sampled_from([0, 1, 2, 3, 7, 200]),
        st.sampled_from([0, 1, 5, (1 << 64) - 1]),
        st.sampled_from([1.0, float("nan"), 1e300]),
        st.binary(max_size=40),
    ),
)
frames = st.tuples(st.integers(1, 13), st.sampled_from([1, 2, 2, 2, 3, 0, 9]), bodies)


async def _use(session: remit.Session) -> None:
    async with anyio.create_task_group() as tasks:
        for act in (
            lambda: session.run(["true"], id=ID),
            session.jobs,
            lambda: session.job(ID),
            lambda: session.run(["true"], placement="keep"),
            lambda: session.prune(older_than=0),
        ):
            tasks.start_soon(_quietly, act)


async def _quietly(act: Callable[[], Awaitable[object]]) -> None:
    said = ""
    with anyio.move_on_after(0.05):
        try:
            await act()
        except LocalProtocolError:
            raise
        except RemitError as exc:
            said = str(exc)
    assert harmless(said) == said


async def _lie(said: list[tuple[int, int, bytes]]) -> None:
    async def liar(agent: FakeAgent) -> None:
        await agent.request()
        for kind, channel, body in said:
            await agent.peer.send(wire.HEADER.pack(kind, channel, len(body)) + body)
            await anyio.lowlevel.checkpoint()

    plugins().transports["fake"] = FakeTransport(agent_script(liar))
    try:
        with anyio.fail_after(20):
            async with remit.connect("fake:", reconnect=0) as session:
                await _use(session)
    finally:
        plugins().transports.pop("fake")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_lie_is_a_bug_of_ours_or_hangs_us(backend: str) -> None:
    @settings(
        max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
    @given(st.lists(frames, min_size=1, max_size=6))
    def try_one(said: list[tuple[int, int, bytes]]) -> None:
        anyio.run(_lie, said, backend=backend)

    try_one()


# -- floods

Flood = Callable[[FakeAgent, int, str], Awaitable[None]]


async def _accept(agent: FakeAgent, channel: int, job_id: str) -> None:
    agent.conversation.accept(channel, pack(job_map(job_id)))
    await agent.flush()


async def _send(agent: FakeAgent, kind: int, channel: int, *bodies: bytes) -> None:
    data = [wire.HEADER.pack(kind, channel, len(body)) + body for body in bodies]
    await agent.peer.send(b"".join(data))


async def tiny_pieces(agent: FakeAgent, channel: int, job_id: str) -> None:
    await _accept(agent, channel, job_id)
    at = 0
    while True:
        pieces = (PIECE.pack(1 + n % 2, 0, (at + n) // 2, 1.0) + b"x" for n in range(1000))
        await _send(agent, wire.DATA, channel, *pieces)
        at += 1000


async def empty_pieces(agent: FakeAgent, channel: int, job_id: str) -> None:
    await _accept(agent, channel, job_id)
    while True:
        await _send(agent, wire.DATA, channel, *[PIECE.pack(1, 0, 0, 1.0)] * 1000)


async def endless_news(agent: FakeAgent, channel: int, job_id: str) -> None:
    await _accept(agent, channel, job_id)
    for number in range(300):
        outcome = {"reason": "x", "error": "e" * 400_000, "left_behind": ["y"] * 10_000}
        news = job_map(job_id, "RUNNING", outcome=outcome, name=str(number))
        await _send(agent, wire.EVENT, channel, pack(["job", news]))


async def endless_credit(agent: FakeAgent, channel: int, job_id: str) -> None:
    await _accept(agent, channel, job_id)
    for _ in range(100):
        await _send(agent, wire.CREDIT, channel, *[(1).to_bytes(8, "big")] * 1000)


FLOODS: list[Flood] = [tiny_pieces, empty_pieces, endless_news, endless_credit]


@pytest.mark.anyio
@pytest.mark.parametrize("full", ["spill", "block", "drop"])
@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_does_not_fill_memory(
    play: Play, flood: Flood, full: Full, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def liar(agent: FakeAgent) -> None:
        channel, _, arguments = await agent.request()
        await flood(agent, channel, arguments["id"])

    play(agent_script(liar))
    monkeypatch.setattr("remit._session.farewell.Callers.farewell", 0.1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with anyio.fail_after(60):
        async with remit.connect("fake:", reconnect=0) as session:
            with suppress(
                remit.RemoteProtocolError
            ):  # caught before its first answer was looked at
                job = await session.start(["true"], full=full)
                with anyio.move_on_after(1.5):
                    async for _ in session.changes():
                        pass  # until it is caught lying
                assert len(repr(job.info)) < 5_000_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 150 << 10, f"{grown >> 10} MB"


@pytest.mark.anyio
@pytest.mark.parametrize("circle", ["same", "endless"])
@pytest.mark.parametrize("verb", ["jobs", "prune"])
async def test_a_list_without_an_end_is_left(
    play: Play, verb: str, circle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remit._session.listing._MOST_LISTED", 1000)
    letters = "abcdefghijklmnopqrstuvwxyz"

    async def liar(agent: FakeAgent) -> None:
        number = 0
        async for channel, _, _ in agent.requests():
            number += circle == "endless"
            last = "j" + "".join(letters[number // 26**place % 26] for place in range(11, -1, -1))
            item = {"id": last, "state": "LOST", "size": 1}
            last_of = last if verb == "jobs" else [1.0, last]
            agent.conversation.reply(channel, pack({"jobs": [item] * 20, "next": last_of}))

    play(agent_script(liar))
    async with remit.connect("fake:") as session:
        with anyio.fail_after(20), pytest.raises(remit.RemoteProtocolError, match="the list"):
            await (session.jobs() if verb == "jobs" else session.prune(older_than=0))


@pytest.mark.anyio
async def test_another_job_than_was_asked_for_is_no_answer(play: Play) -> None:
    async def liar(agent: FakeAgent) -> None:
        async for channel, _, _ in agent.requests():
            page = {"jobs": [job_map(remit.new_job_id(), placement="keep")]}
            agent.conversation.reply(channel, pack(page))

    play(agent_script(liar))
    async with remit.connect("fake:") as session:
        for name in (remit.new_job_id(), "logs", "jabc"):
            with pytest.raises(remit.JobNotFound, match="no job"):
                await session.job(name)


@pytest.mark.anyio
async def test_one_byte_at_a_time_comes_whole_all_the_same(session: remit.Session) -> None:
    # More small pieces than there is credit for at once.
    script = "i=0; while [ $i -lt 40 ]; do printf a; printf b >&2; i=$((i+1)); done"
    for full in ("spill", "block", "drop"):
        for limit in (1, LEAST_CHARGE - 1, 1000):
            job = await session.start(script, full=full, buffer_limit=limit)
            out = {"stdout": b"", "stderr": b""}
            with anyio.fail_after(30):
                async for record in job.receive():
                    if isinstance(record.data, bytes):
                        out[record.stream] += record.data
            if full != "drop":
                assert out == {"stdout": b"a" * 40, "stderr": b"b" * 40}, (full, limit)
