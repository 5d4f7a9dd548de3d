"""What a function says, as a stream of records: however it is cut, and whatever it holds."""

from __future__ import annotations

import os
import signal
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._wire.records import (
    DONE,
    FAILURE,
    HEAD,
    ITEM,
    LAST,
    LOG,
    MAX_SUMMARY,
    PICKLED,
    PROGRESS,
    RESULT,
    WARNING,
    Malformed,
    Said,
    Splitter,
    Spotter,
)
from remit._worker.outlet import Outlet

KINDS = [ITEM, LOG, WARNING, PROGRESS, ITEM | PICKLED]
ENDS = [RESULT, FAILURE, DONE, RESULT | PICKLED]
LARGE = 70_000  # more than is copied


def records(kinds: list[int]) -> st.SearchStrategy[tuple[int, int, float, bytes]]:
    return st.tuples(
        st.sampled_from(kinds),
        st.integers(0, 2**64 - 1),
        st.floats(allow_nan=False),
        st.binary(max_size=60) | st.binary(min_size=1, max_size=3).map(lambda few: few * LARGE),
    )


streams = st.builds(
    lambda said, end: said + end,
    st.lists(records(KINDS), max_size=5),
    st.lists(records(ENDS), max_size=1),
)
cuts = st.lists(st.integers(0, 1 << 18), max_size=12)


def packed(said: list[tuple[int, int, float, bytes]]) -> bytes:
    return b"".join(HEAD.pack(*one[:3], len(one[3])) + one[3] for one in said)


def pieces(stream: bytes, at: list[int]) -> list[bytes]:
    ends = [*sorted(min(cut, len(stream)) for cut in at), len(stream)]
    return [stream[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def found(splitter: Splitter, fed: list[bytes]) -> list[Said]:
    return [said for piece in fed for said in splitter.feed(piece)]


@given(said=streams, at=cuts, begin=st.integers(0, 2**62))
def test_records_survive_any_cutting_of_the_stream(
    said: list[tuple[int, int, float, bytes]], at: list[int], begin: int
) -> None:
    splitter = Splitter(begin)
    got = found(splitter, pieces(packed(said), at))
    assert [(one.kind, one.number, one.time, bytes(one.body)) for one in got] == said
    assert splitter.gathered == 0
    ends = [one.end for one in got]
    assert [one.at for one in got] == [begin, *ends][: len(got)]
    assert [one.end - one.at for one in got] == [HEAD.size + len(one.body) for one in got]


@given(said=streams, step=st.integers(1, 40))
def test_byte_by_byte_is_the_same(said: list[tuple[int, int, float, bytes]], step: int) -> None:
    stream = packed([(*one[:3], one[3][:100]) for one in said])
    got = found(Splitter(0), [stream[at : at + step] for at in range(0, len(stream), step)])
    assert [bytes(one.body) for one in got] == [one[3][:100] for one in said]


@given(said=streams, at=cuts, left_out=st.integers(0, 200))
def test_the_spotter_sees_the_same_end_as_the_splitter(
    said: list[tuple[int, int, float, bytes]], at: list[int], left_out: int
) -> None:
    """Also where the stream ends in the middle of a record."""
    stream = packed(said)
    stream = stream[: max(0, len(stream) - left_out)]
    splitter, spotter = Splitter(0), Spotter()
    got = found(splitter, pieces(stream, at))
    for piece in pieces(stream, at):
        spotter.feed(piece)
    whole = bool(got) and got[-1].end == len(stream)
    ended = whole and got[-1].kind & ~PICKLED in LAST
    assert spotter.last == (got[-1].at if ended else None)
    if ended and got[-1].kind == FAILURE:
        summary = bytes(got[-1].body[: MAX_SUMMARY + 1]).partition(b"\0")[0]
        assert spotter.summary is not None
        assert spotter.summary.startswith(summary.decode("utf-8", "replace")[:MAX_SUMMARY])


@given(noise=st.binary(max_size=400), at=cuts)
def test_noise_is_malformed_or_waited_for(noise: bytes, at: list[int]) -> None:
    spotter = Spotter()
    for piece in pieces(noise, at):
        spotter.feed(piece)
    splitter = Splitter(0)
    try:
        got = found(splitter, pieces(noise, at))
    except Malformed:
        return
    told = sum(HEAD.size + len(one.body) for one in got)
    assert told <= len(noise)
    assert splitter.gathered <= len(noise) - told


@pytest.mark.parametrize("kind", [0, 8, 99, PICKLED, PICKLED | LOG, PICKLED | DONE, 0xFF])
def test_a_kind_that_there_is_not_is_malformed(kind: int) -> None:
    with pytest.raises(Malformed, match=f"a record of kind {kind}"):
        Splitter(0).feed(HEAD.pack(kind, 0, 0.0, 0))


@pytest.mark.parametrize("end", ENDS)
def test_nothing_comes_after_the_last(end: int) -> None:
    splitter = Splitter(0)
    splitter.feed(HEAD.pack(end, 0, 0.0, 0))
    with pytest.raises(Malformed, match="a record after the last"):
        splitter.feed(HEAD.pack(LOG, 0, 0.0, 0))


@pytest.mark.parametrize("size", [(1 << 32) + 1, 1 << 60, 2**64 - 1])
def test_what_is_larger_than_any_value_is_malformed(size: int) -> None:
    with pytest.raises(Malformed, match=f"a record of {size} bytes"):
        Splitter(0).feed(HEAD.pack(ITEM, 0, 0.0, size))


@pytest.mark.parametrize("kind", [FAILURE, RESULT | PICKLED])
def test_nothing_is_made_ready_for_a_size_that_is_only_claimed(kind: int) -> None:
    size = (1 << 32) if kind == FAILURE else 1 << 60
    for reader in (Splitter(0), Spotter()):
        feed: Any = reader.feed
        tracemalloc.start()
        try:
            for data in (HEAD.pack(kind, 0, 0.0, size), b"x" * 1000, b"x" * 1000):
                assert not feed(data)
            assert tracemalloc.get_traced_memory()[1] < 100_000
        finally:
            tracemalloc.stop()


def test_a_spotter_keeps_little_of_what_it_walks_over() -> None:
    spotter = Spotter()
    piece = b"x" * (1 << 20)
    tracemalloc.start()
    try:
        spotter.feed(HEAD.pack(FAILURE, 0, 0.0, 64 << 20))
        for _ in range(64):
            spotter.feed(piece)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert spotter.last == 0
    assert spotter.summary == "x" * (MAX_SUMMARY + 1)


def test_a_large_body_is_gathered_without_a_copy_of_the_whole() -> None:
    size = 32 << 20
    splitter = Splitter(0)
    piece = b"x" * (1 << 18)
    tracemalloc.start()
    try:
        got = splitter.feed(HEAD.pack(RESULT, 0, 0.0, size))
        for _ in range(size // len(piece)):
            got += splitter.feed(piece)
        assert len(got[0].body) == size
        assert tracemalloc.get_traced_memory()[1] < 1.3 * size
    finally:
        tracemalloc.stop()


def outcome(reason: str = "exited", exit_status: int | None = 0) -> dict[str, Any]:
    return {"reason": reason, "exit_status": exit_status, "error": None}


def test_the_judge_tells_how_it_ended() -> None:
    spotter = Spotter()
    assert spotter.judge(outcome())["reason"] == "no-result"
    assert spotter.judge(outcome("stopped", 1))["reason"] == "stopped"
    item = HEAD.pack(ITEM, 0, 0.0, 3) + b"abc"
    spotter.feed(item)
    assert spotter.judge(outcome())["result_at"] is None
    spotter.feed(HEAD.pack(DONE, 0, 0.0, 0))
    judged = spotter.judge(outcome())
    assert (judged["reason"], judged["result_at"]) == ("exited", len(item))


class _Stopped(BaseException):
    pass


@pytest.mark.parametrize(("size", "follows"), [(100, True), (200_000, False)])
def test_nothing_is_said_in_the_middle_of_an_interrupted_record(size: int, follows: bool) -> None:
    """A stop, while the pipe is full since nobody reads."""

    def stop(signum: int, frame: object) -> None:
        raise _Stopped

    def say_items() -> None:
        while True:
            out.item(bytes(size))

    reading, writing = os.pipe()
    out = Outlet(writing, trust=False)
    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(_Stopped):
            say_items()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    with open(reading, "rb", buffering=0) as file:
        first = file.read(1 << 20)
        out.failure("stopped", [])
        os.close(writing)
        rest = file.read()
    splitter = Splitter(0)
    splitter.feed(first)
    assert [one.kind for one in splitter.feed(rest)] == [FAILURE] * follows
    assert bool(rest) is follows
