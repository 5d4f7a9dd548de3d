"""A caller that is stopped is silent, and comes back: how long the agent waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

from agent.harness import Wire
from remit._link import heartbeat
from remit._wire.conversation import Pulse
from remit._wire.frames import END, PING, encode
from remit._wire.msgpack import pack
from testbed import pythons


@pytest.fixture(
    params=[each for each in pythons.found() if each.minor in (6, 13)],
    ids=lambda interpreter: interpreter.version,
)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


def sleep(wire: Wire) -> int:
    channel = wire.start("sleep", "3")
    wire.accepted(channel, 60)
    return channel


@pytest.mark.parametrize("how", ["announced", "patience"])
def test_what_it_started_runs_on(bring_up: Callable[..., Wire], how: str) -> None:
    """Three silences long, and nothing is said meanwhile."""
    facts: dict[str, Any] = {"hello": {"patience": 600.0}} if how == "patience" else {}
    wire = bring_up(silence=1.0, ping=False, **facts)
    channel = sleep(wire)
    if how == "announced":
        wire.away(True)
    wire.expect(END, channel, 60)
    if how == "announced":
        wire.away(False)
    assert wire.goodbye(60) == {"left": []}


def test_one_that_came_back_is_lost_when_it_falls_silent(bring_up: Callable[..., Wire]) -> None:
    wire = bring_up(silence=1.0, ping=False)
    wire.away(True)
    wire.away(False)
    wire.wait_ended()


@pytest.mark.parametrize("body", [b"", b"x", pack(3), pack({}), pack({"away": 3}), pack([1])])
def test_a_word_of_a_later_version_changes_nothing(
    bring_up: Callable[..., Wire], body: bytes
) -> None:
    wire = bring_up()
    wire.say(body)
    assert wire.run("echo", "x", deadline=60).stdout == b"x\n"
    assert wire.goodbye(60) == {"left": []}


def test_a_pulse_is_patient_and_knows_who_is_away() -> None:
    pulse = Pulse(3.0, 0.0, patience=100.0)
    assert (pulse.due(1.0), pulse.dead(99.0), pulse.dead(100.0)) == (True, False, True)
    pulse.said(99.5)
    assert pulse.next_look(99.5) == pytest.approx(0.5)
    pulse.away = True
    assert not pulse.dead(1e9)
    assert pulse.next_look(99.5) == pytest.approx(1.0)
    assert Pulse(3.0, 0.0, patience=1.0).dead(2.9) is False


def test_an_announcement_is_made_between_frames_or_not_at_all() -> None:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    ping_writer = heartbeat.PingWriter(writer, 1000.0)
    heartbeat.attend(ping_writer)
    frame = encode(PING, 0, pack({"away": True}))
    try:
        heartbeat.announce(frame)
        assert os.read(reader, 1000) == frame
        ping_writer.begin()
        heartbeat.announce(frame)
        ping_writer.done()
        with ping_writer._lock:  # a signal's handler may come just then
            heartbeat.announce(frame)
        with pytest.raises(BlockingIOError):
            os.read(reader, 1000)
    finally:
        heartbeat.leave(ping_writer)
        os.close(reader)
        os.close(writer)
