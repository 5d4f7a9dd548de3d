"""What stands in ask/ of a return job, whatever it is: its collector and the job go on, and whoever
asked gets an answer or an error."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from json import dumps
from pathlib import Path
from typing import Any, cast

import anyio
import anyio.abc
import attrs
import msgspec
import pytest
from anyio.lowlevel import checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from remit import Job, RemitError
from remit._jobdir import files, json, mailbox
from remit._wire import msgpack
from remit.cli._collecting import Assignment
from remit.cli._collector import _assignment, _Collector
from remit.cli._gathering import StandIn
from remit.cli._work import Work


@attrs.define
class FakeJob:
    """Does what it is asked, or raises ``error``; ``hangs``: whatever else is asked never ends."""

    error: Exception | None = None
    hangs: bool = False
    stops: list[float] = attrs.field(factory=list)

    async def stop(self, grace: float) -> list[str]:
        self.stops.append(grace)
        if self.error is not None:
            raise self.error
        return []

    async def suspend(self) -> None:
        if self.error is not None:
            raise self.error
        if self.hangs:
            await anyio.sleep_forever()

    resume = suspend


class FakeStandIn:
    def suspend(self) -> None: ...

    resume = suspend


class Desk:
    """A collector at work for a job, and the directory where it is asked."""

    def __init__(self, directory: Path, job: FakeJob) -> None:
        dir_fd = os.open(directory, os.O_RDONLY)
        try:
            files.prepare(dir_fd)
            self.inbox = mailbox.Mailbox(dir_fd)
        finally:
            os.close(dir_fd)
        self.ask = os.fsencode(directory / "ask")
        self.collector = _Collector(
            Assignment.of("fake:x", "jaaaaaaaaaaaa", Work(command=("true",))),
            cast(StandIn, FakeStandIn()),
        )
        self._job = job

    async def work(self, tasks: anyio.abc.TaskGroup) -> None:
        await self.collector._heed(self.inbox, cast(Job, self._job), tasks)

    def ring(self) -> None:
        os.write(self.inbox.fd, mailbox.LOOK)

    def put(self, name: bytes, content: bytes = b"{}", kind: str = "file") -> None:
        path = os.path.join(self.ask, name)
        with tempfile.TemporaryDirectory(dir=os.path.dirname(self.ask)) as new:
            made = os.path.join(new, b"new")
            MAKE[kind](made, content)
            os.rename(made, path)  # whole from the first look on

    async def until(self, name: bytes) -> object:
        """What is answered."""
        while os.path.lexists(os.path.join(self.ask, name)):
            await checkpoint()
        with open(os.path.join(self.ask, b"answer-" + name), "rb") as file:
            return json.loads(file.read())

    def close(self) -> None:
        os.close(self.inbox.fd)
        os.close(self.inbox._ask_fd)


def _full_directory(path: bytes, content: bytes) -> None:
    os.mkdir(path)
    _file(os.path.join(path, b"in it"), content)


def _file(path: bytes, content: bytes) -> None:
    Path(os.fsdecode(path)).write_bytes(content)


MAKE: dict[str, Callable[[bytes, bytes], object]] = {
    "file": _file,
    "directory": lambda path, _: os.mkdir(path),
    "full directory": _full_directory,
    "link": lambda path, _: os.symlink(b"/etc/passwd", path),
    "dangling link": lambda path, _: os.symlink(b"nowhere", path),
    "fifo": lambda path, _: os.mkfifo(path),
}


@contextmanager
def _desk(job: FakeJob) -> Iterator[Desk]:
    directory = Path(tempfile.mkdtemp(prefix="remit-test-"))
    desk = Desk(directory, job)
    try:
        yield desk
    finally:
        desk.close()
        shutil.rmtree(directory)


def _at_work(job: FakeJob, ask: Callable[[Desk], Awaitable[None]]) -> None:
    async def main(desk: Desk) -> None:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(desk.work, tasks)
                await ask(desk)
                # It is still there.
                desk.put(b"resume-last")
                desk.ring()
                assert isinstance(await desk.until(b"resume-last"), dict)
                tasks.cancel_scope.cancel()

    with _desk(job) as desk:
        anyio.run(main, desk)


whole_numbers = st.integers(-(2**63), 2**64 - 1)
texts = st.text('gx"\\\0é', max_size=5)
leaves = st.none() | st.booleans() | whole_numbers | st.floats() | texts
values: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
objects = st.fixed_dictionaries({}, optional={"grace": leaves | values, "x": values})
wholes = st.one_of(
    (objects | values).map(lambda value: dumps(value).encode()),
    (objects | values).map(msgpack.pack),
    st.binary(max_size=20),
)
contents = st.one_of(
    wholes,
    st.builds(lambda whole, cut: whole[:cut], wholes, st.integers(0, 20)),
    st.builds(lambda piece, count: piece * count, wholes, st.integers(1, 5000)),
    st.sampled_from([b"[" * 100_000, b'{"grace":' * 9000, b" " * (1 << 22), b"9" * 5000]),
)
names = st.one_of(
    st.builds(
        lambda what, rest: what + b"-" + rest,
        st.sampled_from([b"stop", b"suspend", b"resume", b"nonsense", b"", b"s"]),
        st.binary(max_size=8).map(lambda raw: raw.hex().encode()),
    ),
    st.binary(min_size=1, max_size=200).map(
        lambda raw: b"x" + raw.replace(b"/", b"").replace(b"\0", b"")
    ),
)
problems = st.none() | st.builds(
    lambda kind, words: kind(words),
    st.sampled_from([RemitError, ValueError, OSError]),
    texts | st.just("\udcff"),
)


@settings(max_examples=60, deadline=None)
@given(
    requests=st.dictionaries(names, st.tuples(contents, st.sampled_from([*MAKE])), max_size=6),
    problem=problems,
    rings=st.sampled_from([mailbox.LOOK, b"?", b"w" * 4096]),
)
def test_generated_requests(
    requests: dict[bytes, tuple[bytes, str]], problem: Exception | None, rings: bytes
) -> None:
    job = FakeJob(problem)

    async def ask(desk: Desk) -> None:
        for name, (content, kind) in requests.items():
            desk.put(name, content, kind)
        os.write(desk.inbox.fd, rings)
        for name in requests:
            if name.startswith(b"stop-"):
                # Answered at once where it is none, and else when all is over.
                while not (desk.collector._stops or not os.path.lexists(desk.ask + b"/" + name)):
                    await checkpoint()
            else:
                assert isinstance(await desk.until(name), dict)
        desk.collector._answer_stops(desk.inbox)
        for name in requests:
            assert isinstance(await desk.until(name), dict)
        assert len(job.stops) == len(desk.collector._stops)
        assert all(0 <= grace <= 3600 for grace in job.stops)

    _at_work(job, ask)


ASSIGNMENT = Assignment.of("fake:x", "jaaaaaaaaaaaa", Work(command=("true", "x" * 300)))
WHOLE = msgspec.msgpack.encode(ASSIGNMENT)


@settings(deadline=None)
@given(data=st.integers(0, len(WHOLE) - 1).map(lambda cut: WHOLE[:cut]) | values.map(msgpack.pack))
def test_what_is_no_assignment_ends_a_collector_without_words(data: bytes) -> None:
    with pytest.raises(SystemExit, match="1"):
        _assignment(data)
    assert _assignment(WHOLE) == ASSIGNMENT


def test_many_at_once_that_hang_do_not_hide_a_stop() -> None:
    job = FakeJob(hangs=True)

    async def ask(desk: Desk) -> None:
        for number in range(200):
            desk.put(b"resume-%d" % number)
        desk.ring()
        while len(desk.collector._taken) < 200:
            await checkpoint()
        desk.put(b"stop-now")
        desk.ring()
        while not job.stops:
            await checkpoint()
        job.hangs = False

    _at_work(job, ask)


def test_each_of_many_stops_is_answered() -> None:
    async def ask(desk: Desk) -> None:
        stops = [b"stop-%d" % number for number in range(200)]
        for name in stops:
            desk.put(name)
        desk.collector._answer_stops(desk.inbox)
        for name in stops:
            assert await desk.until(name) == {"survivors": []}

    _at_work(FakeJob(), ask)


def test_what_cannot_be_read_just_now_is_read_later(monkeypatch: pytest.MonkeyPatch) -> None:
    read, failures = files.read_json, iter([files.Unavailable("no descriptor left")])

    def fails_once(dir_fd: int, name: bytes) -> dict[str, Any]:
        for failure in failures:
            raise failure
        return read(dir_fd, name)

    monkeypatch.setattr(files, "read_json", fails_once)
    monkeypatch.setattr("remit.cli._collector._AGAIN", 0.01)

    async def ask(desk: Desk) -> None:
        desk.put(b"resume-first")
        desk.ring()
        assert await desk.until(b"resume-first") == {}

    _at_work(FakeJob(), ask)
