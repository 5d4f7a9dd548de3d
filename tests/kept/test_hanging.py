"""A directory that hangs, or that there is no end to, costs its own job and nobody else."""

from __future__ import annotations

import fcntl
import json
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Refused, Wire, job, new_id
from remit._jobdir import files, liveness
from remit._jobdir.cursor import Cursor
from remit._link import agent_payload
from remit._wire.frames import END
from remit._wire.msgpack import unpack

# In the agent: directories whose names stand in a file hang when they are opened, while they do.
HANG = """

def _hanging(open_directory):
    import os, time

    def opened(name, dir_fd, path):
        while True:
            try:
                with open(%r, "rb") as file:
                    hangs = name in file.read().split()
            except OSError:
                hangs = False
            if not hangs:
                return open_directory(name, dir_fd, path)
            time.sleep(0.02)

    return opened


open_directory = _hanging(open_directory)
"""


@pytest.fixture
def hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Has the directories of these jobs hang from now on, and no others."""
    hanging = tmp_path / "hanging"
    written = agent_payload.modules

    def modules() -> dict[str, str]:
        sources = written()
        sources["remit._jobdir.statedir"] += HANG % str(hanging)
        return sources

    monkeypatch.setattr(agent_payload, "modules", modules)
    agent_payload.payload.cache_clear()
    yield lambda *ids: (hanging.write_text(" ".join(ids)), None)[1]
    hanging.unlink(missing_ok=True)
    agent_payload.payload.cache_clear()


@pytest.fixture
def wire(hang: Callable[..., None], bring_up: Callable[..., Wire]) -> Wire:
    return bring_up()


def started(wire: Wire, line: str) -> tuple[int, str]:
    channel = wire.request("start", **job(line=line, spool=True))
    return channel, wire.accepted(channel, 60)["id"]


def read(wire: Wire, job_id: str, **args: Any) -> int:
    asked = {"job": job_id, "position": None, "follow": True, "consume": False, **args}
    return wire.request("read", **asked)


def test_a_directory_that_hangs_costs_its_own_job(wire: Wire, hang: Callable[..., None]) -> None:
    _, bad = started(wire, "sleep 1000")
    channel, good = started(wire, "read line; echo $line")
    wire.collect(channel, 60)
    bad_news, bad_output = wire.request("watch", job=bad), read(wire, bad)
    wire.accepted(bad_news, 60)
    wire.accepted(bad_output, 60)
    hang(bad)
    assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
    # What comes of it: the one is out of reach, of all others everything goes on.
    assert wire.news(bad_news, "job", 60)["state"] == "DISCONNECTED"
    channel, third = started(wire, "echo x")
    wire.collect(channel, 60)
    output = read(wire, third)
    wire.accepted(output, 60)
    assert wire.collect(output, 60).stdout == b"x\n"
    shown = {each["id"]: each for each in wire.call("jobs", 60, after=None, limit=10)["jobs"]}
    assert shown[bad]["state"] == "DISCONNECTED"
    assert "does not answer" in shown[bad]["problem"]
    assert {shown[good]["state"], shown[third]["state"]} == {"COMPLETED"}
    assert [each["id"] for each in wire.call("find", 60, name=good)["jobs"]] == [good]
    pruned = wire.call("prune", 60, older_than=0.0, max_total=None, dry_run=True)["jobs"]
    assert {each["id"] for each in pruned} == {good, third}
    # It comes back, and so does all that was known.
    hang()
    wire.wait_for_state(bad_news, "RUNNING", 60)
    assert wire.call("stop", 60, job=bad, grace=1.0)["survivors"] == []
    assert unpack(wire.expect(END, bad_news, 60))["job"]["state"] == "STOPPED"  # type: ignore[index]
    assert wire.collect(bad_output, 60).end["complete"] is True


def test_marks_of_a_directory_that_hangs_keep_no_session_from_its_end(
    wire: Wire, hang: Callable[..., None]
) -> None:
    channel, job_id = started(wire, "echo x")
    wire.collect(channel, 60)
    output = read(wire, job_id, consume=True)
    wire.accepted(output, 60)
    wire.piece(output, 60)
    hang(job_id)
    wire.event(output, "used", position={"stdout": 2, "stderr": 0})
    assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
    assert wire.goodbye(60) == {"left": []}


@pytest.mark.parametrize("streams", [[], ["stdout", "stderr"]], ids=["index", "all"])
def test_an_index_without_end_costs_its_own_job(
    bring_up: Callable[..., Wire], state_dir: Path, streams: list[str]
) -> None:
    """A job can do that to its own directory; it takes no room on the disk."""
    wire = bring_up()
    channel, job_id = started(wire, "echo x; echo y >&2")
    wire.collect(channel, 60)
    for name in ["index", *streams]:
        os.truncate(state_dir / "jobs" / job_id / name, 1 << 40)
    with pytest.raises(Refused, match="index"):
        wire.accepted(read(wire, job_id, position={"stdout": 1, "stderr": 1}), 60)
    assert wire.run("echo", "x", deadline=60).stdout == b"x\n"


# -- the search in an index


@pytest.fixture
def large(tmp_path: Path) -> Iterator[int]:
    """A job that printed one line of errors, and then a byte a million times."""
    lines = 300_000
    index = [files.pack_line(1.0, b"stderr", 0, 1)]
    index += [files.pack_line(1.0, b"stdout", at, 1) for at in range(lines)]
    (tmp_path / "index").write_bytes(b"".join(index))
    (tmp_path / "stdout").write_bytes(bytes(lines))
    (tmp_path / "stderr").write_bytes(b"e")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def test_a_search_gives_way_and_goes_on_where_it_was(large: int) -> None:
    cursor = Cursor(large, {"stdout": 299_990, "stderr": 0, "records": 0})
    turns = 0
    while (piece := cursor.next(100, until=0.0)) is None:
        assert cursor.behind
        assert cursor.line is None or cursor.line <= 1
        turns += 1
    assert 3 < turns < 2000
    assert (piece.stream, piece.offset, piece.data) == (2, 0, b"e")
    # Passing over what was used up takes turns too, and another cursor may go on from there.
    turns = 0
    while (piece := cursor.next(100, until=0.0)) is None:
        assert cursor.behind
        turns += 1
        line = cursor.line
        cursor.close()
        cursor = Cursor(large, cursor.position, line)
    assert turns > 3
    assert (piece.stream, piece.offset) == (1, 299_990)
    cursor.close()


# -- descriptors


def test_watched_jobs_cost_no_descriptors(bring_up: Callable[..., Wire], state_dir: Path) -> None:
    """Nor is a job taken for removed where none are left."""
    wire = bring_up()
    channel, _ = started(wire, "echo x")  # all that the agent needs anyway is there now
    wire.collect(channel, 60)
    running = [made(state_dir) for _ in range(36)]
    locks = [os.open(path / "lock", os.O_RDWR) for path in running]
    try:
        for fd in locks:
            fcntl.lockf(fd, fcntl.LOCK_EX)
        open_now = len(os.listdir(f"/proc/{wire.agent_pid}/fd"))
        limit = (open_now + 12, open_now + 12)
        resource.prlimit(wire.agent_pid, resource.RLIMIT_NOFILE, limit)
        watches = [wire.request("watch", job=path.name) for path in running]
        assert {wire.accepted(watch, 60)["state"] for watch in watches} == {"RUNNING"}
        shown = wire.call("jobs", 60, after=None, limit=100)["jobs"]
        assert sum(each["state"] == "RUNNING" for each in shown) == len(running)
        assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
        for path in running:
            (path / "outcome.new").write_text(json.dumps({"exit_status": 0, "reason": "exited"}))
            (path / "outcome.new").rename(path / "outcome.json")
    finally:
        for fd in locks:
            os.close(fd)
    ends = [wire.collect(watch, 60).job for watch in watches]
    assert {end["state"] for end in ends} == {"COMPLETED"}


def made(state_dir: Path) -> Path:
    """The directory of a job that runs once somebody has its lock."""
    directory = state_dir / "jobs" / new_id()
    directory.mkdir(mode=0o700)
    facts = {"format": 1, "id": directory.name, "command": {"argv": ["x"]}, "created": 1.0}
    (directory / "job.json").write_text(json.dumps(facts))
    nobody = {"pid": 1 << 30, "start_time": 1}
    process = dict(liveness.here(), started=1.0, supervisor=nobody, **nobody)
    (directory / "process.json").write_text(json.dumps(process))
    for name in ("lock", "index", "stdout", "stderr"):
        (directory / name).touch()
    return directory
