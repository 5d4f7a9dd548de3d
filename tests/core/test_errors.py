"""Errors: harmless as text, whole after pickling; wrong arguments are named."""

from __future__ import annotations

import pickle
import threading
import time
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import remit
from remit import _errors
from remit._link import heartbeat
from remit._wire.sanitize import harmless
from remit.abc import End, Target
from remit.testing import FakePeer, FakeTransport

from .conftest import Play
from .fake_agent import HELLO, FakeAgent, pack

nasty = st.text(
    st.sampled_from("a \t\n\r\x1b\x9b\x07\u2028\u202e\x85\x0b\udc80try"), max_size=30
) | st.sampled_from(["x\nremit: all is well", "x\r  try     rm -rf /", "try     rm"])
KINDS = [
    kind
    for kind in vars(_errors).values()
    if isinstance(kind, type) and issubclass(kind, remit.RemitError)
]


@given(nasty, nasty, nasty)
def test_no_text_of_an_error_is_an_order_or_passes_for_another(
    message: str, evidence: str, hint: str
) -> None:
    said = str(remit.RemitError(message, evidence=evidence, hint=hint))
    assert harmless(said) == said
    assert "\r" not in said
    said.encode()  # also to a terminal
    _, *more = said.split("\n")
    assert all(line.startswith("  ") for line in more)
    hints = [line for line in more if line.startswith("  try")]
    assert len(hints) == bool(hint)


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_travels(kind: type[remit.RemitError]) -> None:
    facts: dict[str, Any] = {"evidence": "seen", "hint": "try"}
    info = remit.JobInfo(
        id="jaaaaaaaaaaaa",
        name=None,
        state=remit.JobState.FAILED,
        location="x",
        command=("true",),
        placement="return",
        lifetime="session",
        has_more_data=False,
        outcome=remit.Outcome(exit_status=1),
    )
    if issubclass(kind, remit.GroupFailed):
        facts |= {"results": [None], "failures": [remit.JobFailed("one", job=info)]}
    if issubclass(kind, remit.JobFailed):
        facts |= {"job": info, "exit_status": 3, "type": "KeyError", "reason": "exited"}
    if issubclass(kind, remit.ConnectError):
        facts |= {"exit_status": 255, "lasting": True}
    error = kind("what happened", **facts)
    error.add_note("a note")
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert str(back.__dict__) == str(error.__dict__)


@pytest.mark.anyio
async def test_the_failure_of_a_real_job_travels(session: remit.Session) -> None:
    with pytest.raises(remit.JobFailed, match="exited with status 3") as caught:
        await session.run("echo no >&2; exit 3", check=True)
    back = pickle.loads(pickle.dumps(caught.value))
    assert (back.exit_status, back.job.id) == (3, caught.value.job.id)  # type: ignore[union-attr]
    assert isinstance(back.job, remit.JobInfo)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a word": ({"work": ["sleep", 1]}, "word 1 is 1, int"),
    "a nested word": ({"work": ["sh", "-c", ["x"]]}, "word 2 is"),
    "a value of env": ({"env": {"A": 1}}, r"env\['A'\] is a str, not 1, int"),
    "a name of env": ({"env": {1: "A"}}, "a name in env is a str, not 1"),
    "env": ({"env": [("A", "1")]}, "env is a mapping"),
    "cwd": ({"cwd": 3}, "cwd is str, bytes or a path, not 3"),
    "name": ({"name": 3}, "a name is a str"),
}


@pytest.mark.anyio
@pytest.mark.parametrize("case", WRONG)
async def test_an_argument_of_the_wrong_type_is_named(session: remit.Session, case: str) -> None:
    options, words = WRONG[case]
    with pytest.raises(TypeError, match=words):
        await session.start(**{"work": ["true"], **options})


NUMBERS = [
    ("silence", float("inf"), ValueError),
    ("silence", 1e300, ValueError),
    ("silence", "6", TypeError),
    ("silence", True, TypeError),
    ("workers", 2.5, TypeError),
    ("workers", 0, ValueError),
    ("workers", True, TypeError),
    ("calls_per_worker", 1.5, TypeError),
    ("calls_per_worker", 0, ValueError),
    ("connect_timeout", float("nan"), ValueError),
    ("connect_timeout", None, TypeError),
    ("reconnect", -1, ValueError),
    ("reconnect", "5", TypeError),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "value", "kind"), NUMBERS)
async def test_a_number_that_cannot_be_meant_is_refused_by_name(
    name: str, value: object, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match=name):
        async with remit.connect("local:", **{name: value}):  # type: ignore[arg-type]
            raise AssertionError


def test_the_heartbeat_of_a_short_silence_does_not_wait_for_a_long_one() -> None:
    import os

    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    slow, quick = heartbeat.PingWriter(writing, 200.0), heartbeat.PingWriter(writing, 0.05)
    try:
        heartbeat.attend(slow)
        deadline = time.monotonic() + 5
        while not any(one.name == "remit heartbeat" for one in threading.enumerate()):
            assert time.monotonic() < deadline
        heartbeat.attend(quick)
        os.set_blocking(reading, True)
        assert os.read(reading, 9), "a ping came long before the slow one's turn"
    finally:
        heartbeat.leave(slow)
        heartbeat.leave(quick)
        os.close(reading)
        os.close(writing)


class Refusing(FakeTransport):
    """Says of each end what ``error`` says."""

    error: remit.ConnectError

    def explain(self, target: Target, end: End) -> remit.ConnectError:
        return self.error


@pytest.mark.anyio
@pytest.mark.parametrize("lasting", [True, False])
async def test_reconnecting_ends_at_once_where_a_person_is_needed(lasting: bool) -> None:
    from remit._plugins import plugins

    met: list[int] = []

    async def once(peer: FakePeer) -> int:
        met.append(1)
        if len(met) > 1:
            return 255
        agent = FakeAgent(peer)
        await agent.boot()
        agent.conversation.hello(pack(HELLO))
        await agent.flush()
        return 0

    transport = Refusing(once)
    transport.error = (
        remit.AuthenticationError("box did not let us in")
        if lasting
        else remit.ConnectError("box refused the connection")
    )
    plugins().transports["fake"] = transport
    try:
        async with remit.connect("fake:", reconnect=1.5) as session:
            with anyio.fail_after(30), pytest.raises(remit.LinkLost, match="box"):
                await session.run(["true"], placement="keep")
    finally:
        plugins().transports.pop("fake")
    assert (len(met) == 2) is lasting, "an account may be locked by more"


@pytest.mark.anyio
async def test_who_is_late_is_told_of_with_what_it_said(play: Play) -> None:
    async def script(peer: FakePeer) -> None:
        peer.say(b"waiting for the key card\n")
        await peer.send(b"Welcome to box\n")
        await anyio.sleep_forever()

    play(script)
    with pytest.raises(remit.BootstrapError, match="within") as caught:
        async with remit.connect("fake:", connect_timeout=0.5):
            raise AssertionError
    assert "stderr  waiting for the key card" in str(caught.value)
    assert "stdout  Welcome to box" in str(caught.value)
