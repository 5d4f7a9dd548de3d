"""What somebody's code raises costs its own channel, and bears a name; the session goes on."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import Any

import anyio
import attrs
import pytest

import remit
from remit._errors import LocalProtocolError, PluginError, RemitError
from remit._link.listener import Listener
from remit._plugins import Plugins, PluginWarning, plugins
from remit._wire import frames
from remit._wire.conversation import Piece
from remit.abc import End, FunctionFailure
from remit.cli import _brought
from remit.testing import FakePeer, FakeTransport

from .conftest import Play
from .fake_agent import FakeAgent, agent_script, job_map, pack

pytestmark = pytest.mark.anyio


# -- every method of a listener


class Raising(Listener):
    """Raises in one method, and in `raised` where that is asked of it too."""

    def __init__(self, method: str, fatal: bool) -> None:
        self.told: list[str] = []
        self.error: RemitError | None = None
        self.over = anyio.Event()
        self._method = method
        self._fatal = fatal

    def _do(self, method: str) -> None:
        self.told.append(method)
        if method == self._method:
            raise LookupError(f"raised by {method}")

    def accepted(self, body: bytes) -> None:
        self._do("accepted")

    def replied(self, body: bytes) -> None:
        self._do("replied")

    def refused(self, error: RemitError) -> None:
        self._do("refused")

    def event(self, name: str, arguments: bytes) -> None:
        self._do("event")

    def data(self, piece: Piece) -> None:
        self._do("data")

    def ended(self, body: bytes) -> None:
        self._do("ended")

    def raised(self, error: RemitError) -> None:
        self.error = error
        self.over.set()
        if self._fatal:
            raise KeyError("and once more")


async def provoke(agent: FakeAgent) -> None:
    """Answers each request by what its verb names; `bystander` by a reply."""
    say = agent.conversation
    async for channel, verb, _ in agent.requests():
        if verb in ("bystander", "replied"):
            say.reply(channel, pack({}))
        elif verb == "refused":
            say.refuse(channel, pack({"code": "state", "message": "no"}))
        else:
            say.accept(channel, pack({}))
            if verb == "event":
                say.event(channel, pack(["news", {}]))
            elif verb == "data":
                await agent.flush()
                assert (await agent.next(frames.CREDIT)).channel == channel
                say.data(channel, Piece(1, 0, 0, 1.0, b"x"))
            elif verb == "ended":
                say.end(channel, pack({}))


METHODS = ("accepted", "replied", "refused", "event", "data", "ended")


@pytest.mark.parametrize("fatal", [False, True])
@pytest.mark.parametrize("method", METHODS)
async def test_a_listener_that_raises_loses_its_own_channel(
    play: Play, method: str, fatal: bool
) -> None:
    play(agent_script(provoke))
    async with remit.connect("fake:") as session:
        link = await session._connection.ready()
        listener = Raising(method, fatal)
        with anyio.fail_after(10):
            channel = link.open(method, {}, listener, credit=10)
            await listener.over.wait()
            assert channel.is_over
            assert isinstance(listener.error, LocalProtocolError)
            assert f"LookupError: raised by {method}" in str(listener.error)
            told = list(listener.told)
            for _ in range(3):
                await session._connection.ask("bystander", {}, dict)
        assert session._connection.link is link
        assert listener.told == told, "nothing more is told to it"


async def test_one_listener_that_raises_at_the_end_keeps_no_other_from_being_told(
    play: Play,
) -> None:
    class Bad(Listener):
        def lost(self, error: RemitError) -> None:
            raise LookupError("not today")

    class Good(Listener):
        told = False

        def lost(self, error: RemitError) -> None:
            self.told = True

    async def cut(agent: FakeAgent) -> None:
        for _ in range(3):
            await agent.request()

    play(agent_script(cut))
    async with remit.connect("fake:", reconnect=0) as session:
        link = await session._connection.ready()
        good = [Good(), Good()]
        listeners = [good[0], Bad(), good[1]]
        channels = [link.open("x", {}, listener) for listener in listeners]
        with anyio.fail_after(10):
            async for _ in session.changes():
                pass
        assert session.state is remit.SessionState.BROKEN
        assert [one.told for one in good] == [True, True]
        assert all(channel.is_over for channel in channels)


# -- plugins


@contextmanager
def plugin(**hooks: Callable[..., Any]) -> Iterator[Plugins]:
    """A plugin called ``bad`` with these hooks."""
    found = plugins()
    bad = type("Bad", (), {})()
    for name, hook in hooks.items():
        setattr(bad, name, remit.hookimpl(hook))
    found.add(bad, "bad")
    try:
        yield found
    finally:
        found._manager.unregister(name="bad")
        found._placements.pop("bad", None)
        found.placements.pop("bad", None)
        found._faults.clear()


STORE_METHODS = ("open_store", "append", "read", "size", "used", "close", "aclose", "task")
READER_METHODS = ("next", "reader.used", "reader.close")


class Speechless(Exception):
    """Nobody can have its words."""

    def __str__(self) -> str:
        raise ValueError("not today")


def _group(words: str) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup(words, [SystemExit(3), LookupError()])


KINDS: tuple[Callable[[str], BaseException], ...] = (
    LookupError,
    OSError,
    remit.RemoteProtocolError,
    Warning,
    SystemExit,
    KeyboardInterrupt,
    GeneratorExit,
    Speechless,
    _group,
)


@attrs.define
class BadPlacement:
    """A placement whose stores raise in one method, and are a list otherwise."""

    method: str
    kind: Callable[[str], BaseException]
    api: int = 1
    name: str = "bad"
    spools: bool = False

    def open_store(self, job: remit.JobInfo, channel: remit.Channel) -> remit.ResultStore:
        self.fail("open_store")
        return BadStore(self, channel)

    def fail(self, method: str) -> None:
        if method == self.method:
            raise self.kind("not today")


class BadStore:
    def __init__(self, bad: BadPlacement, channel: remit.Channel) -> None:
        self._bad = bad
        self._channel = channel
        self._records: list[remit.Record] = []
        channel.start_soon(self._task)

    async def _task(self) -> None:
        await anyio.lowlevel.checkpoint()
        self._bad.fail("task")

    def append(self, record: remit.Record) -> None:
        self._bad.fail("append")
        self._records.append(record)
        self._channel.grant(len(record.data))

    def read(self, position: object, *, follow: bool, consume: bool) -> BadReader:
        self._bad.fail("read")
        return BadReader(self._bad, self._records)

    @property
    def size(self) -> dict[str, int]:
        self._bad.fail("size")
        return {"stdout": sum(len(record.data) for record in self._records)}

    @property
    def used(self) -> dict[str, int]:
        self._bad.fail("used")
        return {}

    def close(self, outcome: object) -> None:
        self._bad.fail("close")

    async def aclose(self) -> None:
        self._bad.fail("aclose")


class BadReader:
    def __init__(self, bad: BadPlacement, records: list[remit.Record]) -> None:
        self._bad = bad
        self._left = list(records)

    async def next(self) -> remit.Record | None:
        self._bad.fail("next")
        await anyio.lowlevel.checkpoint()
        return self._left.pop(0) if self._left else None

    def used(self, record: remit.Record) -> None:
        self._bad.fail("reader.used")

    def close(self) -> None:
        self._bad.fail("reader.close")


async def use(session: remit.Session, jobs: list[remit.Job]) -> None:
    """Everything that a user does with a job of that placement."""
    job = await session.start(["echo", "out"], placement="bad")
    jobs.append(job)
    await job.wait()
    assert job.id in repr(job.info)
    assert [record.data async for record in job.receive()] in ([], [b"out\n"])
    await job.result()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", [*STORE_METHODS, *READER_METHODS])
async def test_a_store_that_raises_costs_its_job_alone_and_is_named(
    session: remit.Session, method: str, kind: Callable[[str], BaseException]
) -> None:
    # Those of remit's own that a reader may raise are its answer, and no fault.
    own = kind is remit.RemoteProtocolError
    bystander = await session.start("read x; echo $x", stdin=remit.PIPE)
    placement = BadPlacement(method, kind)
    said: list[str] = []
    jobs: list[remit.Job] = []
    with (
        plugin(remit_placements=lambda: [placement]) as found,
        warnings.catch_warnings(record=True) as caught,
        anyio.fail_after(30),
    ):
        warnings.simplefilter("always")
        try:
            await use(session, jobs)
        except RemitError as exc:
            said.append(str(exc))
        for job in jobs:
            await session._connection.tasks.see_through(job._backing.discard)
        said += [str(one.message) for one in caught]
        said += [fault.problem for fault in found.faulty]
    assert session.state is remit.SessionState.OPEN
    assert said, "nobody was told"
    if not own:
        words = "its text raised ValueError" if kind is Speechless else "not today"
        assert any("'bad'" in text and words in text for text in said), said
    assert not any("bug" in text for text in said), said
    await bystander.send(b"still here\n")
    assert (await bystander.result()).stdout == b"still here\n"


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("hook", ["remit_job_changed", "remit_record"])
async def test_a_hook_that_raises_costs_nothing_but_itself(
    session: remit.Session, hook: str, strict: bool
) -> None:
    called = []

    def remit_job_changed(job: remit.JobInfo, old: object, new: object) -> None:
        called.append(new)
        raise LookupError("not today")

    def remit_record(job: remit.JobInfo, record: remit.Record) -> None:
        called.append(record)
        raise LookupError("not today")

    hooks: dict[str, Callable[..., Any]] = {
        "remit_job_changed": remit_job_changed,
        "remit_record": remit_record,
    }
    with plugin(**{hook: hooks[hook]}) as found, warnings.catch_warnings():
        # As with `-W error`: the filter makes an exception of the warning itself.
        warnings.simplefilter("error" if strict else "ignore")
        for _ in range(3):
            job = await session.start("echo out; echo err >&2")
            assert (await job.result()).stdout == b"out\n"
        await session.run(["true"], placement="keep")
        faulty = [(fault.name, fault.problem) for fault in found.faulty]
    assert len(called) > 3
    assert faulty == [("bad", "LookupError: not today")]
    assert session.state is remit.SessionState.OPEN


async def test_a_warning_of_the_target_raised_as_an_error_takes_the_start_back(
    play: Play,
) -> None:
    taken_back = anyio.Event()

    async def warns(agent: FakeAgent) -> None:
        async for channel, verb, arguments in agent.requests():
            job = str(arguments.get("job") or arguments.get("id"))
            if verb == "start":
                body = job_map(job, placement="keep", warning="it lingers not")
                agent.conversation.accept(channel, pack(body))
            elif verb == "stop":
                stopped = job_map(job, "STOPPED", outcome={"reason": "stopped"})
                agent.conversation.reply(channel, pack({"survivors": [], "job": stopped}))
            else:
                agent.conversation.reply(channel, pack({}))
                if verb == "remove":
                    taken_back.set()

    play(agent_script(warns))
    async with remit.connect("fake:") as session:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(remit.LogoutWarning, match="it lingers not"):
                await session.start(["true"], placement="keep")
        assert taken_back.is_set()
        assert session.state is remit.SessionState.OPEN


# -- transports

Step = Callable[[], None]


class BadTransport(FakeTransport):
    """One whose streams raise in one method, once an agent is up where that is asked."""

    def __init__(self, script: Callable[[FakePeer], Awaitable[int]], method: str) -> None:
        super().__init__(script, scheme="fake")
        self.method = method
        self.kind: Callable[[str], BaseException] = LookupError
        self.armed = False
        self.hangs = False

    async def at(self, method: str) -> None:
        if self.hangs and self.armed and method == self.method:
            with anyio.CancelScope(shield=True):
                await anyio.sleep_forever()
        self.fail(method)

    def fail(self, method: str) -> None:
        if self.armed and method == self.method:
            raise self.kind("not today")

    def open(self, target: remit.Target, argv: Sequence[str]) -> Any:
        self.fail("open")
        return self._opened(super().open(target, argv))

    @asynccontextmanager
    async def _opened(
        self, inner: AbstractAsyncContextManager[remit.ByteStream]
    ) -> AsyncIterator[BadStream]:
        await self.at("enter")
        async with inner as stream:
            yield BadStream(self, stream)
        await self.at("leave")


class BadStream:
    def __init__(self, bad: BadTransport, stream: remit.ByteStream) -> None:
        self._bad = bad
        self._stream = stream

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await self._bad.at("receive")
        data = await self._stream.receive(max_bytes)
        await self._bad.at("receive")
        return data

    async def send(self, data: bytes) -> None:
        await self._bad.at("send")
        await self._stream.send(data)

    async def wait(self) -> End:
        await self._bad.at("wait")
        return await self._stream.wait()

    @property
    def stderr_tail(self) -> bytes:
        self._bad.fail("stderr_tail")
        return self._stream.stderr_tail


@pytest.fixture
def bad_transport() -> Iterator[Callable[[str], BadTransport]]:
    def put(method: str) -> BadTransport:
        transport = BadTransport(agent_script(provoke), method)
        plugins().transports["fake"] = transport
        return transport

    yield put
    plugins().transports.pop("fake", None)


@pytest.mark.parametrize(
    "kind", [LookupError, SystemExit, KeyboardInterrupt, GeneratorExit, _group]
)
@pytest.mark.parametrize("method", ["open", "enter", "receive", "send", "wait", "stderr_tail"])
async def test_a_transport_that_raises_is_named_and_no_bug_of_remits(
    bad_transport: Callable[[str], BadTransport],
    method: str,
    kind: Callable[[str], BaseException],
) -> None:
    transport = bad_transport(method)
    transport.kind = kind
    transport.armed = True
    with anyio.fail_after(20), pytest.raises(RemitError) as caught:
        async with remit.connect("fake:", connect_timeout=2, silence=1):
            raise remit.TargetError("a sound agent, with a stream that only failed at the end")
    if method in ("wait", "stderr_tail"):
        return  # nothing depended on it
    assert isinstance(caught.value, PluginError), caught.value
    assert "not today" in str(caught.value)
    assert "tests" in caught.value.plugin or "core" in caught.value.plugin


@pytest.mark.parametrize("method", ["enter", "receive", "send", "leave"])
async def test_a_transport_that_shields_itself_is_left_behind_by_name(
    bad_transport: Callable[[str], BadTransport], method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remit._link.carrier.LEAVING", 0.1)
    monkeypatch.setattr("remit._link.carrier.GRACE", 0.1)
    transport = bad_transport(method)
    transport.armed = transport.hangs = True
    with anyio.fail_after(60), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with suppress(RemitError):
            async with remit.connect("fake:", connect_timeout=1, silence=1):
                pass
    plugins()._faults.clear()
    where = "open()" if method in ("enter", "leave") else f"{method}() of a stream"
    said = [str(one.message) for one in caught]
    assert any("after a cancel" in text and f"(in {where})" in text for text in said), said


@pytest.mark.parametrize("kind", [ConnectionResetError, anyio.BrokenResourceError, EOFError])
@pytest.mark.parametrize("method", ["receive", "send"])
async def test_a_connection_that_fails_is_a_lost_link_by_whatever_exception(
    bad_transport: Callable[[str], BadTransport], method: str, kind: type[Exception]
) -> None:
    transport = bad_transport(method)
    if kind is anyio.BrokenResourceError:
        kind = type("Broken", (anyio.BrokenResourceError,), {"__init__": lambda self, text: None})
    transport.kind = kind
    with anyio.fail_after(20):
        async with remit.connect("fake:", reconnect=0, silence=0.5) as session:
            await session._connection.ask("bystander", {}, dict)
            transport.armed = True
            with pytest.raises(remit.LinkLost, match="was lost"):
                await session._connection.ask("bystander", {}, dict)


async def test_a_reset_connection_is_made_anew(
    bad_transport: Callable[[str], BadTransport],
) -> None:
    transport = bad_transport("receive")
    transport.kind = ConnectionResetError
    with anyio.fail_after(20):
        async with remit.connect("fake:") as session:
            transport.armed = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(session._connection.ask, "bystander", {}, dict)
                async for state in session.changes():
                    if state is remit.SessionState.RECONNECTING:
                        break
                transport.armed = False


async def test_leaving_that_raises_is_reported_and_ends_no_other_session(
    bad_transport: Callable[[str], BadTransport],
) -> None:
    transport = bad_transport("leave")
    async with remit.open_hub() as hub:
        one, two = await hub.connect("fake:"), await hub.connect("fake:")
        transport.armed = True
        with pytest.warns(PluginWarning, match="not today"):
            await one.aclose()
        transport.armed = False
        await two._connection.ask("bystander", {}, dict)
    plugins()._faults.clear()


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_hook_is_told_of_each_state_and_what_was_before(
    session: remit.Session, placement: str
) -> None:
    told: list[tuple[object, object]] = []

    def remit_job_changed(old: object, new: object) -> None:
        told.append((old, new))

    with plugin(remit_job_changed=remit_job_changed):
        job = await session.start(["sleep", "0.2"], placement=placement)
        await job.wait()
    # None: of this job nothing was told yet.
    assert told == [(None, "RUNNING"), ("RUNNING", "COMPLETED")]


def told_what_went_wrong(words: str) -> None:
    error = ValueError(words)
    error.add_note("and a note")
    raise error


@pytest.mark.parametrize(
    ("placement", "full"),
    [("return", "spill"), ("return", "block"), ("return", "drop"), ("keep", "spill")],
)
async def test_a_hook_is_told_how_a_function_failed(
    session: remit.Session, placement: str, full: str
) -> None:
    told: list[tuple[object, object]] = []

    def remit_job_changed(job: remit.JobInfo, new: object, failure: object) -> None:
        told.append((new, failure))

    options: dict[str, Any] = {"full": full} if placement == "return" else {}
    with plugin(remit_job_changed=remit_job_changed):
        async with remit.connect("local:") as own:
            job = await own.start(told_what_went_wrong, "not today", placement=placement, **options)
            await job.wait()
        # Its session does not end before it was told.
        running, (state, failure) = told
    assert running == ("RUNNING", None)
    assert state == "FAILED"
    assert isinstance(failure, FunctionFailure)
    assert (failure.type, failure.message, failure.notes) == (
        "ValueError",
        "not today",
        ("and a note",),
    )
    assert failure.traceback.startswith("Traceback")
    assert "told_what_went_wrong" in failure.traceback


async def test_a_hook_is_told_at_once_of_what_did_not_fail_by_itself(
    session: remit.Session,
) -> None:
    told: list[tuple[str, object]] = []

    def remit_job_changed(new: object, failure: object) -> None:
        told.append((str(new), failure))

    with plugin(remit_job_changed=remit_job_changed):
        for work in (["false"], "kill -KILL $$", lambda: 1):
            job = await session.start(work)
            await job.wait()
    assert told == [
        (state, None) for end in ("FAILED", "FAILED", "COMPLETED") for state in ("RUNNING", end)
    ]


async def test_a_reader_that_shields_itself_does_not_hold_up_who_is_cancelled(
    session: remit.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(reader: BadReader) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.sleep_forever()

    monkeypatch.setattr(BadReader, "next", hang)
    monkeypatch.setattr("remit._link.background.GRACE", 0.1)
    placement = BadPlacement("", LookupError)
    with plugin(remit_placements=lambda: [placement]), anyio.fail_after(60):
        job = await session.start(["echo", "out"], placement="bad")
        with anyio.move_on_after(0.1) as waiting:
            await job.result()
        assert waiting.cancelled_caught
        assert (await session.run(["echo", "others"])).stdout == b"others\n"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            await session._connection.tasks.see_through(job._backing.discard)


def test_a_command_that_exits_within_a_group_has_its_exit_status() -> None:
    def command() -> None:
        raise BaseExceptionGroup("of a task group", [SystemExit(3)])

    ours = _brought._as_ours(command, "bad", lambda function, *args: None)
    assert ours is not None
    with pytest.raises(SystemExit) as caught:
        ours()
    assert caught.value.code == 3
