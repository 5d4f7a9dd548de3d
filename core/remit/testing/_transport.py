"""What every transport promises, a test each."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from remit._errors import ConnectError, TargetError
from remit.abc import API, ByteStream, Target, Transport
from remit.testing._link import LinkConformance
from remit.testing._processes import LEAVING, UP, children, new_marker, sh, until_gone
from remit.testing._stub import StubTool

# Seconds for what takes milliseconds on a machine with nothing else to do.
_LIMIT = 60.0
_TAIL = 8192
_ALL_BYTES = bytes(range(256))
# Each means something to a shell, or to a tool that quotes for one.
_WORDS = [
    "",
    "two words",
    " on both ends ",
    "it's",
    'say "so"',
    "$HOME",
    "$(echo no)",
    "`echo no`",
    "*",
    "~",
    "a;b",
    "a|b>c<d&",
    "back\\slash",
    "two\nlines",
    "tab\there",
    "#none",
    "!1",
    "{a,b}",
    "-n",
    "--",
    "grüße, 世界",
]


class StreamConformance:
    """What a transport gives: bytes, ends, and leaving. Subclass it with two fixtures,
    ``transport`` and ``target``; the target must be reachable.

    Commands run through /bin/sh over there, with cat, head, tr and sleep. ``refused_addresses``
    may be overridden with more addresses that the transport must refuse. Runs on asyncio and trio.
    """

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    def stub_tool(self, tmp_path: Path) -> StubTool:
        """Stands in for the transport's tool."""
        return StubTool(tmp_path / "stubs")

    @pytest.fixture
    def refused_addresses(self) -> Sequence[str]:
        """Addresses that the transport must refuse; override it with more."""
        return ["-oProxyCommand=false"]

    # -- who it is

    def test_it_is_a_transport_of_this_api(self, transport: Transport) -> None:
        """It has what `remit.abc.Transport` asks for, and says this ``api``."""
        assert isinstance(transport, Transport)
        assert transport.api == API
        assert transport.scheme

    # -- bytes

    async def test_every_byte_value_passes_both_ways(
        self, transport: Transport, target: Target
    ) -> None:
        """Nothing translates line ends, or stops at a NUL."""
        async with _opened(transport, target, ["cat"]) as stream:
            await stream.send(_ALL_BYTES)
            assert await _exactly(stream, len(_ALL_BYTES)) == _ALL_BYTES

    async def test_ten_megabytes_pass_both_ways_whole(
        self, transport: Transport, target: Target
    ) -> None:
        """Sending and receiving at the same time neither waits for the other nor loses a byte."""
        sent = secrets.token_bytes(10_000_000)
        async with _opened(transport, target, ["cat"]) as stream:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.send, sent)
                got = await _exactly(stream, len(sent))
            assert got == sent, "ten megabytes came back changed"

    async def test_a_small_piece_is_not_held_back(
        self, transport: Transport, target: Target
    ) -> None:
        """A byte arrives without another one behind it."""
        async with _opened(transport, target, ["cat"]) as stream:
            for piece in (b"\0", b"no newline", b"\n", b"more"):
                await stream.send(piece)
                assert await _exactly(stream, len(piece)) == piece

    async def test_receive_gives_no_more_than_asked_for(
        self, transport: Transport, target: Target
    ) -> None:
        """``max_bytes`` is the most, and one byte the least, of a `receive`."""
        async with _opened(transport, target, ["cat"]) as stream:
            await stream.send(b"twelve bytes")
            pieces = [await stream.receive(5) for _ in range(2)]
            assert all(0 < len(piece) <= 5 for piece in pieces)
            rest = await _exactly(stream, 12 - len(b"".join(pieces)))
            assert b"".join([*pieces, rest]) == b"twelve bytes"

    async def test_a_cancelled_receive_has_taken_nothing(
        self, transport: Transport, target: Target
    ) -> None:
        """A cancelled `receive` loses no byte, whether it waited or had not begun."""
        async with _opened(transport, target, ["cat"]) as stream:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stream.receive)
                await anyio.wait_all_tasks_blocked()
                tasks.cancel_scope.cancel()
            await stream.send(b"first")
            with anyio.CancelScope() as scope:
                scope.cancel()
                await stream.receive()
            assert await _exactly(stream, 5) == b"first"

    # -- the command's words

    async def test_no_shell_gets_at_the_words_of_a_command(
        self, transport: Transport, target: Target
    ) -> None:
        """The words of an argv arrive as they are, whatever they mean to a shell."""
        argv = sh('printf "%s\\0" "$@"', *_WORDS)
        async with _opened(transport, target, argv) as stream:
            got = (await _to_the_end(stream)).split(b"\0")
        assert [word.decode() for word in got] == [*_WORDS, ""]

    # -- the end

    async def test_the_end_follows_the_last_byte(
        self, transport: Transport, target: Target
    ) -> None:
        """All output comes before the end, and after the end there is only the end."""
        argv = sh("head -c 300000 /dev/zero; printf last")
        async with _opened(transport, target, argv) as stream:
            got = await _to_the_end(stream)
            assert len(got) == 300_004
            assert got.endswith(b"\0last")
            assert await stream.receive() == b"", "the end is for good"

    @pytest.mark.parametrize("status", [0, 3])
    async def test_the_exit_status_is_told(
        self, transport: Transport, target: Target, status: int
    ) -> None:
        """`wait` has the command's exit status."""
        async with _opened(transport, target, sh(f"exit {status}")) as stream:
            assert (await stream.wait()).exit_status == status

    async def test_the_end_of_stderr_is_told(self, transport: Transport, target: Target) -> None:
        """The end of stderr is in `End.stderr` and in ``stderr_tail``, and nowhere in stdout."""
        argv = sh("echo answer; echo trouble >&2; exit 3")
        async with _opened(transport, target, argv) as stream:
            assert await _to_the_end(stream) == b"answer\n"
            end = await stream.wait()
            assert b"trouble" in end.stderr
            assert stream.stderr_tail == end.stderr

    async def test_a_flood_on_stderr_holds_nothing_up_and_its_end_is_told(
        self, transport: Transport, target: Target
    ) -> None:
        """stderr is read without being asked for, and its last 8 KiB at most are held."""
        argv = sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; echo the end >&2; echo done")
        async with _opened(transport, target, argv) as stream:
            assert await _to_the_end(stream) == b"done\n"
            end = await stream.wait()
            assert end.stderr.endswith(b"xthe end\n")
            assert len(end.stderr) <= _TAIL

    async def test_several_may_wait_for_the_end(self, transport: Transport, target: Target) -> None:
        """Any number of tasks wait; one that is cancelled takes nothing from the others."""
        statuses = []

        async def wait(stream: ByteStream) -> None:
            statuses.append((await stream.wait()).exit_status)

        async with _opened(transport, target, sh("read line; exit 3")) as stream:
            async with anyio.create_task_group() as cancelled:
                cancelled.start_soon(wait, stream)
                await anyio.wait_all_tasks_blocked()
                cancelled.cancel_scope.cancel()
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(wait, stream)
                await stream.send(b"\n")
            await wait(stream)
        assert statuses == [3, 3, 3, 3]

    async def test_sending_to_a_command_that_has_ended_fails(
        self, transport: Transport, target: Target
    ) -> None:
        """Such a `send` raises BrokenPipeError and does not wait."""
        async with _opened(transport, target, sh("exit 0")) as stream:
            await stream.wait()
            with pytest.raises(BrokenPipeError):
                await stream.send(bytes(10_000_000))

    # -- what goes wrong

    async def test_a_missing_command_is_no_success(
        self, transport: Transport, target: Target
    ) -> None:
        """Opening one raises ConnectError, or its exit status is not 0."""
        try:
            async with _opened(transport, target, ["/no/such/program"]) as stream:
                status = (await stream.wait()).exit_status
        except ConnectError:
            return
        assert status != 0

    async def test_what_can_never_be_right_is_refused_before_anything_is_started(
        self, transport: Transport, target: Target, refused_addresses: Sequence[str]
    ) -> None:
        """Each of ``refused_addresses`` is a TargetError, and no process is started."""
        before = children()
        for address in refused_addresses:
            with pytest.raises(TargetError):
                async with transport.open(Target(transport.scheme, address), ["true"]):
                    pytest.fail(f"{address!r} was not refused")
        assert children() <= before

    async def test_what_the_body_raises_leaves_as_it_is(
        self, transport: Transport, target: Target
    ) -> None:
        """An exception in the body is neither wrapped in a group nor replaced."""
        error = LookupError("the body's own")
        with pytest.raises(LookupError) as caught:
            async with _opened(transport, target, ["cat"]):
                raise error
        assert caught.value is error

    # -- leaving

    async def test_leaving_ends_a_command_that_reads_its_stdin(
        self, transport: Transport, target: Target
    ) -> None:
        """Leaving closes stdin and waits for the command."""
        marker = new_marker()
        async with _opened(transport, target, sh(UP, marker)) as stream:
            assert await _exactly(stream, 3) == b"up\n"
        await until_gone(marker)

    async def test_a_cancel_leaves_no_process(self, transport: Transport, target: Target) -> None:
        """A cancel in the body leaves no process here, and none of the command's."""
        marker, before = new_marker(), children()
        with anyio.fail_after(_LIMIT), anyio.CancelScope() as scope:
            argv = sh(UP, marker)
            async with transport.open(target, argv) as stream:
                assert await _exactly(stream, 3) == b"up\n"
                scope.cancel()
                await stream.receive()
        assert scope.cancelled_caught
        await until_gone(marker)
        assert children() <= before

    async def test_a_cancel_while_opening_leaves_no_process(
        self, transport: Transport, target: Target
    ) -> None:
        """Nor does a cancel while the stream is being opened."""
        marker, before = new_marker(), children()
        with anyio.fail_after(_LIMIT), anyio.CancelScope() as scope:
            scope.cancel()
            async with transport.open(target, sh("cat; exit 0", marker)) as stream:
                await stream.receive()
        assert scope.cancelled_caught
        await until_gone(marker)
        assert children() <= before

    async def test_leaving_a_command_that_ignores_its_stdin_ends_in_time(
        self, transport: Transport, target: Target
    ) -> None:
        """Leaving such a command ends within some seconds."""
        before = children()
        with anyio.fail_after(LEAVING):
            async with transport.open(target, sh("echo up; exec sleep 20")) as stream:
                assert await _exactly(stream, 3) == b"up\n"
        assert children() <= before

    async def test_leaving_while_nobody_reads_ends_in_time(
        self, transport: Transport, target: Target
    ) -> None:
        """Output that nobody reads does not hold up leaving."""
        before = children()
        with anyio.fail_after(_LIMIT):
            # Has an end, for tools that read on for a command whose caller has gone.
            argv = sh("head -c 200000000 /dev/zero")
            async with transport.open(target, argv) as stream:
                assert await stream.receive()
                leaving = anyio.current_time()
            assert anyio.current_time() - leaving < LEAVING
        assert children() <= before

    async def test_leaving_during_a_send_that_nobody_reads_ends_in_time(
        self, transport: Transport, target: Target
    ) -> None:
        """A `send` that waits for the command does not hold up leaving."""
        before = children()
        with anyio.fail_after(_LIMIT):
            async with transport.open(target, sh("echo up; exec sleep 20")) as stream:
                assert await _exactly(stream, 3) == b"up\n"
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(stream.send, bytes(100_000_000))
                    await anyio.wait_all_tasks_blocked()
                    tasks.cancel_scope.cancel()
                leaving = anyio.current_time()
            assert anyio.current_time() - leaving < LEAVING
        assert children() <= before


class TransportConformance(StreamConformance, LinkConformance):
    """All that a transport promises. A target without Python keeps `StreamConformance` alone."""


@asynccontextmanager
async def _opened(
    transport: Transport, target: Target, argv: Sequence[str]
) -> AsyncIterator[ByteStream]:
    with anyio.fail_after(_LIMIT):
        async with transport.open(target, argv) as stream:
            yield stream


async def _exactly(stream: ByteStream, size: int) -> bytes:
    got = bytearray()
    while len(got) < size and (data := await stream.receive(size - len(got))):
        got += data
    return bytes(got)


async def _to_the_end(stream: ByteStream) -> bytes:
    got = bytearray()
    while data := await stream.receive():
        got += data
    return bytes(got)
