"""What makes programs short: jobs of a block, lines, results as getters, maps, who is there."""

from __future__ import annotations

import gc
import getpass
import os
import platform
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

import remit
from remit._jobs import lines
from remit._jobs.lines import Cutter

pytestmark = pytest.mark.anyio


# -- results


async def test_text_is_what_was_printed() -> None:
    assert remit.CommandResult(0, "häuser\n".encode() + b"\xff", b"").text == "häuser\n\ufffd"


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_result_is_taken_once_and_remembered(
    session: remit.Session, placement: str
) -> None:
    job = await session.start("echo out", placement=placement)
    results: list[remit.CommandResult] = []

    async def ask() -> None:
        results.append(await job.result())

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(ask)
    await ask()
    assert [result.text for result in results] == ["out\n"] * 5
    assert not job.has_more_data
    function = await session.start(divmod, 7, 2, placement=placement)
    assert [await function.result(), await function.result()] == [(3, 1)] * 2


async def test_a_failure_is_told_each_time(session: remit.Session) -> None:
    job = await session.start("echo why >&2; exit 3")
    for _ in range(3):
        with pytest.raises(remit.JobFailed, match="status 3") as caught:
            await job.result()
        assert caught.value.stderr_tail == b"why\n"


# -- jobs of a block


async def test_a_block_may_remove_its_job_and_outlive_its_session() -> None:
    async with remit.connect("local:") as session:
        async with await session.start(["sleep", "1000"]) as job:
            await job.remove(force=True)
        other = await session.start(["sleep", "1000"])
    async with other:
        pass
    assert other.state.finished


async def test_handles_of_one_job_are_equal(session: remit.Session) -> None:
    job = await session.start(["true"], placement="keep")
    again = await session.job(job.id)
    other = await session.start(["true"], placement="keep")
    assert again is not job
    assert again == job
    assert {job, again, other} == {job, other}
    assert job != other
    assert job != job.id
    await again.wait()
    await job.wait()
    await job.remove()
    await other.wait()
    await other.remove()


# -- lines


@given(
    st.lists(st.text(alphabet="aä\r☃ ", max_size=6), max_size=12),
    st.booleans(),
    st.integers(1, 7),
)
def test_lines_survive_any_cutting_of_the_stream(wanted: list[str], ends: bool, step: int) -> None:
    data = "\n".join(wanted).encode() + (b"\n" if ends and wanted else b"")
    cutter, got = Cutter(), list[str]()
    for start in range(0, len(data), step):
        got += cutter.feed(data[start : start + step])
    got += cutter.end()
    if not ends and wanted and not wanted[-1]:
        wanted = wanted[:-1]  # a line that has nothing, nor an end, is none
    assert got == wanted


def test_a_line_without_an_end_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST", 4)
    cutter = Cutter()
    assert cutter.feed(b"abcdefghij") == ["abcd", "efgh"]
    assert cutter.feed(b"k\nl") == ["ijk"]
    assert cutter.end() == ["l"]


@given(st.text(alphabet="aä☃𝄞", max_size=40), st.integers(1, 7))
def test_parts_of_a_line_are_whole_characters(wanted: str, step: int) -> None:
    data, got = wanted.encode(), list[str]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "MOST", 4)
        cutter = Cutter()
        for start in range(0, len(data), step):
            got += cutter.feed(data[start : start + step])
    assert "".join([*got, *cutter.end()]) == wanted


def test_parts_of_what_is_no_text_lose_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MOST", 4)
    cutter = Cutter()
    got = [*cutter.feed(b"\x80" * 11), *cutter.end()]
    assert "".join(got) == "\ufffd" * 11


async def test_lines_of_one_stream(session: remit.Session) -> None:
    job = await session.start("echo one; echo other >&2; printf 'two\\nthree'")
    await job.wait()
    assert [line async for line in job.lines(keep=True)] == ["one", "two", "three"]
    assert [line async for line in job.lines("stderr", keep=True)] == ["other"]
    reader = job.lines()
    assert await anext(reader) == "one"
    await reader.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
    assert [line async for line in job.lines()] == ["one", "two", "three"]
    assert [line async for line in job.lines()] == []
    with pytest.raises(ValueError, match="stream"):
        job.lines("value")  # type: ignore[arg-type]


# -- many calls


def square(number: int) -> int:
    return number * number


def picky(number: int) -> int:
    if number == 3:
        raise KeyError(number)
    return number


def count(end: int) -> Iterator[int]:
    yield from range(end)


def note(directory: str, number: int) -> int:
    """How many were under way with it."""
    path = f"{directory}/{number}"
    with open(path, "w"):
        time.sleep(0.02)
        found = len(os.listdir(directory))
    os.unlink(path)
    return found


async def test_a_map_keeps_the_order(session: remit.Session) -> None:
    assert [value async for value in session.map(square, range(50))] == [n * n for n in range(50)]
    assert [value async for value in session.map(count, [1, 2])] == [[0], [0, 1]]
    assert [value async for value in session.map(square, [])] == []


def entered(path: str, number: int) -> None:
    with open(path, "a") as file:
        file.write(f"{number}\n")


async def test_the_calls_of_a_map_begin_in_order(tmp_path: Path) -> None:
    path = tmp_path / "begun"
    async with remit.connect("local:", workers=1) as session:
        for _ in range(3):  # the program is not there yet, and is
            values = session.map(partial(entered, str(path)), range(60), limit=20)
            assert [value async for value in values] == [None] * 60
            assert path.read_text().split() == [str(number) for number in range(60)]
            path.unlink()


async def test_one_of_a_map_that_cannot_be_sent_holds_up_none(session: remit.Session) -> None:
    items = [1, session, 2, session, 3]
    values = session.map(repr, items, limit=5, return_exceptions=True)
    got = [value async for value in values]
    assert got[::2] == ["1", "2", "3"]
    assert all(isinstance(value, remit.ShippingError) for value in got[1::2])


async def test_a_map_is_bounded(session: remit.Session, tmp_path: Path) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            taken.append(number)
            yield number

    values = session.map(partial(note, str(tmp_path)), items(), limit=3)
    assert taken == []
    got: list[int] = []
    async for value in values:
        got.append(value)
        assert len(taken) <= len(got) + 2
    assert len(got) == 20
    assert max(got) <= 3
    with pytest.raises(ValueError, match="limit"):
        session.map(square, [1], limit=0)


async def test_the_first_failure_cancels_the_rest(session: remit.Session) -> None:
    values = session.map(picky, range(1000), limit=4)
    assert [await anext(values) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(remit.JobFailed, match="KeyError: 3"):
        await anext(values)
    for _ in range(2):
        with pytest.raises(StopAsyncIteration):
            await anext(values)
    got = [value async for value in session.map(picky, range(6), return_exceptions=True)]
    assert [got[:3], got[4:]] == [[0, 1, 2], [4, 5]]
    assert isinstance(got[3], remit.JobFailed)


async def test_a_fault_of_the_items_is_raised(session: remit.Session) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        [value async for value in session.map(square, items(), limit=1)]


async def test_a_step_of_a_map_may_be_cancelled(session: remit.Session) -> None:
    values = session.map(partial(note, "/proc/self/cwd/nowhere"), [], limit=1)
    with pytest.raises(StopAsyncIteration):
        await anext(values)
    slow = session.map(sleep, [0.05] * 10, limit=2)
    got: list[float] = []
    while len(got) < 10:
        with anyio.move_on_after(0.01):
            got.append(await anext(slow))
    assert got == [0.05] * 10


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


async def mapped(values: AsyncIterator[float], how: str) -> None:
    if how == "closed":
        await values.aclose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["closed", "dropped"])
async def test_a_map_that_is_left_leaves_the_workers_free(how: str) -> None:
    async with remit.connect("local:", workers=1) as session:
        values = session.map(sleep, [0.0, 1000, 1000], limit=2)
        assert await anext(values) == 0.0
        await mapped(values, how)
        del values
        gc.collect()
        with anyio.fail_after(60):
            assert await session.call(square, 3) == 9


async def test_a_session_that_ends_under_a_map_tells_so() -> None:
    async with remit.connect("local:", workers=1) as session:
        values = session.map(sleep, [0.0, 1000, 1000], limit=2)
        assert await anext(values) == 0.0
    with pytest.raises(remit.SessionClosed):
        await anext(values)


def full(a: int, b: int = 0, *, c: int = 0) -> tuple[int, int, int]:
    return a, b, c


def failing(a: int, *, c: int) -> None:
    raise KeyError(a, c)


async def test_a_partial_is_no_new_program_each_time(session: remit.Session) -> None:
    assert await session.call(partial(full, 1), 2) == (1, 2, 0)
    assert await session.call(partial(full, 1, c=3), 2) == (1, 2, 3)
    assert await session.call(partial(partial(full, b=7), 1, c=1)) == (1, 7, 1)
    assert await session.call(partial(int, base=16), "ff") == 255
    (pool,) = session._connection.calls.values()
    known = set(pool._programs._known)
    for number in range(20):
        assert await session.call(partial(full, number, c=number), 2) == (number, 2, number)
        assert await session.call(partial(full, number)) == (number, 0, 0)
    assert set(pool._programs._known) == known
    with pytest.raises(
        remit.JobFailed, match=r"failing\(\) on localhost raised KeyError: \(1, 2\)"
    ):
        await session.call(partial(failing, 1, c=2))
    values = session.map(partial(full, c=9), range(3))
    assert [value async for value in values] == [(0, 0, 9), (1, 0, 9), (2, 0, 9)]


# -- variables that are removed


def variables() -> dict[str, str]:
    return dict(os.environ)


@pytest.mark.parametrize("placement", ["return", "keep"])
async def test_a_variable_is_removed(session: remit.Session, placement: str) -> None:
    env = {"HOME": None, "NO_SUCH_THING": None, "ADDED": "1", "TZ": None, "PYTHONPATH": None}
    done = await session.run(["env"], placement=placement, env=env)
    names = {line.partition("=")[0] for line in done.text.splitlines()}
    assert "ADDED" in names
    assert names.isdisjoint({"HOME", "NO_SUCH_THING", "TZ", "PYTHONPATH"})
    found = await session.run(variables, placement=placement, env=env)
    assert found["ADDED"] == "1"
    assert found.keys().isdisjoint({"HOME", "NO_SUCH_THING", "TZ"})
    with pytest.raises(TypeError, match="a name in env"):
        await session.run(["env"], env={None: "x"})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match=r"env\['A'\]"):
        await session.run(["env"], env={"A": 1})  # type: ignore[dict-item]


# -- who is there


async def test_a_session_tells_whom_it_reached(session: remit.Session) -> None:
    peer = session.peer
    assert peer is not None
    assert (peer.hostname, peer.user) == (platform.node(), getpass.getuser())
    assert peer.python == platform.python_version()
    assert peer.platform.startswith("Linux ")
    assert peer.state == os.environ["REMIT_STATE_DIR"]
    assert peer.version
