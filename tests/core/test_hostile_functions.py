"""A hostile target that answers functions: an error each time, and nothing of it is run here."""

from __future__ import annotations

import builtins
import pickle
import resource
import struct
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import remit
from remit._jobs.values import encode
from remit._values import codes
from remit._wire import frames
from remit._wire.conversation import Piece
from remit._wire.records import DONE, FAILURE, HEAD, ITEM, LOG, PICKLED, PROGRESS, RESULT, WARNING

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio

TRAP = "trap_that_is_imported"
SIZE = struct.Struct(">Q")
RECORDS = 3
CALL = 3
PIECE = 1 << 16
VALUE, FAILED, PICKLED_VALUE, DIED, TAIL = 1, 2, 3, 4, 5


class Evil:
    """Its pickle makes a file where it is loaded."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return builtins.open, (self._path, "w")


def echo(value: Any) -> Any:
    return value


@pytest.fixture(autouse=True)
def sentinel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that is not there until something of the target's is run or imported; and little
    memory is taken."""
    path = tmp_path / "sentinel"
    (tmp_path / f"{TRAP}.py").write_text(f"open({str(path)!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield path
    assert not path.exists()
    assert TRAP not in sys.modules
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 << 10


class Target:
    """The target's side, once a function job or the calls have been asked for."""

    def __init__(self, agent: FakeAgent, path: Path) -> None:
        self.agent = agent
        self.path = str(path)
        self.channel = 0
        self.job = ""
        self._offset = 0

    async def serve(self, wanted: str) -> None:
        conversation = self.agent.conversation
        while True:
            channel, verb, arguments = await self.agent.request()
            if verb == wanted:
                break
            assert verb == "python"
            version = list(sys.version_info[:3])
            conversation.accept(channel, pack({"version": version, "implementation": "cpython"}))
            conversation.grant(channel, 1 << 24)
            conversation.event(channel, pack(["packages", {"count": 1}]))
            await self.agent.flush()
        self.channel = channel
        self.job = arguments.get("id", "")
        body = {"workers": 1}
        if self.job:
            body = job_map(self.job, command={"function": "echo"})  # type: ignore[assignment]
        conversation.accept(channel, pack(body))
        conversation.grant(channel, 1 << 20)
        await self.agent.flush()

    async def send(self, data: bytes, stream: int = RECORDS) -> None:
        """Of a job: more of what it says."""
        for start in range(0, len(data), PIECE):
            part = data[start : start + PIECE]
            piece = Piece(stream, 0, self._offset, 1.0, part)
            self.agent.conversation.data(self.channel, piece)
            self._offset += len(part)
        await self.agent.flush()

    async def say(self, kind: int, body: bytes, claimed: int | None = None) -> None:
        size = len(body) if claimed is None else claimed
        await self.send(HEAD.pack(kind, 0, 1.0, size) + body)

    async def end(self, job: str = "", **outcome: Any) -> None:
        ended = {"exit_status": 0, "reason": "exited", **outcome}
        state = "COMPLETED" if ended["exit_status"] == 0 else "FAILED"
        body = job_map(job or self.job, state, outcome=ended, command={"function": "echo"})
        self.agent.conversation.end(self.channel, pack({"job": body}))
        await self.agent.flush()

    async def answer(self, kind: int, data: bytes, call: int = 1, offset: int = 0) -> None:
        """Of a call: a piece of what comes back."""
        self.agent.conversation.data(self.channel, Piece(kind, call, offset, 0.0, data))
        await self.agent.flush()

    async def give(self, kind: int, body: bytes, call: int = 1) -> None:
        whole = SIZE.pack(len(body)) + body
        await self.answer(kind, whole[:PIECE], call)
        for start in range(PIECE, len(whole), PIECE):
            await self.answer(kind, whole[start : start + PIECE], call, start - SIZE.size)

    async def called(self) -> None:
        """Waits until a call, and not only its function, has come."""
        while (await self.agent.next(frames.DATA)).body.stream != CALL:
            pass

    @property
    def pickle(self) -> bytes:
        return pickle.dumps(Evil(self.path))


Lie = Callable[[Target], Awaitable[None]]


def sent(value: object) -> bytes:
    return b"".join(encode(value))


def ext(code: int, body: bytes) -> bytes:
    return struct.pack(">BIB", 0xC9, len(body), code) + body


# What is no value, whatever it is the encoding of.
NO_VALUES = {
    "a list of 2^31": b"\xdd\x80\0\0\0",
    "bytes of 2^31": b"\xc6\x80\0\0\0abc",
    "a million nested lists": b"\x91" * 1_000_000,
    "a bomb of references": b"\x80\x04]\x94(h\0h\0h\0h\0h\0h\0e.",
    "a class that is called": ext(codes.STRUCT, sent(f"{TRAP}.Evil") + sent([1])),
    "a numpy dtype that is imported": ext(
        codes.NUMPY_ARRAY, sent(f"{TRAP}.Evil") + sent("C") + sent([1]) + b"\0x"
    ),
    "nothing": b"",
}


def job_lies() -> dict[str, tuple[Lie, type[Exception], str | None]]:
    lies: dict[str, tuple[Lie, type[Exception], str | None]] = {}

    def lie(error: type[Exception], words: str | None) -> Callable[[Lie], Lie]:
        def add(one: Lie) -> Lie:
            lies[one.__name__] = one, error, words
            return one

        return add

    for name, body in NO_VALUES.items():

        async def no_value(target: Target, body: bytes = body) -> None:
            await target.say(RESULT, body)
            await target.end(result_at=0)

        lies[name] = no_value, remit.ResultError, "is malformed"

    @lie(remit.RemoteProtocolError, "this session does not accept")
    async def pickled(target: Target) -> None:
        await target.say(RESULT | PICKLED, target.pickle)
        await target.end(result_at=0)

    @lie(remit.ResultError, "is malformed")
    async def a_pickle_as_data(target: Target) -> None:
        await target.say(RESULT, target.pickle)
        await target.end(result_at=0)

    @lie(remit.RemoteProtocolError, "this session does not accept")
    async def a_pickled_item(target: Target) -> None:
        await target.say(ITEM | PICKLED, target.pickle)
        await target.say(DONE, b"")
        await target.end()

    @lie(remit.RemoteProtocolError, "a record of kind 99")
    async def unknown_kind(target: Target) -> None:
        await target.say(99, b"x")
        await target.end()

    @lie(remit.RemoteProtocolError, "a record of 1152921504606846976 bytes")
    async def claimed_size(target: Target) -> None:
        await target.say(RESULT, b"x" * 1000, claimed=1 << 60)
        await target.end()

    @lie(remit.ResultError, "is not available")
    async def half_of_a_record(target: Target) -> None:
        await target.say(RESULT, b"x" * 1000, claimed=1 << 31)
        await target.end()

    @lie(remit.ResultError, "is not available")
    async def no_result(target: Target) -> None:
        await target.end()

    @lie(remit.ResultError, "is not available")
    async def a_result_that_is_elsewhere(target: Target) -> None:
        await target.say(LOG, pack([20, "a", "b", 1.0]))
        await target.end(result_at=1 << 60)

    @lie(remit.RemoteProtocolError, "a record after the last")
    async def values_after_the_end(target: Target) -> None:
        await target.say(RESULT, b"\x01")
        await target.say(RESULT, b"\x02")
        await target.end(result_at=0)

    @lie(remit.RemoteProtocolError, "msgpack|expected|Expected|sense|malformed|message")
    async def a_failure_that_is_none(target: Target) -> None:
        await target.say(FAILURE, b"no\0" + b"\x91" * 100_000)
        await target.end(exit_status=1)

    @lie(remit.JobFailed, "link-lost")
    async def the_end_of_another(target: Target) -> None:
        await target.say(RESULT, b"\x01")
        await target.end(job=remit.new_job_id())

    @lie(remit.JobFailed, "link-lost")
    async def a_gap_in_what_it_said(target: Target) -> None:
        target._offset = 1 << 60
        await target.say(RESULT, b"\x01")

    return lies


async def served(target: Target, wanted: str, lie: Lie) -> None:
    await target.serve(wanted)
    await lie(target)
    agent = target.agent
    while data := await agent.peer.receive():
        agent.events += agent.conversation.receive(data)
        if any(event.kind == frames.GOODBYE for event in agent.events):
            agent.conversation.goodbye(pack({}))
            await agent.flush()
            return


@pytest.fixture
def hostile(play: Play, sentinel: Path) -> Callable[[str, Lie], None]:
    def put(wanted: str, lie: Lie) -> None:
        play(agent_script(lambda agent: served(Target(agent, sentinel), wanted, lie)))

    return put


Hostile = Callable[[str, Lie], None]


@pytest.mark.parametrize("name", job_lies())
async def test_the_result_of_a_job_is_an_error(hostile: Hostile, name: str) -> None:
    lie, error, words = job_lies()[name]
    hostile("start", lie)
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.start(echo, 1)
        with anyio.fail_after(10), pytest.raises(error, match=words):
            await job.result()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (LOG, b"\x01"),
        (LOG, pack(["high", "a", "b", 1.0])),
        (WARNING, pack([1, 2, 3, 4])),
        (WARNING, b"\xdd\x80\0\0\0"),
        (PROGRESS, pack([None, None, None])),
        (PROGRESS, b"\x91" * 1_000_000),
        (ITEM, b"\x91" * 1_000_000),
        (ITEM, b"\xc1"),
        (ITEM | PICKLED, b""),
        (99, b""),
    ],
)
async def test_what_a_job_says_is_an_error(hostile: Hostile, kind: int, body: bytes) -> None:
    async def lie(target: Target) -> None:
        await target.say(kind, body or target.pickle)
        await target.end()

    hostile("start", lie)
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.start(echo, 1)
        with anyio.fail_after(10), pytest.raises((remit.RemoteProtocolError, remit.ResultError)):
            await anext(job.receive())


async def test_the_time_of_a_record_is_a_time(hostile: Hostile) -> None:
    async def lie(target: Target) -> None:
        await target.send(HEAD.pack(ITEM, 0, float("inf"), 1) + b"\x01")
        await target.end()

    hostile("start", lie)
    async with remit.connect("fake:", reconnect=0) as session:
        job = await session.start(echo, 1)
        with anyio.fail_after(10), pytest.raises(remit.RemoteProtocolError, match="a time of inf"):
            await anext(job.receive())


async def test_names_of_classes_and_modules_are_only_names(hostile: Hostile) -> None:
    values = [
        remit.Struct(f"{TRAP}.Evil", {"a": 1}),
        remit.EnumMember(f"{TRAP}.Evil", "open", 1),
        remit.ExceptionRecord(f"{TRAP}.Evil", "no"),
    ]

    async def lie(target: Target) -> None:
        await target.say(RESULT, sent(values))
        await target.end(result_at=0)

    hostile("start", lie)
    async with remit.connect("fake:") as session:
        assert await (await session.start(echo, 1)).result() == values


def call_lies() -> dict[str, tuple[Lie, type[Exception], str | None]]:
    lies: dict[str, tuple[Lie, type[Exception], str | None]] = {}

    def lie(error: type[Exception], words: str | None) -> Callable[[Lie], Lie]:
        def add(one: Lie) -> Lie:
            lies[one.__name__] = one, error, words
            return one

        return add

    for name, body in NO_VALUES.items():

        async def no_value(target: Target, body: bytes = body) -> None:
            await target.give(VALUE, body)

        lies[name] = no_value, remit.ResultError, "is malformed"

    @lie(remit.RemoteProtocolError, "this session does not accept")
    async def pickled(target: Target) -> None:
        await target.give(PICKLED_VALUE, target.pickle)

    @lie(remit.ResultError, "is malformed")
    async def a_pickle_as_data(target: Target) -> None:
        await target.give(VALUE, target.pickle)

    @lie(remit.RemoteProtocolError, "an answer to call 7, which nobody made")
    async def wrong_call(target: Target) -> None:
        await target.give(VALUE, b"\x01", call=7)

    @lie(remit.RemoteProtocolError, "an answer to call 0, which nobody made")
    async def no_call(target: Target) -> None:
        await target.give(VALUE, b"\x01", call=0)

    @lie(remit.RemoteProtocolError, "larger than it said")
    async def larger(target: Target) -> None:
        await target.answer(VALUE, SIZE.pack(1) + b"\x01\x02")

    @lie(remit.RemoteProtocolError, "larger than it said")
    async def larger_in_pieces(target: Target) -> None:
        await target.answer(VALUE, SIZE.pack(4) + b"\x01")
        await target.answer(VALUE, b"\x01" * 4, offset=1)

    @lie(remit.RemoteProtocolError, "without its size")
    async def without_its_size(target: Target) -> None:
        await target.answer(VALUE, b"\x01")

    @lie(remit.RemoteProtocolError, "goes on at 1")
    async def half_and_another_kind(target: Target) -> None:
        await target.answer(VALUE, SIZE.pack(4) + b"\x01")
        await target.answer(PICKLED_VALUE, b"\x01" * 3, offset=1)

    @lie(remit.RemoteProtocolError, "goes on at 3")
    async def a_gap(target: Target) -> None:
        await target.answer(VALUE, SIZE.pack(4) + b"\x01")
        await target.answer(VALUE, b"\x01", offset=3)

    @lie(remit.RemoteProtocolError, "goes on at 5")
    async def the_middle_first(target: Target) -> None:
        await target.answer(VALUE, b"\x01", offset=5)

    @lie(remit.RemoteProtocolError, "an answer of kind 77")
    async def unknown_kind(target: Target) -> None:
        await target.give(77, b"\x01")

    @lie(remit.RemoteProtocolError, "1152921504606846976 bytes")
    async def claimed_size(target: Target) -> None:
        await target.answer(VALUE, SIZE.pack(1 << 60) + b"x" * 1000)

    @lie(remit.RemoteProtocolError, "1152921504606846976 bytes")
    async def claimed_size_of_stderr(target: Target) -> None:
        await target.answer(TAIL, SIZE.pack(1 << 60) + b"x" * 1000)

    @lie(remit.RemoteProtocolError, None)
    async def a_death_that_is_none(target: Target) -> None:
        await target.give(DIED, b"\x91" * 100_000)

    @lie(remit.RemoteProtocolError, None)
    async def a_failure_that_is_none(target: Target) -> None:
        await target.give(FAILED, target.pickle)

    @lie(remit.JobFailed, "SIGKILL")
    async def an_honest_death(target: Target) -> None:
        await target.answer(VALUE, SIZE.pack(4) + b"\x01")
        await target.give(DIED, pack([None, "SIGKILL", b"the end of stderr"]))

    return lies


@pytest.mark.parametrize("name", call_lies())
async def test_the_answer_to_a_call_is_an_error(hostile: Hostile, name: str) -> None:
    lie, error, words = call_lies()[name]

    async def when_asked(target: Target) -> None:
        await target.called()
        await lie(target)

    hostile("pool", when_asked)
    async with remit.connect("fake:", reconnect=0) as session:
        with anyio.fail_after(10), pytest.raises(error, match=words):
            await session.call(echo, 1)


async def test_an_answer_that_comes_twice_harms_nobody(hostile: Hostile) -> None:
    async def lie(target: Target) -> None:
        await target.called()
        for _ in range(3):
            await target.give(VALUE, b"\x05")

    hostile("pool", lie)
    async with remit.connect("fake:", reconnect=0) as session:
        assert await session.call(echo, 1) == 5
        assert session.state is remit.SessionState.OPEN
