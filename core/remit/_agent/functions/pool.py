"""The pool behind `Session.call`: calls go to warm workers, answers come back, in any order.

One channel carries all calls of a session to one interpreter. What a call says and what its answer
says is not looked at here. `remit._agent.functions.workers` has the processes, which are forked
when there is work for them.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from remit._agent.base.handler import Handler
from remit._agent.base.helpers import refusal_of
from remit._agent.functions import interpreter
from remit._agent.functions.workers import Worker
from remit._wire.calls import CALL, NUMBER, PACKET, PROGRAM, WINDOW, Gathering, Malformed
from remit._wire.conversation import Piece
from remit._wire.credit import Window
from remit._wire.requests import parse_event
from remit._wire.streams import STDERR_TAIL

if TYPE_CHECKING:
    from typing import Any, Sequence

    from remit._agent.base.link import Link
    from remit._agent.functions.interpreter import Interpreter

# Calls that one worker may be given ahead.
_AHEAD = 16


def pool(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb."""
    source = interpreter.of(link.session, args["python"])
    size = args["workers"] or _processors()
    link.session.news.job(source.id, True)
    pool = Pool(link, channel, source, size, args["most_calls"], args["trust"])
    link.handlers[channel] = pool
    link.accept(channel, {"workers": size})
    link.conversation.grant(channel, WINDOW)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


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


class Pool(Handler):
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
        self._gathering = Gathering()
        self._received = 0  # pieces
        self._orders: deque[tuple[int, str, dict[str, Any]]] = deque()
        self._window = Window(WINDOW)
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
            self._window.consumed(len(piece.data))
            self._pay()
            whole = self._gathering.take(piece.stream, piece.seq, piece.offset, piece.data)
            if whole is not None:
                self._take(piece.stream, piece.seq, whole)
            self._received += 1
            self._follow_orders()
        except Malformed as exc:
            self._end({"problem": str(exc)})

    def _take(self, kind: int, number: int, data: bytes | bytearray) -> None:
        if kind == PROGRAM:
            self._programs[number] = Program(number, bytes(data))
        elif kind == CALL and len(data) >= NUMBER.size:
            program = self._programs.get(NUMBER.unpack_from(data)[0])
            if program is None:
                raise Malformed("call %d names a program that was not sent" % number)
            self._queue.append(Call(number, program, memoryview(data)[NUMBER.size :]))
            self.dispatch()
        else:
            raise Malformed("%d of kind %d" % (number, kind))

    def _pay(self) -> None:
        # Calls that wait for a worker hold back their successors.
        if self._window.is_due and sum(len(call.arguments) for call in self._queue) < WINDOW:
            self.link.conversation.grant(self.channel, self._window.due())

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
                self._gathering.drop(PROGRAM, args["program"])
            else:
                self._cancel(args["call"])

    def _cancel(self, number: int) -> None:
        if self._gathering.drop(CALL, number):
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
        self._pay()

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
