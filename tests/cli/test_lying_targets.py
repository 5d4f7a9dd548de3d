"""What a target says touches nothing here but the notes of its own jobs: lies made at random."""

from __future__ import annotations

import functools
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.fake_agent import FakeAgent, agent_script, pack
from remit import JobInfo, RemitError
from remit._plugins import plugins
from remit._wire import frames
from remit._wire.conversation import Event
from remit.cli import _jobs, _known, _manage, _prune
from remit.cli._known import Note
from remit.testing import FakePeer, FakeTransport

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
OWN, ALSO_OWN = "jaaaaaaaaaaaa", "jaaaabaaaaaaa"
OTHERS, THIRD = "jbbbbbbbbbbbb", "jcccccccccccc"
LIAR = "fake:liar"
NOTES = {OWN: LIAR, ALSO_OWN: LIAR, OTHERS: "fake:other", THIRD: "fake:liar?state=/x"}


@pytest.fixture
def home(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory with notes, and files that are nobody's business beside it."""
    monkeypatch.setenv("REMIT_STATE_DIR", str(state_dir))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    plugins().transports.pop("fake", None)


def fill(home: Path) -> dict[str, bytes]:
    """All files, as they are before a command."""
    for job, target in NOTES.items():
        _known.write(Note(id=job, target=target, name=job[1:3], location="x", created=NOON))
    for place in ("package.json", "state/package.json", "state/jobs/package.json"):
        (home / place).parent.mkdir(mode=0o700, exist_ok=True)
        (home / place).write_text("{}")
    return found(home)


def found(home: Path) -> dict[str, bytes]:
    return {str(p.relative_to(home)): p.read_bytes() for p in home.rglob("*") if p.is_file()}


# Ids of notes that are there, paths that lead to files that are there, and what else can be said.
paths = st.builds(
    lambda up, way: "../" * up + way,
    st.integers(0, 4),
    st.sampled_from(["package", "known/" + OTHERS, "state/package", "jobs/package", "", ".", "/"]),
)
absolute = st.builds(lambda name: os.path.join(os.getcwd(), name), st.just("package"))
ids = st.sampled_from([*NOTES]) | paths | absolute | st.text(max_size=20) | st.none()
states = st.sampled_from(["COMPLETED", "RUNNING", "LOST", "STOPPED"])
pruned = st.fixed_dictionaries(
    {"id": ids, "state": states, "size": st.integers(0, 9)}, optional={"finished": st.just(1.0)}
)
job_maps = st.fixed_dictionaries(
    {"id": ids, "state": states, "placement": st.just("keep")},
    optional={"name": ids, "location": ids, "created": st.just(1.0)},
)
pages = st.fixed_dictionaries({"jobs": st.lists(job_maps, max_size=3)})
answers = st.fixed_dictionaries(
    {
        "prune": st.fixed_dictionaries({"jobs": st.lists(pruned, max_size=3)}),
        "jobs": pages,
        "find": pages,
        "watch": job_maps,
        "stop": st.fixed_dictionaries({"survivors": st.just([]), "job": job_maps}),
        "remove": st.just({}),
    }
)


def ignored(_: object) -> None: ...


Command = Callable[[], Awaitable[object]]
OPTIONS: dict[str, Any] = {"older_than": "1s", "max_total": None, "dry_run": False}
commands: st.SearchStrategy[Command] = st.one_of(
    st.just(functools.partial(_prune.prune, LIAR, ignored, **OPTIONS)),
    st.just(functools.partial(_jobs.show_known, ignored)),
    st.builds(
        lambda verb, word, on, more: functools.partial(verb, [word], on, **more),
        st.just(_manage.remove),
        st.sampled_from([OWN, OTHERS, "aa"]),
        st.sampled_from([LIAR, None]),
        st.fixed_dictionaries({"force": st.booleans()}),
    ),
    st.just(functools.partial(_manage.stop, [OWN], None, grace=0.0)),
)


def answer(agent: FakeAgent, request: Event, answers: dict[str, Any]) -> None:
    verb, _ = msgspec.msgpack.decode(request.body)
    tell = agent.conversation.accept if verb == "watch" else agent.conversation.reply
    tell(request.channel, pack(answers.get(verb, {})))


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(command=commands, answers=answers)
def test_a_target_that_lies_costs_no_file_but_notes_of_its_own(
    home: Path, command: Command, answers: dict[str, Any]
) -> None:
    async def play(agent: FakeAgent) -> None:
        while True:
            for event in agent.events:
                if event.kind == frames.GOODBYE:
                    return
                if event.kind == frames.REQUEST:
                    answer(agent, event, answers)
            await agent.flush()
            data = await agent.peer.receive()
            if not data:
                return
            agent.events = agent.conversation.receive(data)

    lie = agent_script(play)

    async def script(peer: FakePeer) -> int | None:
        return await lie(peer) if str(peer.target) == LIAR else 255  # the others are away

    plugins().transports["fake"] = FakeTransport(script)
    before = fill(home)

    async def run() -> None:
        with anyio.fail_after(20), suppress(RemitError):
            await command()

    anyio.run(run)
    after = found(home)
    assert {name: after[name] for name in after if name in before} == {
        name: before[name] for name in before if name in after
    }
    gone = before.keys() - after.keys()
    assert gone <= {f"state/known/{job}.json" for job, target in NOTES.items() if target == LIAR}


def test_a_note_goes_only_with_the_target_that_it_names(home: Path) -> None:
    fill(home)
    for job, target in NOTES.items():
        for other in ("fake:", "fake:liar?state=/y", "bogus:", "", *NOTES.values()):
            if other != target:
                _known.drop(job, other)
    assert {note.id: note.target for note in _known.read()} == NOTES
    note = msgspec.structs.replace(_known.read()[0], target="ssh:web1")
    _known.write(note)
    _known.drop(note.id, "web1")
    assert note.id not in {each.id for each in _known.read()}


def test_a_target_does_not_pass_for_another(home: Path) -> None:
    async def play(agent: FakeAgent) -> None:
        channel, _, _ = await agent.request()
        told = {"id": OWN, "state": "RUNNING", "placement": "keep", "location": "server02"}
        agent.conversation.reply(channel, pack({"jobs": [told]}))
        await agent.flush()
        await agent.next(frames.GOODBYE)

    fill(home)
    plugins().transports["fake"] = FakeTransport(agent_script(play))
    for note in _known.read():
        if note.id != OWN:
            _known.drop(note.id, note.target)
    shown: list[JobInfo] = []
    anyio.run(_jobs.show_known, shown.extend)
    (job,) = shown
    assert (job.id, job.location) == (OWN, "liar")


@pytest.mark.parametrize("target", ["ssh:web1?config=/no/such/file", "fake:other"])
def test_a_target_that_gives_no_answer_is_named_once(
    home: Path, target: str, capfd: pytest.CaptureFixture[str]
) -> None:
    _known.write(Note(id=OWN, target=target, name="own", location="x", created=NOON))
    shown: list[JobInfo] = []
    anyio.run(_jobs.show_known, shown.extend)
    assert [str(job.state) for job in shown] == ["DISCONNECTED"]
    assert capfd.readouterr().err.count(target) == 1
