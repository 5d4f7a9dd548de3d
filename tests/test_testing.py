"""The test kit itself: the fake transport, the stub tool, and that the kit can fail."""

import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import pytest

import remit
from remit.abc import ByteStream, Target, Transport
from remit.testing import FakePeer, FakeTransport, StubTool, TransportConformance

TARGET = Target("fake", "somewhere")


async def echo(peer: FakePeer) -> int:
    while data := await peer.receive():
        await peer.send(data)
    return 0


def test_remit_itself_needs_no_pytest() -> None:
    code = "import sys, remit; sys.exit('pytest' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.anyio
class TestFakeTransport:
    async def test_it_is_a_transport_that_notes_what_was_started(self) -> None:
        transport = FakeTransport(echo)
        assert isinstance(transport, Transport)
        async with transport.open(TARGET, ["a", "b c"]) as stream:
            await stream.send(b"hello")
            assert await stream.receive(3) == b"hel"
            assert await stream.receive() == b"lo"
        assert transport.opened == [["a", "b c"]]

    async def test_the_script_says_how_it_ends(self) -> None:
        async def script(peer: FakePeer) -> int:
            peer.say(b"x" * 10_000 + b"trouble")
            await peer.send(b"answer")
            return 3

        async with FakeTransport(script).open(TARGET, []) as stream:
            assert await stream.receive() == b"answer"
            assert await stream.receive() == b""
            end = await stream.wait()
            assert end.exit_status == 3
            assert end.stderr.endswith(b"xtrouble")
            assert len(end.stderr) == 8192
            with pytest.raises(BrokenPipeError):
                await stream.send(b"late")

    async def test_what_was_sent_before_the_end_is_still_received(self) -> None:
        async def script(peer: FakePeer) -> None:
            await peer.send(b"last words")

        async with FakeTransport(script).open(TARGET, []) as stream:
            end = await stream.wait()
            assert end.exit_status is None
            assert await stream.receive() == b"last words"

    async def test_a_side_that_nobody_reads_from_comes_to_wait(self) -> None:
        sent = anyio.Event()

        async def script(peer: FakePeer) -> None:
            await peer.send(bytes(20))
            sent.set()
            await anyio.sleep_forever()

        async with FakeTransport(script, capacity=10).open(TARGET, []) as stream:
            await anyio.wait_all_tasks_blocked()
            assert not sent.is_set()
            assert await stream.receive() == bytes(10)
            await sent.wait()
            assert await stream.receive() == bytes(10)
            with anyio.move_on_after(0.01) as scope:
                await stream.send(bytes(20))
            assert scope.cancelled_caught

    @pytest.mark.parametrize("side", ["stdin", "stdout"])
    async def test_a_side_can_be_cut(self, side: str) -> None:
        async def script(peer: FakePeer) -> None:
            peer.cut_stdin() if side == "stdin" else peer.cut_stdout()
            await anyio.sleep_forever()

        async with FakeTransport(script).open(TARGET, []) as stream:
            await anyio.wait_all_tasks_blocked()
            if side == "stdin":
                with pytest.raises(BrokenPipeError):
                    await stream.send(b"x")
            else:
                assert await stream.receive() == b""

    async def test_leaving_ends_the_script(self) -> None:
        ended = []

        async def script(peer: FakePeer) -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append(peer.argv)

        async with FakeTransport(script).open(TARGET, ["x"]):
            await anyio.wait_all_tasks_blocked()
        assert ended == [["x"]]

    async def test_what_the_script_raises_is_raised_on_leaving(self) -> None:
        async def script(peer: FakePeer) -> None:
            raise LookupError("a mistake in the script")

        with pytest.raises(LookupError, match="a mistake in the script"):
            async with FakeTransport(script).open(TARGET, []) as stream:
                assert await stream.receive() == b""

    async def test_what_the_body_raises_leaves_as_it_is(self) -> None:
        with pytest.raises(LookupError, match="the body's own"):
            async with FakeTransport(echo).open(TARGET, []):
                raise LookupError("the body's own")


@pytest.fixture
def tools(tmp_path: Path) -> StubTool:
    return StubTool(tmp_path / "stubs")


def run(*argv: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(argv, capture_output=True, timeout=60, check=False)


class TestStubTool:
    def test_it_notes_its_words_and_runs_the_rest(self, tools: StubTool) -> None:
        program = tools("kubectl")
        words = ["exec", "", "a b", "new\nline", "grüße", "--"]
        assert run(program, *words, "printf", "%s|", "", "x y").stdout == b"|x y|"
        assert run(program, "--", "false").returncode == 1
        assert tools.calls("kubectl") == [[*words, "printf", "%s|", "", "x y"], ["--", "false"]]

    def test_the_rest_can_begin_after_a_number_of_words(self, tools: StubTool) -> None:
        assert run(tools("docker", skip=3), "exec", "-i", "box", "echo", "--").stdout == b"--\n"

    def test_the_rest_can_be_a_line_for_a_shell(self, tools: StubTool) -> None:
        program = tools("ssh", shell=True)
        assert run(program, "-T", "--", "host", "echo $((1 + 1)) 'a  b'").stdout == b"2 a  b\n"

    def test_it_can_fail(self, tools: StubTool) -> None:
        done = run(tools.failing("ssh", stderr="it's no\n$use\n", exit_status=255), "host")
        assert (done.returncode, done.stdout, done.stderr) == (255, b"", b"it's no\n$use\n")
        assert tools.calls("ssh") == [["host"]]

    def test_a_tool_that_was_never_started_has_no_calls(self, tools: StubTool) -> None:
        tools("ssh")
        assert tools.calls("ssh") == []


# -- a promise that is broken is found


class Broken:
    """``local:`` with one fault."""

    api = 1
    scheme = "broken"

    def __init__(self, fault: str) -> None:
        self._fault = fault
        self._opened = 0

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        if target.address and self._fault != "takes any address":
            raise remit.TargetError("no address")
        self._opened += 1
        if self._fault == "once" and self._opened > 1:
            raise remit.ConnectError("one connection is all there is", lasting=True)
        if self._fault == "shell":
            argv = ["/bin/sh", "-c", " ".join(argv)]
        if self._fault == "grouping":
            return _grouping(argv)
        if self._fault in ("newlines", "tail", "status"):
            return _changed(argv, self._fault)
        return remit.open_process(argv)


@asynccontextmanager
async def _grouping(argv):  # type: ignore[no-untyped-def]
    async with anyio.create_task_group(), remit.open_process(argv) as stream:
        yield stream


@asynccontextmanager
async def _changed(argv, fault):  # type: ignore[no-untyped-def]
    async with remit.open_process(argv) as stream:
        yield _Changed(stream, fault)


class _Changed:
    def __init__(self, stream: ByteStream, fault: str) -> None:
        self._stream = stream
        self._fault = fault

    async def receive(self, max_bytes: int = 65536) -> bytes:
        data = await self._stream.receive(max_bytes)
        return data.replace(b"\r\n", b"\n") if self._fault == "newlines" else data

    async def send(self, data: bytes) -> None:
        await self._stream.send(data.replace(b"\n", b"\r") if self._fault == "newlines" else data)

    async def wait(self) -> remit.End:
        end = await self._stream.wait()
        if self._fault == "status":
            return remit.End(0, end.stderr)
        return remit.End(end.exit_status, b"" if self._fault == "tail" else end.stderr)

    @property
    def stderr_tail(self) -> bytes:
        return b"" if self._fault == "tail" else self._stream.stderr_tail


KIT = TransportConformance()
Promise = Callable[[Transport, Target], Awaitable[None]]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fault", "promise"),
    [
        ("shell", KIT.test_no_shell_gets_at_the_words_of_a_command),
        ("newlines", KIT.test_every_byte_value_passes_both_ways),
        ("tail", KIT.test_the_end_of_stderr_is_told),
        ("tail", KIT.test_a_flood_on_stderr_holds_nothing_up_and_its_end_is_told),
        ("grouping", KIT.test_what_the_body_raises_leaves_as_it_is),
    ],
)
async def test_a_fault_breaks_its_promise(fault: str, promise: Promise) -> None:
    with pytest.raises((AssertionError, ExceptionGroup)):
        await promise(Broken(fault), Target("broken", ""))


@pytest.mark.anyio
async def test_a_wrong_exit_status_is_found() -> None:
    with pytest.raises(AssertionError):
        await KIT.test_the_exit_status_is_told(Broken("status"), Target("broken", ""), 3)


@pytest.mark.anyio
async def test_a_transport_that_cannot_come_back_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(remit.LinkLost, match="one connection is all there is"):
        await KIT.test_a_broken_connection_costs_what_hangs_on_it_and_is_made_anew(
            Broken("once"), Target("broken", ""), monkeypatch
        )


@pytest.mark.anyio
async def test_an_address_that_is_not_refused_is_found() -> None:
    with pytest.raises(pytest.fail.Exception, match="was not refused"):
        await KIT.test_what_can_never_be_right_is_refused_before_anything_is_started(
            Broken("takes any address"), Target("broken", ""), ["-x"]
        )
