"""`remit.open_pump`: a connection that a task reads, as a byte stream."""

from collections.abc import Awaitable, Callable

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import remit
from remit.abc import HasFileno

pytestmark = pytest.mark.anyio


async def swallow(data: bytes) -> None: ...


def saying(*pieces: bytes, end: int | Exception | None = 0) -> Callable[..., Awaitable[int | None]]:
    async def pump(into: remit.Pumped) -> int | None:
        for piece in pieces:
            await into.stdout(piece)
        if isinstance(end, Exception):
            raise end
        return end

    return pump


@given(
    pieces=st.lists(st.binary(max_size=9) | st.builds(bytes, st.integers(0, 600_000)), max_size=6),
    sizes=st.lists(st.integers(1, 300_000), min_size=1, max_size=4),
)
@settings(max_examples=40, deadline=None)
def test_what_is_pumped_comes_whole_however_it_is_cut(
    pieces: list[bytes], sizes: list[int]
) -> None:
    async def main() -> bytes:
        got = b""
        async with remit.open_pump(saying(*pieces, end=3), swallow) as stream:
            turn = 0
            while data := await stream.receive(sizes[turn % len(sizes)]):
                assert len(data) <= sizes[turn % len(sizes)]
                got, turn = got + data, turn + 1
            assert (await stream.wait()).exit_status == 3
        return got

    for backend in ("asyncio", "trio"):
        assert anyio.run(main, backend=backend) == b"".join(pieces)


async def test_a_reader_that_does_not_come_holds_the_connection_up() -> None:
    taken = 0

    async def pump(into: remit.Pumped) -> None:
        nonlocal taken
        while True:
            await into.stdout(bytes(10_000))
            taken += 10_000

    async with remit.open_pump(pump, swallow) as stream:
        await anyio.wait_all_tasks_blocked()
        assert 0 < taken < 1_000_000
        before = taken
        await stream.receive()
        await anyio.wait_all_tasks_blocked()
        assert taken > before


@pytest.mark.parametrize("error", [ConnectionResetError("gone"), LookupError("a bug")])
async def test_what_the_pump_raises_comes_after_what_came_before(error: Exception) -> None:
    async with remit.open_pump(saying(b"last", b" words", end=error), swallow) as stream:
        assert (await stream.wait()).exit_status is None
        assert await stream.receive() == b"last words"
        for _ in range(2):
            with pytest.raises(type(error), match=str(error)):
                await stream.receive()
        with pytest.raises(BrokenPipeError):
            await stream.send(b"late")


async def test_stdout_may_end_before_the_command() -> None:
    release = anyio.Event()

    async def pump(into: remit.Pumped) -> int:
        into.end_of_stdout()
        await release.wait()
        into.stderr(b"x" * 10_000 + b"the end")
        return 4

    sent = []

    async def send(data: bytes) -> None:
        sent.append(data)

    async with remit.open_pump(pump, send) as stream:
        assert await stream.receive() == b""
        await stream.send(b"still read")
        release.set()
        end = await stream.wait()
        assert (end.exit_status, len(end.stderr), end.stderr[-7:]) == (4, 8192, b"the end")
        assert stream.stderr_tail == end.stderr
    assert sent == [b"still read"]


async def test_the_end_of_the_command_ends_a_send_that_nobody_reads() -> None:
    release = anyio.Event()

    async def pump(into: remit.Pumped) -> int:
        await release.wait()
        return 0

    async def send(data: bytes) -> None:
        release.set()
        await anyio.sleep_forever()

    async with remit.open_pump(pump, send) as stream:
        with anyio.fail_after(60), pytest.raises(BrokenPipeError, match="has ended"):
            await stream.send(b"x")


@pytest.mark.parametrize(
    "error",
    [anyio.BrokenResourceError(), anyio.ClosedResourceError(), ConnectionResetError(), EOFError()],
)
async def test_a_send_that_fails_is_a_broken_pipe(error: Exception) -> None:
    async def send(data: bytes) -> None:
        raise error

    async with remit.open_pump(lambda into: anyio.sleep_forever(), send) as stream:
        with pytest.raises(BrokenPipeError):
            await stream.send(b"x")


async def test_leaving_ends_the_pump_and_raises_what_the_body_raised() -> None:
    over = []

    async def pump(into: remit.Pumped) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            over.append(True)

    async def use(error: Exception) -> None:
        async with remit.open_pump(pump, swallow):
            await anyio.wait_all_tasks_blocked()
            raise error

    error = LookupError("the body's own")
    with pytest.raises(LookupError) as caught:
        await use(error)
    assert caught.value is error
    with anyio.CancelScope() as scope:
        async with remit.open_pump(pump, swallow) as stream:
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            await stream.receive()
    assert scope.cancelled_caught
    assert over == [True, True]


async def test_only_a_connection_with_a_descriptor_has_one() -> None:
    async with remit.open_pump(saying(), swallow) as without:
        assert not isinstance(without, HasFileno)
    async with remit.open_pump(saying(), swallow, fileno=7) as stream:
        assert isinstance(stream, HasFileno)
        assert stream.fileno() == 7
