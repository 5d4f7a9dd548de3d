"""The conversation: what each end may say, and that nothing else is taken, whatever comes."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._wire.conversation import (
    AGENT,
    CALLER,
    MAX_PIECE,
    PIECE,
    Conversation,
    Event,
    Piece,
    ProtocolError,
    Pulse,
)
from remit._wire.frames import (
    ACCEPT,
    CLOSE,
    CREDIT,
    DATA,
    END,
    EVENT,
    GOODBYE,
    HELLO,
    MAX_PAYLOAD,
    PING,
    REFUSAL,
    REPLY,
    REQUEST,
    encode,
)

KINDS = [HELLO, REQUEST, REPLY, ACCEPT, REFUSAL, EVENT, DATA, CREDIT, END, CLOSE, PING, GOODBYE]


def piece(data: bytes, stream: int = 1, seq: int = 0, offset: int = 0) -> Piece:
    return Piece(stream, seq, offset, 1.5, data)


def all_of(conversation: Conversation, limit: int = 1 << 18) -> bytes:
    return b"".join(iter(lambda: conversation.data_to_send(limit), b""))


def met() -> tuple[Conversation, Conversation]:
    """A caller and an agent that have said hello."""
    caller, agent = Conversation(CALLER), Conversation(AGENT)
    caller.hello(b"c")
    agent.hello(b"a")
    assert agent.receive(all_of(caller)) == [Event(HELLO, 0, b"c")]
    assert caller.receive(all_of(agent)) == [Event(HELLO, 0, b"a")]
    return caller, agent


def accepted(credit: int) -> tuple[Conversation, Conversation]:
    """The same, with a channel 1 open on which the agent may send ``credit`` bytes."""
    caller, agent = met()
    assert caller.request(b"q", credit) == 1
    agent.receive(all_of(caller))
    agent.accept(1, b"yes")
    caller.receive(all_of(agent))
    return caller, agent


def talk(agent: Conversation) -> None:
    agent.accept(1, b"first")
    agent.event(1, b"news")
    agent.data(1, piece(b"some bytes"))
    agent.data(1, piece(b"more", seq=1, offset=10))
    agent.reply(2, b"second")
    agent.refuse(3, b"third")
    agent.ping()
    agent.grant(1, 7)
    agent.end(1, b"over")


@given(cuts=st.lists(st.integers(0, 400)))
def test_any_cutting_of_the_stream_gives_the_same_events(cuts: list[int]) -> None:
    caller, agent = met()
    for _ in range(3):
        caller.request(b"q", 100)
    agent.receive(all_of(caller))
    talk(agent)
    wire = all_of(agent)
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    events = [
        event
        for start, end in itertools.pairwise(edges)
        for event in caller.receive(wire[start:end])
    ]
    assert [(event.kind, event.channel) for event in events] == [
        (ACCEPT, 1),
        (EVENT, 1),
        (REPLY, 2),
        (REFUSAL, 3),
        (CREDIT, 1),
        (DATA, 1),
        (DATA, 1),
        (END, 1),
    ]
    assert events[5].body == piece(b"some bytes")
    assert events[4].body == 7
    assert caller.between_frames


@given(side=st.sampled_from([CALLER, AGENT]), data=st.binary(max_size=300))
def test_garbage_gives_a_protocol_error_and_nothing_else(side: str, data: bytes) -> None:
    conversation = Conversation(side)
    with contextlib.suppress(ProtocolError):
        conversation.receive(data)


@given(
    side=st.sampled_from([CALLER, AGENT]),
    said=st.lists(
        st.tuples(st.sampled_from([*KINDS, 77]), st.integers(0, 3), st.binary(max_size=40))
    ),
)
def test_well_formed_nonsense_gives_a_protocol_error_and_nothing_else(
    side: str, said: list[tuple[int, int, bytes]]
) -> None:
    conversation = accepted(50)[0 if side == CALLER else 1]
    with contextlib.suppress(ProtocolError):
        for frame in said:
            conversation.receive(encode(*frame))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ((HELLO, 0, b""), "second hello"),
        ((REQUEST, 2, b""), "the agent sent a request"),
        ((REPLY, 1, b""), "second reply"),
        ((CLOSE, 1, b""), "the agent sent a close"),
        ((CREDIT, 1, b"123"), "credit of 3 bytes"),
        ((CREDIT, 1, b"\xff" * 8), "credit of 18446744073709551615"),
        ((DATA, 1, b"short"), "data frame of 5 bytes"),
        ((DATA, 1, PIECE.pack(1, 0, 0, 0.0) + bytes(11)), "11 bytes on channel 1, where 10 were"),
        ((EVENT, 5, b""), "never opened"),
        ((EVENT, 0, b""), "never opened"),
        ((PING, 1, b""), "names channel 1"),
    ],
)
def test_what_an_agent_may_not_say(frame: tuple[int, int, bytes], words: str) -> None:
    caller, _ = accepted(10)
    with pytest.raises(ProtocolError, match=words):
        caller.receive(encode(*frame))


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ((REPLY, 1, b""), "the caller sent a reply"),
        ((REQUEST, 1, b""), "opened after"),
        ((REQUEST, 0, b""), "opened after"),
        ((DATA, 1, PIECE.pack(0, 0, 0, 0.0) + b"x"), "where 0 were allowed"),
    ],
)
def test_what_a_caller_may_not_say(frame: tuple[int, int, bytes], words: str) -> None:
    _, agent = accepted(10)
    with pytest.raises(ProtocolError, match=words):
        agent.receive(encode(*frame))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != HELLO])
def test_nothing_comes_before_the_hello(kind: int) -> None:
    with pytest.raises(ProtocolError, match="not a hello"):
        Conversation(CALLER).receive(encode(kind, 0, b""))


@pytest.mark.parametrize("kind", [EVENT, DATA, END])
def test_nothing_comes_before_the_answer(kind: int) -> None:
    caller, _ = met()
    caller.request(b"q", 100)
    with pytest.raises(ProtocolError, match="before the reply"):
        caller.receive(encode(kind, 1, bytes(PIECE.size)))


@pytest.mark.parametrize("kind", [DATA, END])
def test_nothing_follows_the_callers_end(kind: int) -> None:
    caller, agent = accepted(0)
    caller.end(1)
    agent.receive(all_of(caller))
    with pytest.raises(ProtocolError, match="after the end"):
        agent.receive(encode(kind, 1, bytes(PIECE.size)))


def test_nothing_follows_a_goodbye() -> None:
    caller, agent = met()
    agent.goodbye(b"bye")
    assert caller.receive(all_of(agent)) == [Event(GOODBYE, 0, b"bye")]
    assert caller.parted
    with pytest.raises(ProtocolError, match="after goodbye"):
        caller.receive(encode(PING, 0))


def test_what_is_queued_does_not_follow_our_goodbye() -> None:
    caller, agent = accepted(100)
    agent.data(1, piece(b"late"))
    agent.goodbye(b"bye")
    agent.ping()
    agent.event(1, b"later")
    assert caller.receive(all_of(agent)) == [Event(GOODBYE, 0, b"bye")]
    assert agent.queued == agent.queued_data == 0


def test_who_said_goodbye_still_hears_the_other_out() -> None:
    caller, agent = accepted(100)
    caller.goodbye(b"")
    agent.data(1, piece(b"last"))
    agent.end(1)
    assert [event.kind for event in caller.receive(all_of(agent))] == [DATA, END]


def test_kinds_of_a_later_version_are_skipped() -> None:
    caller, _ = accepted(10)
    assert caller.receive(encode(200, 9, b"?") + encode(EVENT, 1, b"x")) == [Event(EVENT, 1, b"x")]


def test_what_crosses_the_end_of_a_channel_is_dropped() -> None:
    caller, agent = accepted(10)
    caller.close(1)
    agent.event(1, b"crossing")
    agent.data(1, piece(b"bytes"))
    agent.end(1)
    assert caller.receive(all_of(agent)) == []
    assert agent.receive(all_of(caller)) == []


def test_a_closed_channel_takes_its_queue_with_it() -> None:
    caller, agent = accepted(100)
    agent.data(1, piece(b"bytes"))
    caller.close(1)
    assert agent.receive(all_of(caller)) == [Event(CLOSE, 1, b"")]
    assert agent.queued == 0
    agent.end(1)
    agent.event(1, b"late")
    assert agent.data_to_send() == b""


@given(grants=st.lists(st.integers(1, 50)), sizes=st.lists(st.integers(1, 30)))
def test_credit_is_never_overrun(grants: list[int], sizes: list[int]) -> None:
    caller, agent = accepted(0)
    for more in grants:
        caller.grant(1, more)
    agent.receive(all_of(caller))
    sent = 0
    for size in sizes:
        if size <= agent.credit(1):
            agent.data(1, piece(bytes(size)))
            sent += size
        else:
            with pytest.raises(ValueError, match="no credit"):
                agent.data(1, piece(bytes(size)))
    assert sent <= sum(grants)
    assert agent.credit(1) == sum(grants) - sent
    caller.receive(all_of(agent))  # which counts with it
    assert caller.granted(1) == agent.credit(1)


def test_a_piece_has_a_largest_size_whatever_the_credit() -> None:
    _, agent = accepted(1 << 40)
    with pytest.raises(ValueError, match="no credit"):
        agent.data(1, piece(bytes(MAX_PIECE + 1)))
    agent.data(1, piece(bytes(MAX_PIECE)))


def test_the_data_of_channels_goes_out_in_turn() -> None:
    caller, agent = met()
    for _ in range(3):
        caller.request(b"q", 1000)
    agent.receive(all_of(caller))
    for number in (1, 2, 3):
        agent.accept(number, b"")
    caller.receive(all_of(agent))
    for _ in range(4):
        agent.data(1, piece(bytes(200)))
    agent.data(2, piece(b"b"))
    agent.data(3, piece(b"c"))
    order = [event.channel for event in caller.receive(all_of(agent, limit=1))]
    assert order == [1, 2, 3, 1, 1, 1]


def test_control_goes_out_before_data_that_was_queued_earlier() -> None:
    caller, agent = accepted(1 << 20)
    for _ in range(3):
        agent.data(1, piece(bytes(1000)))
    agent.ping()
    agent.event(1, b"news")
    assert [event.kind for event in caller.receive(all_of(agent))] == [EVENT, DATA, DATA, DATA]


def test_the_end_comes_after_all_data_and_ends_the_channel() -> None:
    caller, agent = accepted(100)
    agent.data(1, piece(b"bytes"))
    agent.end(1, b"over")
    agent.end(1, b"twice")
    assert agent.credit(1) == 0
    assert [event.kind for event in caller.receive(all_of(agent))] == [DATA, END]
    assert caller.granted(1) == 0
    caller.grant(1, 5)
    assert caller.data_to_send() == b""


def test_what_goes_out_is_cut_between_frames_near_the_limit() -> None:
    _, agent = accepted(1 << 20)
    for _ in range(10):
        agent.data(1, piece(bytes(1000)))
    sizes = [len(part) for part in iter(lambda: agent.data_to_send(3000), b"")]
    assert sum(sizes) == 10 * (1000 + PIECE.size + 9)
    assert all(size <= 3000 + 1034 for size in sizes)


@pytest.mark.parametrize(
    "say",
    [
        lambda agent: agent.reply(9, b""),
        lambda agent: agent.accept(9, b""),
        lambda agent: agent.refuse(9, b""),
        lambda agent: agent.event(9, b""),
        lambda agent: agent.grant(9, 1),
        lambda agent: agent.end(9, b""),
        lambda agent: agent.close(9),
    ],
)
def test_saying_something_on_a_channel_that_is_over_is_quiet(
    say: Callable[[Conversation], None],
) -> None:
    _, agent = met()
    say(agent)
    assert agent.data_to_send() == b""


def test_a_frame_that_is_too_large_spoils_the_link() -> None:
    caller, _ = met()
    header = encode(EVENT, 1)[:5] + (MAX_PAYLOAD + 1).to_bytes(4, "big")
    with pytest.raises(ProtocolError, match="was announced"):
        caller.receive(header)


class TestPulse:
    def test_something_is_due_three_times_a_silence(self) -> None:
        pulse = Pulse(15.0, now=100.0)
        assert not pulse.due(104.9)
        assert pulse.due(105.0)
        pulse.said(105.0)
        assert not pulse.due(109.9)
        assert pulse.due(110.0)

    def test_any_byte_keeps_the_peer_alive(self) -> None:
        pulse = Pulse(15.0, now=100.0)
        assert not pulse.dead(114.9)
        assert pulse.dead(115.0)
        pulse.heard(114.0)
        assert not pulse.dead(128.9)
        assert pulse.dead(129.0)

    def test_the_next_look_is_at_the_first_of_both(self) -> None:
        pulse = Pulse(15.0, now=100.0)
        assert pulse.next_look(100.0) == 5.0
        pulse.said(112.0)
        assert pulse.next_look(112.0) == 3.0
        assert pulse.next_look(200.0) == 0.0

    @given(
        now=st.floats(0, 1e9),
        silence=st.floats(1e-3, 1e5),
        steps=st.lists(st.sampled_from(["said", "heard", "look"]), max_size=20),
    )
    def test_who_sleeps_until_the_next_look_finds_something_then(
        self, now: float, silence: float, steps: list[str]
    ) -> None:
        """Whatever becomes of a time that is added up: a clock that jumps stands in between."""
        pulse = Pulse(silence, now)
        for step in steps:
            if step == "look":
                for _ in range(3):
                    now += pulse.next_look(now)
                assert pulse.due(now) or pulse.dead(now)
            elif step == "said":
                pulse.said(now)
            else:
                pulse.heard(now)
