"""A channel as its opener holds it: credit, its end, and what becomes of one that is let go."""

from __future__ import annotations

import gc
import random
from collections import Counter

import anyio
import pytest
from anyio.lowlevel import checkpoint

import remit
from remit._errors import LocalProtocolError, RemitError
from remit._link.channel import Channel, Parcel
from remit._link.listener import Listener
from remit._wire import frames
from remit._wire.conversation import Event, Piece, Pulse
from testbed.fake_link import FakeLink

from .fake_agent import pack

pytestmark = pytest.mark.anyio

WINDOW = 1 << 16


class Noting(Listener):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def accepted(self, body: bytes) -> None:
        self.told.append("accepted")

    def data(self, piece: Piece) -> None:
        self.told.append(piece.data)

    def event(self, name: str, arguments: bytes) -> None:
        self.told.append(name)

    def ended(self, body: bytes) -> None:
        self.told.append("ended")

    def refused(self, error: RemitError) -> None:
        self.told.append(error)

    lost = refused


def opened(link: FakeLink, credit: int = 0, window: int = 0) -> tuple[Channel, Noting]:
    """One that the agent has accepted, and on which it takes ``credit`` bytes."""
    listener = Noting()
    channel = link.open("anything", {}, listener, window)
    link.exchange()
    link.agent.accept(channel.number, pack({}))
    link.agent.grant(channel.number, credit)
    link.exchange()
    assert listener.told.pop() == "accepted"
    return channel, listener


def data(events: list[Event]) -> list[Piece]:
    return [event.body for event in events if event.kind == frames.DATA]


# -- sending


async def test_what_is_sent_goes_as_far_as_there_is_credit_and_on_once_there_is_more() -> None:
    link = FakeLink()
    channel, _ = opened(link, credit=100)
    whole = random.Random(1).randbytes(250)
    got: list[Piece] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send, Parcel(whole))
        await anyio.wait_all_tasks_blocked()
        got += data(link.exchange())
        assert b"".join(piece.data for piece in got) == whole[:100]
        link.agent.grant(channel.number, 120)
        link.exchange()
        await anyio.wait_all_tasks_blocked()
        link.agent.grant(channel.number, 1000)
        got += data(link.exchange())
    got += data(link.exchange())
    assert b"".join(piece.data for piece in got) == whole
    assert [piece.offset for piece in got] == [0, 100, 220]
    assert channel.pieces == 3


async def test_a_stream_goes_on_where_it_was_and_what_has_a_number_begins_anew() -> None:
    link = FakeLink()
    channel, _ = opened(link, credit=1000)
    for parcel in (
        *(Parcel(b"abc"), Parcel(b"", 7), Parcel(b"de"), Parcel(b"task", 7), Parcel(b"f")),
        *(Parcel(b"call", 3, 1), Parcel(b"call", 3, 2)),
    ):
        await channel.send(parcel)
    got = [(one.stream, one.seq, one.offset, one.data) for one in data(link.exchange())]
    streams = [(0, 0, 0, b"abc"), (0, 0, 3, b"de"), (7, 0, 0, b"task"), (0, 0, 5, b"f")]
    assert got == [*streams, (3, 1, 0, b"call"), (3, 2, 0, b"call")]


@pytest.mark.parametrize("credit", [0, 7])
async def test_the_first_piece_holds_what_it_has_to(credit: int) -> None:
    link = FakeLink()
    channel, _ = opened(link, credit=credit)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(channel.send, Parcel(b"12345678 and more", first=8))
        await anyio.wait_all_tasks_blocked()
        assert data(link.exchange()) == []
        link.agent.grant(channel.number, 8 - credit)
        link.exchange()
        await anyio.wait_all_tasks_blocked()
        assert [piece.data for piece in data(link.exchange())] == [b"12345678"]
        link.agent.grant(channel.number, 100)
        link.exchange()


async def test_no_piece_is_so_large_that_others_wait_long() -> None:
    link = FakeLink()
    channel, _ = opened(link, credit=1 << 20)
    other, _ = opened(link, credit=1 << 20)
    for one in (channel, other):
        await one.send(Parcel(bytes(200_000)))
    events = [event for event in link.exchange() if event.kind == frames.DATA]
    assert max(len(event.body.data) for event in events) == 1 << 16
    assert [event.channel for event in events] == [channel.number, other.number] * 4


async def test_a_cancelled_send_says_how_much_went() -> None:
    link = FakeLink()
    channel, _ = opened(link, credit=10)
    parcel = Parcel(b"x" * 100)
    with anyio.move_on_after(0):
        await channel.send(parcel)
    assert (parcel.sent, parcel.left) == (10, 90)


# -- its end


async def _refuse(link: FakeLink, channel: Channel) -> None:
    link.agent.end(channel.number, pack({"error": {"code": "disk", "message": "it is full"}}))
    link.exchange()


async def _end(link: FakeLink, channel: Channel) -> None:
    link.agent.end(channel.number, pack({}))
    link.exchange()


async def _close(link: FakeLink, channel: Channel) -> None:
    channel.close()


async def _send_the_end(link: FakeLink, channel: Channel) -> None:
    channel.end()


async def _shut(link: FakeLink, channel: Channel) -> None:
    channel.shut(remit.JobStateError("it reads no more"))


async def _lose(link: FakeLink, channel: Channel) -> None:
    link.lose(remit.LinkLost("the link to fake: was lost"))


async def _raise(link: FakeLink, channel: Channel) -> None:
    link.agent.data(channel.number, Piece(1, 0, 0, 0.0, b"raise"))
    link.exchange()


ENDS = [
    (_refuse, RemitError, "it is full"),
    (_end, LocalProtocolError, "is over"),
    (_close, LocalProtocolError, "is over"),
    (_send_the_end, LocalProtocolError, "the end of channel 1 was sent"),
    (_shut, remit.JobStateError, "it reads no more"),
    (_lose, remit.LinkLost, "the link to fake: was lost"),
    (_raise, LocalProtocolError, "a bug of remit: LookupError: not today"),
]


class Raising(Noting):
    def data(self, piece: Piece) -> None:
        raise LookupError("not today")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(("how", "kind", "words"), ENDS)
async def test_who_sends_is_told_the_channels_own_end(
    how: object, kind: type[RemitError], words: str, late: bool
) -> None:
    """Waiting for room, or not yet; whoever it is that ended it."""
    link = FakeLink()
    listener = Raising()
    channel = link.open("anything", {}, listener, WINDOW)
    link.exchange()
    link.agent.accept(channel.number, pack({}))
    link.exchange()
    told = []

    async def send() -> None:
        with pytest.raises(kind, match=words) as caught:
            await channel.send(Parcel(b"something"))
        told.append(caught.value)

    async with anyio.create_task_group() as tasks:
        for _ in range(0 if late else 3):
            tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        await how(link, channel)  # type: ignore[operator]
    await send()
    assert len(told) == (1 if late else 4)
    assert len(set(map(id, told))) == len(told), "each has a traceback of its own"


async def test_what_was_shut_stays_so_with_its_own_words() -> None:
    link = FakeLink()
    channel, _ = opened(link, credit=100)
    channel.shut(remit.JobStateError("it reads no more"))
    await _end(link, channel)
    with pytest.raises(remit.JobStateError, match="it reads no more"):
        await channel.room()


async def test_of_a_closed_channel_nothing_more_is_told() -> None:
    """Also not what had come before, and was read at once with what it was closed for."""
    link = FakeLink()

    class Closing(Noting):
        def event(self, name: str, arguments: bytes) -> None:
            super().event(name, arguments)
            channel.close()

    listener = Closing()
    channel = link.open("anything", {}, listener, WINDOW)
    link.exchange()
    link.agent.accept(channel.number, pack({}))
    link.agent.event(channel.number, pack(["enough", {}]))
    link.agent.data(channel.number, Piece(1, 0, 0, 0.0, b"more"))
    link.agent.end(channel.number, pack({}))
    link.exchange()
    assert listener.told == ["accepted", "enough"]
    assert not len(link.channels)
    for act in (channel.close, channel.end, channel.flush, lambda: channel.event("x")):
        act()
    channel.grant(10)
    channel.consumed(1 << 20)
    assert channel.granted == 0
    assert [event.kind for event in link.exchange()] in ([], [frames.CLOSE])


async def test_an_unsound_agent_is_the_links_trouble_and_the_channel_learns_of_it() -> None:
    link = FakeLink()

    class Refusing(Noting):
        def data(self, piece: Piece) -> None:
            raise remit.RemoteProtocolError("that is no data")

    listener = Refusing()
    channel = link.open("anything", {}, listener, WINDOW)
    link.exchange()
    link.agent.accept(channel.number, pack({}))
    link.agent.data(channel.number, Piece(1, 0, 0, 0.0, b"x"))
    with pytest.raises(remit.RemoteProtocolError, match="no data"):
        link.exchange()
    assert not channel.is_over
    link.lose(remit.LinkLost("cut"))
    assert str(listener.told[-1]) == "cut"
    with pytest.raises(remit.LinkLost, match="cut"):
        link.open("anything", {}, listener)


# -- whose it is


async def test_who_lets_go_of_a_channel_has_closed_it() -> None:
    link = FakeLink()
    channel, listener = opened(link)
    number = channel.number
    del channel
    gc.collect()
    assert not len(link.channels)
    assert link.exchange() == [], "a finalizer runs anywhere, and says nothing itself"
    other, _ = opened(link)
    link.channels.sweep()
    assert not link.agent.is_open(number)
    assert link.agent.is_open(other.number)
    assert listener.told == []


async def test_a_channel_holds_nobody_who_listens() -> None:
    link = FakeLink()
    channel, listener = opened(link)
    del listener
    gc.collect()
    link.agent.event(channel.number, pack(["news", {}]))
    link.agent.end(channel.number, pack({}))
    link.exchange()
    assert channel.is_over


# -- what is consumed


async def test_what_was_consumed_is_granted_again_in_portions() -> None:
    link = FakeLink()
    channel, listener = opened(link, window=WINDOW)
    frames_said: Counter[int] = Counter()
    sent = 0
    while sent < 50 * WINDOW:
        while link.agent.credit(channel.number):
            size = min(1000, link.agent.credit(channel.number))
            link.agent.data(channel.number, Piece(1, 0, sent, 0.0, bytes(size)))
            sent += size
        link.exchange()
        assert listener.told, "the agent has no credit, and nothing is on its way"
        for piece in listener.told:
            assert isinstance(piece, bytes)
            channel.consumed(len(piece))
            assert channel.granted <= WINDOW
        listener.told.clear()
        frames_said.update(event.kind for event in link.exchange())
    assert frames_said[frames.CREDIT] <= 50 * 5


# -- a link that takes nothing


class Stuck:
    """A stream that takes what it is sent once it is let."""

    stderr_tail = b""

    def __init__(self) -> None:
        self.let = anyio.Event()

    async def send(self, data: bytes) -> None:
        await self.let.wait()


async def test_who_waits_for_a_congested_link_is_told_of_the_channels_end_all_the_same() -> None:
    stream = Stuck()
    link = FakeLink(stream)
    channel, _ = opened(link, credit=8 << 20)
    other, _ = opened(link, credit=8 << 20)
    parcel = Parcel(bytes(4 << 20))
    ended = anyio.Event()

    async def send() -> None:
        with pytest.raises(remit.JobStateError, match="it reads no more"):
            await channel.send(Parcel(b"x"))
        ended.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link._outgoing.write, b"first", Pulse(15.0, anyio.current_time()))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(other.send, parcel)
        try:
            await anyio.wait_all_tasks_blocked()
            assert 1 << 20 <= parcel.sent < 2 << 20
            tasks.start_soon(send)
            await anyio.wait_all_tasks_blocked()
            channel.shut(remit.JobStateError("it reads no more"))
            await ended.wait()
            assert parcel.left
        finally:
            stream.let.set()
        while parcel.left:
            await checkpoint()
        tasks.cancel_scope.cancel()
