"""The pool behind `Session.call`: calls go to warm workers, answers come back, in any order.

One channel carries all calls of a session to one interpreter. What a call says and what its answer
says is not looked at here. `remit._agent.functions.workers` has the processes, which are forked
when there is work for them.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING

from remit._agent.base.channel import Handler
from remit._agent.base.helpers import refusal_of
from remit._agent.functions.known import of
from remit._agent.functions.workers import Worker
from remit._wire.calls import CALL, NUMBER, PACKET, PROGRAM, WINDOW, Gathering, Malformed
from remit._wire.conversation import Piece
from remit._wire.credit import Window
from remit._wire.requests import parse_event
from remit._wire.streams import STDERR_TAIL

if TYPE_CHECKING:
    from typing import Any, Iterable, Iterator, Sequence

    from remit._agent.base.link import Link
    from remit._agent.functions.interpreter import Interpreter

# Calls that one worker may be given ahead.
_AHEAD = 16


def pool(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb."""
    source = of(link.session, args["python"])
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


class _Orders:
    """Events overtake data. What one is about may still be on its way."""

    def __init__(self) -> None:
        self.received = 0  # pieces of data
        self._waiting: deque[tuple[int, str, dict[str, Any]]] = deque()

    def put(self, name: str, args: dict[str, Any]) -> None:
        self._waiting.append((args["after"], name, args))

    def due(self) -> Iterator[tuple[str, dict[str, Any]]]:
        while self._waiting and self._waiting[0][0] <= self.received:
            yield self._waiting.popleft()[1:]


class _Answers:
    """What the caller is told, until its channel is closed."""

    def __init__(self, link: Link, channel: int) -> None:
        self.closed = False
        self._link = link
        self._channel = channel

    def tell(self, kind: int, number: int, offset: int, data: bytes) -> None:
        """Sends a part of an answer; there was credit and room for it."""
        if not self.closed:
            piece = Piece(kind, number, offset, 0.0, data)
            self._link.conversation.data(self._channel, piece)

    def may_tell(self) -> bool:
        # As much as a packet and what may come with it.
        enough = self._link.conversation.credit(self._channel) >= PACKET + 2 * STDERR_TAIL
        return self.closed or (enough and self._link.has_room())

    def refuse(self, exc: Exception, calls: Iterable[Call]) -> None:
        """They do not run, for that reason."""
        why = refusal_of(exc)
        facts = {"code": why.code, "message": why.message, "hint": why.hint}
        for call in calls:
            if not (call.cancelled or self.closed):
                self._link.event(self._channel, "not-run", call=call.number, **facts)

    def end(self, why: dict[str, object]) -> None:
        self._link.end(self._channel, why)


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
        self._orders = _Orders()
        self._window = Window(WINDOW)
        self.answers = _Answers(link, channel)
        source.on_lost.append(self._source_lost)

    def _source_lost(self) -> None:
        if not self.answers.closed:
            # All calls under way have failed with that; the caller has another one started.
            self.answers.end({})
            self.on_close()

    # -- from the caller

    def on_data(self, piece: Piece) -> None:
        if self.answers.closed:
            return
        try:
            self._window.consumed(len(piece.data))
            self._pay()
            whole = self._gathering.take(piece.stream, piece.seq, piece.offset, piece.data)
            if whole is not None:
                self._take(piece.stream, piece.seq, whole)
            self._orders.received += 1
            self._follow_orders()
        except Malformed as exc:
            self.answers.end({"problem": str(exc)})
            self.on_close()

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
        order = parse_event(name, args)
        if order is not None:
            self._orders.put(name, order)
            self._follow_orders()

    def _follow_orders(self) -> None:
        for name, args in self._orders.due():
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
        self.answers.closed = True
        self._queue.clear()
        for worker in list(self._workers):
            worker.dismiss()

    # -- to the workers

    def dispatch(self) -> None:
        """Gives calls that wait to workers that can take one."""
        while self._queue and not self.answers.closed:
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
                self.answers.refuse(exc, self._queue)
                self._queue.clear()
            return None
        self._workers.append(worker)
        return worker

    def put_back(self, calls: Sequence[Call]) -> None:
        self._queue.extendleft(reversed([call for call in calls if not call.cancelled]))

    # -- from the workers

    def left(self, worker: Worker) -> None:
        self._workers.remove(worker)
        self.dispatch()
