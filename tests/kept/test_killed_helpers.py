"""A helper that is killed, before it has done anything or before it could say so: the agent asks
another one, and nobody notices; but what cannot be done twice is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, new_id
from remit._link import agent_payload

# In the agent: the first helper after a file was put there dies, by what the file is called.
KILL = """

def _killed(run):
    import os

    def at(when):
        try:
            os.unlink(os.path.join(%r, when))
        except FileNotFoundError:
            return
        os.kill(os.getpid(), 9)

    def runs(function, *rest):
        def act(*args):
            at("before")
            value = function(*args)
            at("after")
            return value

        run(act, *rest)

    return runs


_run = _killed(_run)
"""


@pytest.fixture
def kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Path]]:
    """Has the next helper killed; the file that is gone once it was."""
    written = agent_payload.modules

    def modules() -> dict[str, str]:
        sources = written()
        sources["remit._agent.base.helpers"] += KILL % str(tmp_path)
        return sources

    def at(when: str) -> Path:
        path = tmp_path / when
        path.touch()
        return path

    monkeypatch.setattr(agent_payload, "modules", modules)
    agent_payload.payload.cache_clear()
    yield at
    agent_payload.payload.cache_clear()


@pytest.fixture
def wire(kill: object, bring_up: Callable[..., Wire]) -> Wire:
    return bring_up()


def _read(wire: Wire, job_id: str) -> object:
    asked: dict[str, Any] = {"job": job_id, "position": None, "follow": False, "consume": True}
    channel = wire.request("read", **asked)
    wire.accepted(channel)
    data = wire.piece(channel).data
    wire.event(channel, "used", position={"stdout": len(data), "stderr": 0})
    return data, wire.collect(channel).end["complete"]


def _save(wire: Wire, job_id: str, path: Path) -> object:
    arguments: dict[str, Any] = {"path": os.fsencode(path), "cwd": None, "stream": "stdout"}
    wire.call("save", job=job_id, **arguments)
    return path.read_bytes()


def _jobs(page: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((each["id"], each["state"]) for each in page["jobs"])


@pytest.mark.parametrize("when", ["before", "after"])
def test_whatever_is_asked_of_a_job_is_answered(
    wire: Wire, kill: Callable[[str], Path], when: str, tmp_path: Path
) -> None:
    def check(verb: str, expected: object, ask: Callable[[], object]) -> None:
        killed = kill(when)
        assert ask() == expected, verb
        assert not killed.exists(), verb

    def call(verb: str, **args: Any) -> Callable[[], dict[str, Any]]:
        return lambda: wire.call(verb, **args)

    over, runs, unknown = new_id(), new_id(), new_id()
    channel = wire.request("start", **job(line="echo x", spool=True, id=over))
    wire.collect(channel)

    def start() -> str:
        channel = wire.request("start", **job("sleep", "1000", spool=True, id=runs))
        return str(wire.accepted(channel)["id"])

    limits: dict[str, Any] = {"older_than": 0.0, "max_total": None}

    def pruned() -> list[str]:
        return [each["id"] for each in wire.call("prune", **limits)["jobs"]]

    if when == "before":  # what the job was given is nowhere any more
        kill(when)
        with pytest.raises(Refused, match="was not run"):
            start()
        start()
    else:
        check("start", runs, start)
    listed = sorted([(over, "COMPLETED"), (runs, "RUNNING")])
    check("jobs", listed, lambda: _jobs(wire.call("jobs", after=None, limit=10)))
    check("find", [(over, "COMPLETED")], lambda: _jobs(wire.call("find", name=over)))
    check("save", b"x\n", lambda: _save(wire, over, tmp_path / "saved"))
    check("read", (b"x\n", True), lambda: _read(wire, over))
    check("suspend", "SUSPENDED", lambda: call("suspend", job=runs)()["state"])
    check("resume", "RUNNING", lambda: call("resume", job=runs)()["state"])
    check("stop", [], lambda: call("stop", job=runs, grace=1.0)()["survivors"])
    check("seal", {"ran": False}, call("seal", job=unknown))
    check("seal", {"ran": True}, call("seal", job=runs))
    check("remove", {}, call("remove", job=runs, force=False))
    # Of what a killed helper pruned nobody could tell.
    kill(when)
    with pytest.raises(Refused, match="killed"):
        wire.call("prune", **limits)
    assert pruned() == ([over] if when == "before" else [])
    assert _jobs(wire.call("jobs", after=None, limit=10)) == []
