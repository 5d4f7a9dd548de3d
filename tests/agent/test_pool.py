"""The pool of workers, walked at random: the caller, the workers and the kernel are played here."""

from __future__ import annotations

import os
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from remit._agent.base.loop import Loop, Timer
from remit._agent.functions import pool, workers
from remit._wire import calls
from remit._wire.conversation import Piece
from remit._wire.refusal import Refused

SIZE = struct.Struct(">Q")
PIECE = 1 << 16
SIZES = st.sampled_from([0, 1, 100, 40_000, PIECE - 40, PIECE, 150_000, 400_000])


class Watches(Loop):
    """Timers are due when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.timers: list[Timer] = []

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Timer:
        self.timers.append(Timer(callback, None))
        return self.timers[-1]

    def fire(self) -> None:
        timers, self.timers = self.timers, []
        for timer in timers:
            if timer.callback is not None:
                timer.callback()


class Link:
    """What a pool uses of one; what the caller is told is gathered in ``answers``."""

    def __init__(self) -> None:
        self.loop = Watches()
        self.conversation = self
        self.left = 0  # credit
        self.begun: dict[tuple[int, int], bytearray] = {}
        self.answers: dict[int, list[tuple[int, bytes]]] = {}
        self.refused: dict[int, str] = {}
        self.ended: list[Any] = []

    def credit(self, channel: int) -> int:
        return self.left

    def has_room(self) -> bool:
        return True

    def grant(self, channel: int, size: int) -> None:
        pass

    def data(self, channel: int, piece: Piece) -> None:
        assert len(piece.data) <= self.left, "sent without credit"
        self.left -= len(piece.data)
        key = (piece.stream, piece.seq)
        if not piece.offset:
            self.begun[key] = bytearray(piece.data)
        else:
            assert piece.offset == len(self.begun[key]) - SIZE.size
            self.begun[key] += piece.data
        body = self.begun[key]
        total = SIZE.unpack_from(body)[0]
        assert len(body) - SIZE.size <= total
        if len(body) - SIZE.size == total:
            del self.begun[key]
            if piece.stream != calls.TAIL:
                answer = piece.stream, bytes(body[SIZE.size :])
                self.answers.setdefault(piece.seq, []).append(answer)

    def event(self, channel: int, name: str, **args: Any) -> None:
        assert name == "not-run"
        self.refused[args["call"]] = args["message"]

    def end(self, channel: int, body: Any) -> None:
        self.ended.append(body)


class Puppet:
    """A worker process: reads and answers when it is told to, as `remit._worker.calls` would."""

    def __init__(self, channel: int, forked: Callable[[int, int], object]) -> None:
        self.socket = socket.socket(fileno=channel)
        self.forked = forked
        self.pid = 0
        self.ended: Callable[[int], object] | None = None
        self.programs: dict[int, bytes] = {}
        self.part = bytearray()
        self.head = (0, 0, 0)
        self.call: int | None = None
        self.answer = b""
        self.sent = 0
        self.interrupts = 0
        self.interrupted = False
        self.alive = True

    def read(self) -> bool:
        """One packet, as long as it is between calls."""
        if not self.alive or self.call is not None:
            return False
        try:
            packet = self.socket.recv(1 << 17, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        if not packet:
            self.die(0)
            return True
        head = calls.HEAD.unpack_from(packet)
        if self.part:
            assert head == self.head, "another message in the middle of one"
        self.head = head
        self.part += packet[calls.HEAD.size :]
        kind, number, total = head
        assert len(self.part) <= total
        if kind == calls.FORGET:
            self.programs.pop(number)
        elif len(self.part) == total:
            self.begin(number, bytes(self.part))
            self.part.clear()
        return True

    def begin(self, number: int, data: bytes) -> None:
        program, size, interrupts = struct.unpack_from(">QQQ", data)
        if size:
            self.programs[program] = data[24 : 24 + size]
        self.call, self.sent = number, 0
        self.answer = self.programs[program] + data[24 + size :] + b"."
        self.interrupted = self.interrupts > interrupts
        self.interrupts = interrupts

    def say(self) -> bool:
        """A packet of the answer."""
        if not self.alive or self.call is None:
            return False
        kind = calls.FAILED if self.interrupted else calls.VALUE
        answer = b"interrupted" if self.interrupted else self.answer
        head = calls.HEAD.pack(kind, self.call, len(answer))
        part = answer[self.sent : self.sent + calls.PACKET]
        try:
            self.socket.send(head + part, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except BrokenPipeError:
            self.die(1)
            return True
        self.sent += len(part)
        if self.sent == len(answer):
            self.call = None
        return True

    def hear(self, signum: int) -> None:
        if signum == signal.SIGKILL:
            self.die(9)
        else:
            self.interrupts += 1
            if not self.sent:
                self.interrupted = True

    def die(self, status: int) -> None:
        if self.alive:
            self.alive = False
            self.socket.close()
            if self.ended is not None:
                self.ended(status)


class Source:
    """The warm interpreter."""

    def __init__(self) -> None:
        self.on_lost: list[Callable[[], object]] = []
        self.puppets: list[Puppet] = []
        self.refuses = False

    def fork(
        self,
        verb: str,
        argument: object,
        fds: Sequence[int],
        sent: Callable[[], object],
        forked: Callable[[int, int], object],
    ) -> None:
        if self.refuses:
            raise Refused("no-python", "killed")
        self.puppets.append(Puppet(os.dup(fds[0]), forked))
        sent()

    def watch(self, pid: int, ended: Callable[[int], object]) -> None:
        puppet = next(one for one in self.puppets if one.pid == pid)
        puppet.ended = ended

    def kill(self, pid: int, signum: int) -> None:
        puppet = next(one for one in self.puppets if one.pid == pid)
        assert puppet.alive, "a signal to a pid that is nobody's"
        puppet.hear(signum)


@attrs.define(eq=False)
class Sending:
    """What the caller is about to send."""

    kind: int
    number: int
    whole: bytes
    sent: int = 0

    def piece(self) -> Piece:
        part = self.whole[self.sent : self.sent + PIECE]
        piece = Piece(self.kind, self.number, self.sent, 0.0, part)
        self.sent += len(part)
        return piece

    @property
    def is_whole(self) -> bool:
        return self.sent == len(self.whole)


class Walk(RuleBasedStateMachine):
    """The caller sends, cancels and forgets in any order that its protocol allows."""

    def __init__(self) -> None:
        super().__init__()
        self.link = Link()
        self.source = Source()
        self.wire: deque[Piece] = deque()  # sent and not yet there
        self.pieces = 0
        self.sending: list[Sending] = []
        self.programs: dict[int, bytes] = {}
        self.ready: list[int] = []  # programs that were sent whole
        self.calls: dict[int, tuple[int, bytes]] = {}
        self.cancelled: set[int] = set()
        self.deaths = 0
        self.pids = 1000

    @initialize(size=st.integers(1, 4), most=st.sampled_from([1, 3, 1000]))
    def open(self, size: int, most: int) -> None:
        self.pool = pool.Pool(
            self.link,  # type: ignore[arg-type]
            7,
            self.source,  # type: ignore[arg-type]
            size,
            most,
            False,
        )

    # -- the caller

    @rule(size=SIZES)
    def introduces(self, size: int) -> None:
        number = len(self.programs) + 1
        body = self.programs[number] = b"p%d" % number + bytes(size)
        self.sending.append(Sending(calls.PROGRAM, number, SIZE.pack(len(body)) + body))

    @precondition(lambda self: self.ready)
    @rule(data=st.data(), size=SIZES)
    def calls_(self, data: st.DataObject, size: int) -> None:
        program = data.draw(st.sampled_from(self.ready))
        number = len(self.calls) + 1
        args = b"a%d" % number + bytes(size)
        self.calls[number] = program, args
        body = SIZE.pack(program) + args
        self.sending.append(Sending(calls.CALL, number, SIZE.pack(len(body)) + body))

    @precondition(lambda self: self.sending)
    @rule(data=st.data(), pieces=st.integers(1, 8))
    def sends(self, data: st.DataObject, pieces: int) -> None:
        self.send(data.draw(st.sampled_from(self.sending)), pieces)

    def send(self, one: Sending, pieces: int) -> None:
        for _ in range(pieces):
            self.wire.append(one.piece())
            self.pieces += 1
            if one.is_whole:
                self.sending.remove(one)
                if one.kind == calls.PROGRAM:
                    self.ready.append(one.number)
                return

    @precondition(lambda self: self.sending)
    @rule(data=st.data())
    def gives_up_sending(self, data: st.DataObject) -> None:
        one = data.draw(st.sampled_from(self.sending))
        self.sending.remove(one)
        if one.sent:
            self.cancel("program" if one.kind == calls.PROGRAM else "call", one.number)
        if one.kind == calls.CALL:
            self.cancelled.add(one.number)
        else:
            one.sent = 0
            self.sending.append(one)  # the next that needs it begins again

    @precondition(lambda self: self.open_calls())
    @rule(data=st.data())
    def cancels(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.open_calls()))
        self.cancelled.add(number)
        self.cancel("call", number)

    def open_calls(self) -> list[int]:
        """Those that were sent, and nobody has answered or cancelled."""
        unsent = {one.number for one in self.sending if one.kind == calls.CALL}
        over = unsent | self.cancelled | self.link.answers.keys() | self.link.refused.keys()
        return [number for number in self.calls if number not in over]

    def cancel(self, what: str, number: int) -> None:
        self.pool.on_event("cancel", {what: number, "after": self.pieces})

    @precondition(lambda self: self.ready)
    @rule(data=st.data())
    def forgets(self, data: st.DataObject) -> None:
        program = data.draw(st.sampled_from(self.ready))
        sending = [one.number for one in self.sending if one.kind == calls.CALL]
        if all(self.calls[number][0] != program for number in [*self.open_calls(), *sending]):
            self.ready.remove(program)
            self.pool.on_event("forget", {"program": program, "after": self.pieces})

    @rule(pieces=st.integers(1, 10))
    def arrives(self, pieces: int) -> None:
        for _ in range(min(pieces, len(self.wire))):
            self.pool.on_data(self.wire.popleft())

    @rule(size=st.sampled_from([1, PIECE, 4 * PIECE]))
    def grants(self, size: int) -> None:
        self.link.left += size
        self.pool.on_credit()

    # -- the workers

    def puppets(self) -> list[Puppet]:
        return [one for one in self.source.puppets if one.alive]

    @precondition(lambda self: self.puppets())
    @rule(data=st.data(), packets=st.integers(1, 10))
    def reads(self, data: st.DataObject, packets: int) -> None:
        puppet = data.draw(st.sampled_from(self.puppets()))
        for _ in range(packets):
            puppet.read()

    @precondition(lambda self: self.puppets())
    @rule(data=st.data(), packets=st.integers(1, 10))
    def answers(self, data: st.DataObject, packets: int) -> None:
        puppet = data.draw(st.sampled_from(self.puppets()))
        for _ in range(packets):
            puppet.say()

    @precondition(lambda self: self.puppets())
    @rule(data=st.data())
    def is_born(self, data: st.DataObject) -> None:
        """The agent hears of the fork; that may well run already."""
        self.bear(data.draw(st.sampled_from(self.puppets())))

    def bear(self, puppet: Puppet) -> None:
        if not puppet.pid:
            self.pids += 1
            puppet.pid = self.pids
            puppet.forked(puppet.pid, 0)

    @precondition(lambda self: self.puppets())
    @rule(data=st.data())
    def cannot_be_forked(self, data: st.DataObject) -> None:
        puppet = data.draw(st.sampled_from(self.puppets()))
        if not puppet.pid and puppet.call is None and not puppet.part:
            puppet.alive = False
            puppet.socket.close()
            puppet.forked(0, 11)

    @precondition(lambda self: self.puppets())
    @rule(data=st.data())
    def dies(self, data: st.DataObject) -> None:
        puppet = data.draw(st.sampled_from(self.puppets()))
        self.bear(puppet)
        if puppet.alive:
            self.deaths += 1
            puppet.die(1)

    @rule()
    def cannot_fork(self) -> None:
        self.source.refuses = not self.source.refuses

    @rule()
    def time_passes(self) -> None:
        self.link.loop.fire()

    @rule()
    def turns(self) -> None:
        self.link.loop.turn(0)

    # -- what must hold

    @invariant()
    def each_answer_is_right(self) -> None:
        assert not self.link.ended
        for number, answers in self.link.answers.items():
            assert len(answers) == 1, "answered twice"
            kind, body = answers[0]
            if kind == calls.VALUE:
                program, args = self.calls[number]
                assert body == self.programs[program] + args + b"."
            elif kind == calls.DIED:
                self.deaths -= 1
                answers[0] = 0, b""
                assert self.deaths >= 0 or number in self.cancelled, "nobody has died"
            elif kind == calls.FAILED:
                assert number in self.cancelled, "another call was interrupted"

    def teardown(self) -> None:
        if not hasattr(self, "pool"):
            return
        self.link.left = 1 << 40
        self.source.refuses = False
        for one in list(self.sending):
            self.send(one, 1 << 20)
        self.arrives(1 << 20)
        self.pool.on_credit()
        quiet = 0
        while quiet < 3:  # turns: of an answer another call may come
            for puppet in self.puppets():
                self.bear(puppet)
            moved = [puppet.read() or puppet.say() for puppet in self.puppets()]
            self.link.loop.turn(0)
            quiet = 0 if any(moved) else quiet + 1
        self.each_answer_is_right()
        assert not self.open_calls(), "never answered"
        assert not self.pool._queue
        assert not self.pool._gathering._begun
        assert not self.pool._orders._waiting
        assert not self.link.begun or {n for _, n in self.link.begun} <= (
            self.cancelled | self.link.answers.keys()
        )
        self.nothing_is_kept()

    def nothing_is_kept(self) -> None:
        """What the caller forgets, workers forget before their next call."""
        for program in list(self.ready):
            self.pool.on_event("forget", {"program": program, "after": self.pieces})
        assert not self.pool._programs
        for worker in self.pool._workers:
            assert not worker.calls
            assert not worker._known
        before = self.puppets()
        self.pool.on_close()
        for puppet in before:
            puppet.read()
        assert not self.pool._workers
        assert not self.puppets()
        assert not self.link.loop._watched


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals go to puppets; each worker counts as quick from its first answer on."""
    made: list[Source] = []
    before = Source.__init__

    def init(self: Source) -> None:
        before(self)
        made.append(self)

    class Os:
        def __getattr__(self, name: str) -> Any:
            return getattr(os, name)

        def kill(self, pid: int, signum: int) -> None:
            made[-1].kill(pid, signum)

    monkeypatch.setattr(Source, "__init__", init)
    monkeypatch.setattr(workers, "os", Os())
    monkeypatch.setattr(workers, "_SHORT", 10.0)
    monkeypatch.setattr(workers, "_TOO_LONG", -1.0)


def test_any_order_of_calls_cancels_and_deaths() -> None:
    run_state_machine_as_test(
        Walk,
        settings=settings(
            max_examples=int(os.environ.get("REMIT_WALKS", "60")),
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize(
    "pieces",
    [
        [Piece(calls.CALL, 1, 0, 0.0, SIZE.pack(9) + SIZE.pack(5) + b"x")],
        [Piece(calls.CALL, 1, 0, 0.0, SIZE.pack(2) + b"xx")],
        [Piece(calls.PROGRAM, 1, 0, 0.0, b"short")],
        [Piece(calls.PROGRAM, 1, 0, 0.0, SIZE.pack(1 << 40) + b"x")],
        [Piece(calls.PROGRAM, 1, 0, 0.0, SIZE.pack(1) + b"xyz")],
        [Piece(calls.PROGRAM, 1, 9, 0.0, b"x")],
        [Piece(calls.PROGRAM, 1, 0, 0.0, SIZE.pack(9) + b"x")] * 2,
        [Piece(99, 1, 0, 0.0, SIZE.pack(1) + b"x")],
    ],
    ids=str,
)
def test_what_is_malformed_ends_the_channel_and_says_so(pieces: list[Piece]) -> None:
    link = Link()
    pool_ = pool.Pool(link, 7, Source(), 2, 10, False)  # type: ignore[arg-type]
    for piece in pieces:
        pool_.on_data(piece)
    (end,) = link.ended
    assert " 1 " in end["problem"] or end["problem"].startswith("1 ")
