"""Calls in pieces and packets: however they are cut, what was sent is what comes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._wire import calls
from remit._wire.calls import Gathering, Malformed, Whole

bodies = st.binary(max_size=60)
KINDS = [calls.PROGRAM, calls.CALL]


def cut(body: bytes, edges: list[int]) -> list[tuple[int, bytes]]:
    """As it goes: offset and data of each piece; the first holds the size."""
    whole = calls.sized(body)
    places = sorted({0, len(whole), *(8 + edge for edge in edges if 8 + edge < len(whole))})
    return [(a, whole[a:b]) for a, b in pairwise(places)]


@given(
    st.dictionaries(
        st.tuples(st.sampled_from(KINDS), st.integers(1, 3)),
        st.tuples(bodies, st.lists(st.integers(0, 60), max_size=4)),
    ),
    st.randoms(use_true_random=False),
)
def test_what_a_caller_sends_comes_whole_however_it_is_cut_and_mixed(
    sent: dict[tuple[int, int], tuple[bytes, list[int]]], order: Any
) -> None:
    queues = {key: cut(body, edges) for key, (body, edges) in sent.items()}
    gathering, got = Gathering(), dict[tuple[int, int], bytes]()
    while queues:
        key = kind, number = order.choice(sorted(queues))
        offset, data = queues[key].pop(0)
        whole = gathering.take(kind, number, offset, data)
        if not queues[key]:
            del queues[key]
            assert whole is not None
            got[key] = bytes(whole)
        else:
            assert whole is None
    assert got == {key: body for key, (body, _) in sent.items()}
    assert not any(gathering.drop(*key) for key in sent)


@given(bodies, st.lists(st.integers(0, 60), max_size=4))
def test_an_answer_is_the_same_however_it_is_cut(body: bytes, edges: list[int]) -> None:
    (_, first), *others = cut(body, edges)
    whole = Whole(calls.VALUE, first, 60)
    for offset, data in others:
        assert not whole.is_whole
        whole.add(offset - 8, data)
    assert whole.is_whole
    assert bytes(whole.data) == body


@given(
    st.lists(
        st.tuples(
            st.sampled_from([*KINDS, 9]),
            st.integers(1, 2),
            st.sampled_from([0, 8, 9, 12, 1 << 40]),
            st.binary(max_size=6)
            | st.builds(
                lambda size, rest: calls.TOTAL.pack(size) + rest, st.integers(0, 9), bodies
            ),
        ),
        max_size=8,
    )
)
def test_any_pieces_are_taken_or_refused_and_hold_no_more_than_they_said(
    pieces: list[tuple[int, int, int, bytes]],
) -> None:
    gathering = Gathering()
    for kind, number, offset, data in pieces:
        try:
            whole = gathering.take(kind, number, offset, data)
        except Malformed as exc:
            problem = str(exc)
        else:
            assert whole is None or len(whole) <= 9
            continue
        assert problem.startswith(f"{number} of kind {kind} ")
        return


@pytest.mark.parametrize(
    ("first", "more", "words"),
    [
        (b"short", None, "begins without its size"),
        (calls.TOTAL.pack(61), None, "has 61 bytes"),
        (calls.TOTAL.pack(1) + b"xx", None, "is larger than it said"),
        (calls.TOTAL.pack(3) + b"xx", (1, b"x"), "goes on at 1"),
        (calls.TOTAL.pack(3) + b"xx", (2, b"xx"), "is larger than it said"),
        (calls.TOTAL.pack(2) + b"xx", (2, b"x"), "goes on at 2"),
    ],
)
def test_what_is_wrong_is_named(first: bytes, more: tuple[int, bytes] | None, words: str) -> None:
    def take() -> None:
        whole = Whole(calls.VALUE, first, 60)
        if more is not None:
            whole.add(*more)

    with pytest.raises(Malformed, match=words):
        take()


def test_what_was_given_up_may_begin_anew() -> None:
    gathering, first = Gathering(), calls.TOTAL.pack(9) + b"x"
    assert gathering.take(calls.PROGRAM, 1, 0, first) is None
    with pytest.raises(Malformed, match="1 of kind 1 begins twice"):
        gathering.take(calls.PROGRAM, 1, 0, first)
    assert gathering.drop(calls.PROGRAM, 1)
    assert gathering.take(calls.PROGRAM, 1, 0, first) is None


large = st.integers(0, 3 * calls.PACKET).map(lambda size: b"ab" * (size // 2))


@given(st.lists(bodies | large, max_size=3), st.sampled_from([1, 3]), st.integers(0, 1 << 63))
def test_packets_hold_all_and_are_no_larger_than_may_be(
    parts: list[bytes], kind: int, number: int
) -> None:
    got = b""
    for packet in calls.packets(kind, number, parts):
        data = b"".join(packet)
        assert len(data) <= calls.HEAD.size + calls.PACKET
        assert calls.HEAD.unpack_from(data) == (kind, number, sum(map(len, parts)))
        got += data[calls.HEAD.size :]
    assert got == b"".join(parts)
