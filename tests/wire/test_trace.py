"""A trace tells of each frame on both ends, and of nothing that is in it."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

import remit
from remit._agent.base.tracing import of_agent
from remit._link import tracing
from remit._wire import frames
from remit._wire.conversation import CALLER, Conversation
from testbed import pythons

_LINE = re.compile(r"\d+\.\d{6} (caller|agent) \d+ ([<>]) ([A-Z]+|\d+) (\d+) (\d+)")
_SECRET = "a word that nobody may see"
_PYTHONS = sorted(pythons.found(), key=lambda found: found.minor)
_ENDS = [pytest.param(found, id=found.version) for found in (_PYTHONS[0], _PYTHONS[-1])]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "trace"
    monkeypatch.setenv("REMIT_TRACE", str(path))
    return path


def _frames(text: str, end: str, direction: str) -> list[tuple[str, ...]]:
    """Kind, channel and size of each; without pings, which come by the clock."""
    found = [_LINE.fullmatch(line) for line in text.splitlines()]
    assert all(found), text
    rows = [match.groups() for match in found if match]
    return [row[2:] for row in rows if row[:2] == (end, direction) and row[2] != "PING"]


@pytest.mark.anyio
@pytest.mark.parametrize("python", _ENDS)
async def test_both_ends_tell_of_the_same_frames(file: Path, python: pythons.Interpreter) -> None:
    async with remit.connect(f"local:?python={python.path}") as session:
        done = await session.run(["cat"], stdin=_SECRET.encode(), env={"A": _SECRET})
    assert done.stdout == _SECRET.encode()
    text = file.read_text()
    assert _SECRET not in text
    asked = _frames(text, "caller", ">")
    assert [kind for kind, _, _ in asked][:2] == ["HELLO", "REQUEST"]
    # The agent is told by the hello.
    assert _frames(text, "agent", "<") == asked[1:]
    assert _frames(text, "agent", ">") == _frames(text, "caller", "<")
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.anyio
async def test_a_link_works_where_no_trace_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_TRACE", str(tmp_path / "missing" / "trace"))
    async with remit.connect("local:") as session:
        assert (await session.run(["echo", "up"])).stdout == b"up\n"


@pytest.mark.parametrize("what", ["fifo", "link", "dangling link", "hard link", "other account's"])
def test_an_agent_writes_to_no_file_that_is_not_its_own(tmp_path: Path, what: str) -> None:
    """Nobody looked at what stands under that name on the target."""
    path, other = tmp_path / "trace", tmp_path / "other"
    if what != "dangling link":
        other.write_text("as it was")
    if what == "fifo":
        os.mkfifo(path)
    elif what == "other account's":
        path.touch()
        os.chown(path, 65534, 65534)
    elif what == "hard link":
        path.hardlink_to(other)
    else:
        path.symlink_to(other)
    before = len(os.listdir("/proc/self/fd"))
    assert of_agent(os.fsencode(path)) is None
    assert len(os.listdir("/proc/self/fd")) == before
    assert not other.exists() or other.read_text() == "as it was"


def test_nothing_is_traced_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REMIT_TRACE", raising=False)
    assert tracing.file() is None
    assert tracing.of_caller() is None
    assert Conversation(CALLER).trace is None


def test_kinds_of_a_later_version_are_numbers(file: Path) -> None:
    traced = tracing.of_caller()
    assert traced is not None
    traced.received(frames.Frame(77, 3, b"abc"))
    traced.sent([frames.encode(frames.PING, 0), frames.encode(frames.REQUEST, 5, b"12")])
    (received, ping, request) = (line.split()[2:] for line in file.read_text().splitlines())
    assert received == [str(os.getpid()), "<", "77", "3", "3"]
    assert ping[1:] == [">", "PING", "0", "0"]
    assert request[1:] == [">", "REQUEST", "5", "2"]


def test_a_full_disk_ends_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIT_TRACE", "/dev/full")
    traced = tracing.of_caller()
    assert traced is not None
    traced.sent([frames.encode(frames.PING, 0)])
