"""A directory or a program that hangs costs the job that wanted it, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, processes_of
from remit._link import agent_payload
from remit._wire.frames import ACCEPT
from testbed import pythons, run

# In the agent and all its forks: whoever goes into such a directory, or looks for such a program,
# waits until it is there.
HANG = """

def _hanging(function, hang):
    import time

    def called(path, *args, **kwargs):
        while hang in os.fsencode(path) and not os.access(hang, os.F_OK):
            time.sleep(0.02)
        return function(path, *args, **kwargs)

    return called


os.chdir = _hanging(os.chdir, %r)
os.execve = _hanging(os.execve, %r)
if hasattr(os, "posix_spawn"):
    os.posix_spawn = _hanging(os.posix_spawn, %r)
"""


@pytest.fixture(
    params=[each for each in pythons.found() if each.minor in (6, 13)],
    ids=lambda interpreter: interpreter.version,
)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Whatever is called so is on a server that does not answer until it is made."""
    path = tmp_path / "dead"
    written = agent_payload.modules

    def modules() -> dict[str, str]:
        sources = written()
        sources["remit._agent.base.spawn"] += HANG % ((bytes(path),) * 3)
        return sources

    monkeypatch.setattr(agent_payload, "modules", modules)
    agent_payload.payload.cache_clear()
    yield path
    agent_payload.payload.cache_clear()


@pytest.fixture
def wire(dead: Path, bring_up: Callable[..., Wire]) -> Wire:
    return bring_up()


def how(dead: Path, what: str) -> dict[str, Any]:
    if what == "directory":
        return job("sh", "-c", "pwd") | {"cwd": bytes(dead)}
    return job(str(dead / "program"))


@pytest.mark.parametrize("what", ["directory", "program"])
def test_others_go_on_and_it_runs_once_that_is_there(wire: Wire, dead: Path, what: str) -> None:
    words = how(dead, what)
    channel = wire.start(**words)
    assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
    assert not [event for event in wire.arrived if event.channel == channel]
    made = dead.with_name("made")
    made.mkdir()
    (made / "program").write_text("#!/bin/sh\necho there\n")
    (made / "program").chmod(0o700)
    made.rename(dead)
    wire.expect(ACCEPT, channel, 60)
    done = wire.collect(channel, 60)
    assert done.outcome["exit_status"] == 0
    assert done.stdout in (b"%s\n" % bytes(dead), b"there\n")


@pytest.mark.parametrize("what", ["directory", "program"])
@pytest.mark.parametrize("end", ["close", "stop", "timeout", "goodbye"])
def test_it_is_given_up_as_any_other(wire: Wire, dead: Path, what: str, end: str) -> None:
    words = how(dead, what) | ({"timeout": 0.2} if end == "timeout" else {})
    channel = wire.start(**words)
    assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
    if end == "close":
        wire.close_channel(channel)
    elif end == "stop":
        assert wire.call("stop", 60, job=words["id"], grace=1.0)["survivors"] == []
    if end in ("stop", "timeout"):
        wire.accepted(channel, 60)
        outcome = wire.collect(channel, 60).outcome
        assert outcome["reason"] == {"stop": "stopped"}.get(end, end)
    if end != "goodbye":
        run.wait_until(lambda: not processes_of(words["id"]), "its process to be gone")
        assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
    assert wire.goodbye(60) == {"left": []}
    dead.mkdir()


def test_what_is_not_there_is_told_as_ever(wire: Wire, tmp_path: Path) -> None:
    for words, told in (
        (job("true") | {"cwd": bytes(tmp_path / "none")}, "no such directory"),
        (job(str(tmp_path / "none")), "no such program"),
        (job("none") | {"env": {b"PATH": bytes(tmp_path)}}, "no such program"),
    ):
        outcome = wire.run(**words, deadline=60).outcome
        assert outcome["reason"] == "start-failed"
        assert told in outcome["error"]
    with pytest.raises(Refused, match="is not a job id"):
        wire.run("true", id="no id", deadline=60)


def test_the_answer_to_a_start_comes_before_all_else(
    bring_up: Callable[..., Wire], tmp_path: Path
) -> None:
    """Also where the program has closed its stdin and printed before that is written; the wire
    takes nothing else for an answer."""
    wire = bring_up()
    for _ in range(30):
        more = {"cwd": bytes(tmp_path), "stdin": True}
        jobs = [job("sh", "-c", "exec 0<&-; echo x") | more for _ in range(4)]
        channels = [wire.start(**words) for words in jobs]
        for channel in channels:
            assert wire.collect(channel, 60).stdout == b"x\n"
