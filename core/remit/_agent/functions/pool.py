"""The pool behind `Session.call`: calls go to warm workers, answers come back, in any order.

One channel carries all calls of a session to one interpreter. What a call says and what its answer
says is not looked at here. `remit._agent.functions.workers` has the processes, which are forked
when there is work for them.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from typing import TYPE_CHECKING

from remit._agent.base.helpers import refusal_of
from remit._agent.functions import interpreter
from remit._agent.functions.workers import PACKET, Worker
from remit._wire.conversation import Piece
from remit._wire.requests import parse_event
from remit._wire.streams import STDERR_TAIL

if TYPE_CHECKING:
    from typing import Any, Sequence

    from remit._agent.base.link import Link
    from remit._agent.functions.interpreter import Interpreter

# What comes from the caller: docs/wire.md.
PROGRAM, CALL = 1, 3
_TOTAL = struct.Struct(">Q")
_NUMBER = struct.Struct(">Q")

# What the caller may send ahead of the workers.
_WINDOW = 1 << 22
# The most bytes of one program, or of one call. The caller refuses what is larger.
_MOST = (256 << 20) + _NUMBER.size
# Calls that one worker may be given ahead.
_AHEAD = 16


def pool(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb."""
    source = interpreter.of(link.session, args["python"])
    size = args["workers"] or _processors()
    link.session.session_job(source.id, True)
    pool = Pool(link, channel, source, size, args["most_calls"], args["trust"])
    link.handlers[channel] = pool
    link.accept(channel, {"workers": size})
    link.conversation.grant(channel, _WINDOW)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


class Malformed(Exception):
    """The caller sent what it must not send. Nothing on its channel can be trusted any more."""


class Program:
    __slots__ = ("body", "forgotten", "number")

    def __init__(self, number: int, body: bytes) -> None:
        self.number = number
        self.body = body
        self.forgotten = False


class Call:
    """It holds its program: to forget that one takes it from no call."""

    __slots__ = ("arguments", "cancelled", "number", "program")

    def __init__(self, number: int, program: Program, arguments: memoryview) -> None:
        self.number = number
        self.program = program
        self.arguments = arguments
        self.cancelled = False


class _Parts:
    """Programs and calls that come in several pieces, until they are whole."""

    def __init__(self) -> None:
        self._begun: dict[tuple[int, int], tuple[int, bytearray]] = {}  # total, and what is here

    def whole(self, piece: Piece) -> bytes | bytearray | None:
        """All of it, once its last piece has come. Raises Malformed."""
        key = (piece.stream, piece.seq)
        if not piece.offset:
            if key in self._begun or len(piece.data) < _TOTAL.size:
                raise Malformed("%d of kind %d begins oddly" % (piece.seq, piece.stream))
            total, data = _TOTAL.unpack_from(piece.data)[0], piece.data[_TOTAL.size :]
            if total > _MOST:
                raise Malformed("%d of kind %d has %d bytes" % (piece.seq, piece.stream, total))
            if len(data) > total:
                raise Malformed("%d of kind %d is too large" % (piece.seq, piece.stream))
            if len(data) == total:
                return bytes(data)
            self._begun[key] = total, bytearray(data)
            return None
        total, gathered = self._begun.get(key, (0, bytearray()))
        if piece.offset != len(gathered) + _TOTAL.size:
            raise Malformed("%d of kind %d goes on oddly" % (piece.seq, piece.stream))
        gathered += piece.data
        if len(gathered) < total:
            return None
        if len(gathered) > total:
            raise Malformed("%d of kind %d is too large" % (piece.seq, piece.stream))
        del self._begun[key]
        return gathered

    def drop(self, kind: int, number: int) -> bool:
        return self._begun.pop((kind, number), None) is not None


class Pool:
    """The handler of the channel."""

    def __init__(
        self,
        link: Link,
        channel: int,
        source: Interpreter,
        size: int,
        most_calls: int,
        trust: bool,
    ) -> None:
        self.link = link
        self.channel = channel
        self.most_calls = most_calls
        self.source = source
        self.trust = trust
        self._size = size
        self._programs: dict[int, Program] = {}
        self._workers: list[Worker] = []
        self._queue: deque[Call] = deque()
        self._parts = _Parts()
        self._received = 0  # pieces
        self._orders: deque[tuple[int, str, dict[str, Any]]] = deque()
        self._owed = 0
        self._closed = False
        source.on_lost.append(self._source_lost)

    def _source_lost(self) -> None:
        if not self._closed:
            # All calls under way have failed with that; the caller has another one started.
            self._end({})

    def _end(self, why: dict[str, object]) -> None:
        self.link.end(self.channel, why)
        self.on_close()

    # -- from the caller

    def on_data(self, piece: Piece) -> None:
        if self._closed:
            return
        try:
            self._pay(len(piece.data))
            whole = self._parts.whole(piece)
            if whole is not None:
                self._take(piece.stream, piece.seq, whole)
            self._received += 1
            self._follow_orders()
        except Malformed as exc:
            self._end({"problem": str(exc)})

    def _take(self, kind: int, number: int, data: bytes | bytearray) -> None:
        if kind == PROGRAM:
            self._programs[number] = Program(number, bytes(data))
        elif kind == CALL and len(data) >= _NUMBER.size:
            program = self._programs.get(_NUMBER.unpack_from(data)[0])
            if program is None:
                raise Malformed("call %d names a program that was not sent" % number)
            self._queue.append(Call(number, program, memoryview(data)[_NUMBER.size :]))
            self.dispatch()
        else:
            raise Malformed("%d of kind %d" % (number, kind))

    def _pay(self, size: int) -> None:
        self._owed += size
        if self._owed < _WINDOW // 4:
            return
        # Calls that wait for a worker hold back their successors.
        if sum(len(call.arguments) for call in self._queue) < _WINDOW:
            self.link.conversation.grant(self.channel, self._owed)
            self._owed = 0

    def on_event(self, name: str, args: dict[str, Any]) -> None:
        # Events overtake data. What this one is about may still be on its way.
        order = parse_event(name, args)
        if order is not None:
            self._orders.append((order["after"], name, order))
            self._follow_orders()

    def _follow_orders(self) -> None:
        while self._orders and self._orders[0][0] <= self._received:
            _, name, args = self._orders.popleft()
            if name == "forget":
                self._forget(args["program"])
            elif args["program"] is not None:
                self._parts.drop(PROGRAM, args["program"])
            else:
                self._cancel(args["call"])

    def _cancel(self, number: int) -> None:
        if self._parts.drop(CALL, number):
            return
        for call in self._queue:
            if call.number == number:
                self._queue.remove(call)
                return
        for worker in self._workers:
            if worker.cancel(number):
                self.dispatch()  # what was given to it ahead
                return

    def _forget(self, number: int) -> None:
        program = self._programs.pop(number, None)
        if program is not None:
            program.forgotten = True
            for worker in self._workers:
                worker.forget(program)

    def on_credit(self) -> None:
        for worker in list(self._workers):
            worker.read_on()

    on_room = on_credit

    def on_close(self) -> None:
        self._closed = True
        self._queue.clear()
        for worker in list(self._workers):
            worker.dismiss()

    # -- to the workers

    def dispatch(self) -> None:
        """Gives calls that wait to workers that can take one."""
        while self._queue and not self._closed:
            worker = self._free(self._queue[0])
            if worker is None:
                break
            worker.give(self._queue.popleft())
        if self._owed:
            self._pay(0)

    def _free(self, call: Call) -> Worker | None:
        """An idle worker, else a new one, else one that is quick and not too far behind."""
        best: Worker | None = None
        for worker in self._workers:
            fits = worker.is_idle or worker.takes_ahead(call)
            if fits and (best is None or len(worker.calls) < len(best.calls)):
                best = worker
        if (best is None or best.calls) and len(self._workers) < self._size:
            return self._hire() or best
        if best is not None and len(best.calls) < _AHEAD:
            return best
        return None

    def _hire(self) -> Worker | None:
        """Where none can be had, those there are do all; where there are none, calls fail."""
        try:
            worker = Worker(self)
        except Exception as exc:
            if not self._workers:
                self.refuse(exc, self._queue)
                self._queue.clear()
            return None
        self._workers.append(worker)
        return worker

    def refuse(self, exc: Exception, calls: Sequence[Call]) -> None:
        """They do not run, for that reason."""
        why = refusal_of(exc)
        facts = {"code": why.code, "message": why.message, "hint": why.hint}
        for call in calls:
            if not (call.cancelled or self._closed):
                self.link.event(self.channel, "not-run", call=call.number, **facts)

    def put_back(self, calls: Sequence[Call]) -> None:
        self._queue.extendleft(reversed([call for call in calls if not call.cancelled]))

    # -- from the workers

    def left(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self.dispatch()

    def tell(self, kind: int, number: int, offset: int, data: bytes) -> None:
        """Sends a part of an answer; there was credit and room for it."""
        if not self._closed:
            piece = Piece(kind, number, offset, 0.0, data)
            self.link.conversation.data(self.channel, piece)

    def may_tell(self) -> bool:
        # As much as a packet and what may come with it.
        enough = self.link.conversation.credit(self.channel) >= PACKET + 2 * STDERR_TAIL
        return self._closed or (enough and self.link.has_room())
