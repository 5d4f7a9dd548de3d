"""The pool behind `Session.call`: calls go to warm workers, answers come back, in any order.

One channel carries all calls of a session to one interpreter. What a call says and what its answer
says is not looked at here. Workers are forked when there is work for them.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections import deque, namedtuple
from typing import TYPE_CHECKING

from remit._conversation import Piece
from remit._msgpack import pack
from remit.agent import arguments, interpreter

if TYPE_CHECKING:
    from typing import Any

    from remit.agent.interpreter import Interpreter
    from remit.agent.loop import Timer
    from remit.agent.main import Agent

# As `remit.worker.calls`, which this end speaks with, and docs/wire.md, the other one.
HEAD = struct.Struct(">BQQ")
PROGRAM, FORGET, CALL = 1, 2, 3
VALUE, FAILED = 1, 2
DIED = 4  # packed [exit status or None, signal or None, the end of stderr]
TAIL = 5  # the end of stderr, before a FAILED
PACKET = 1 << 16
_TOTAL = struct.Struct(">Q")
_NUMBER = struct.Struct(">Q")

# What the caller may send ahead of the workers.
_WINDOW = 1 << 22
# Calls that one worker may be given ahead, while its calls take no longer than _SHORT seconds; and
# how long the first of them may take before the others are taken back.
_AHEAD = 16
_SHORT = 0.002
_TOO_LONG = 0.01
# Seconds between the INT and the KILL of a worker whose call was cancelled.
_GRACE = 5.0
_STDERR_TAIL = 4096
# Packets taken from one worker before others have their turn.
_TURN = 64


def pool(agent: Agent, channel: int, args: dict[str, Any]) -> None:
    """The verb."""
    workers = arguments.take(args, "workers", int, default=None)
    most = arguments.take(args, "most_calls", int, default=1000)
    trust = arguments.take(args, "trust", bool, default=False)
    source = interpreter.of(agent, arguments.path(args, "python"))
    size = workers or _processors()
    agent.handlers[channel] = Pool(agent, channel, source, size, max(1, most), trust)
    agent.accept(channel, {"workers": size})
    agent.conversation.grant(channel, _WINDOW)


def _processors() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except (AttributeError, OSError):
        return os.cpu_count() or 1


# What comes in several pieces.
_Gathered = namedtuple("_Gathered", "total data")


class _Call:
    __slots__ = ("cancelled", "data", "number", "program")

    def __init__(self, number: int, data: bytes) -> None:
        self.number = number
        self.data = data
        self.program = _NUMBER.unpack_from(data)[0]
        self.cancelled = False

    @property
    def is_small(self) -> bool:
        """Whether it is one packet, so that it can be given ahead, and taken back."""
        return len(self.data) <= PACKET


class Pool:
    """The handler of the channel."""

    def __init__(
        self,
        agent: Agent,
        channel: int,
        source: Interpreter,
        size: int,
        most_calls: int,
        trust: bool,
    ) -> None:
        self.agent = agent
        self.channel = channel
        self.most_calls = most_calls
        self.source = source
        self.programs: dict[int, bytes] = {}
        self.trust = trust
        self._size = size
        self._workers: list[_Worker] = []
        self._queue: deque[_Call] = deque()
        self._gathered: dict[tuple[int, int], _Gathered] = {}  # by kind and number
        self._owed = 0
        self._closed = False
        source.on_lost.append(self._source_lost)

    def _source_lost(self) -> None:
        if not self._closed:
            # All calls under way have failed with that; the caller has another one started.
            self.agent.end(self.channel, {})
            self.on_close()

    # -- from the caller

    def on_data(self, piece: Piece) -> None:
        kind, number, data = piece.stream, piece.seq, piece.data
        self._pay(len(data))
        if not piece.offset:
            total = _TOTAL.unpack_from(data)[0]
            data = data[_TOTAL.size :]
            if len(data) < total:
                self._gathered[kind, number] = _Gathered(total, bytearray(data))
                return
        else:
            gathered = self._gathered.get((kind, number))
            if gathered is None:
                return  # cancelled in the middle
            gathered.data.extend(data)
            if len(gathered.data) < gathered.total:
                return
            del self._gathered[kind, number]
            data = bytes(gathered.data)
        self._take(kind, number, data)

    def _take(self, kind: int, number: int, data: bytes) -> None:
        if kind == CALL:
            self._queue.append(_Call(number, data))
            self.dispatch()
        elif kind == PROGRAM:
            self.programs[number] = data
        elif kind == FORGET:
            self.programs.pop(number, None)
            for worker in self._workers:
                worker.forget(number)

    def _pay(self, size: int) -> None:
        self._owed += size
        if self._owed < _WINDOW // 4:
            return
        # Calls that wait for a worker hold back their successors.
        if sum(len(call.data) for call in self._queue) < _WINDOW:
            self.agent.conversation.grant(self.channel, self._owed)
            self._owed = 0

    def on_event(self, name: str, args: dict[str, Any]) -> None:
        if name == "cancel":
            self._cancel(args.get("call"))

    def _cancel(self, number: object) -> None:
        self._gathered.pop((CALL, number), None)  # type: ignore[arg-type]
        for call in self._queue:
            if call.number == number:
                self._queue.remove(call)
                return
        for worker in self._workers:
            worker.cancel(number)

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
        while self._queue:
            worker = self._free()
            if worker is None:
                return
            worker.give(self._queue.popleft())
        if self._owed:
            self._pay(0)

    def _free(self) -> _Worker | None:
        """An idle worker, else a new one, else one that is quick and not too far behind."""
        best: _Worker | None = None
        small = self._queue[0].is_small
        for worker in self._workers:
            fits = worker.takes_calls and (not worker.calls or (small and worker.is_quick))
            if fits and (best is None or len(worker.calls) < len(best.calls)):
                best = worker
        if (best is None or best.calls) and len(self._workers) < self._size:
            return self._hire()
        if best is not None and len(best.calls) < _AHEAD:
            return best
        return None

    def _hire(self) -> _Worker:
        worker = _Worker(self)
        self._workers.append(worker)
        return worker

    def put_back(self, calls: list[_Call]) -> None:
        self._queue.extendleft(reversed(calls))

    # -- from the workers

    def left(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        if not self._closed:
            self.dispatch()

    def tell(self, kind: int, number: int, offset: int, data: bytes) -> None:
        """Sends a part of an answer; there was credit and room for it."""
        if not self._closed:
            piece = Piece(kind, number, offset, 0.0, data)
            self.agent.conversation.data(self.channel, piece)

    def may_tell(self) -> bool:
        # As much as a packet and what may come with it.
        enough = self.agent.conversation.credit(self.channel) >= PACKET + 2 * _STDERR_TAIL
        return self._closed or (enough and self.agent.has_room())


class _Worker:
    def __init__(self, pool: Pool) -> None:
        """Has it forked. Where that fails it is as one that died."""
        self.calls: deque[_Call] = deque()  # given and not yet answered; the first one runs
        self.takes_calls = True
        self._pool = pool
        self._agent = pool.agent
        self._known: set[int] = set()
        self._given = 0
        self._pid = 0
        self._status: int | None = None
        self._began = 0.0  # when the first of `calls` became the first
        self._quick = 1.0  # seconds that its calls take, smoothed
        self._sent = 0  # bytes of the answer that is being told
        self._held = b""  # a packet for which there was no credit
        self._out: deque[bytes] = deque()
        self._watching = False  # for when it takes more
        self._tail = b""
        self._timer: Timer | None = None
        self._kill: Timer | None = None
        self._over = False
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._theirs.setblocking(True)
        self._socket = ours
        self._stderr, stderr = os.pipe()
        os.set_blocking(self._stderr, False)
        fds = [self._theirs.fileno(), stderr]
        pool.source.fork("calls", pool.trust, fds, lambda: os.close(stderr), self._forked)
        self._agent.watch_fd(ours.fileno(), self._readable)
        self._agent.watch_fd(self._stderr, self._read_stderr)

    @property
    def is_quick(self) -> bool:
        """Whether it may be given a call ahead."""
        return self._quick <= _SHORT and self.calls[0].is_small

    # -- calls

    def give(self, call: _Call) -> None:
        if not self.calls:
            self._began = time.monotonic()
        self.calls.append(call)
        if call.program not in self._known:
            self._known.add(call.program)
            self._put(PROGRAM, call.program, self._pool.programs.get(call.program, b"v"))
        self._put(CALL, call.number, call.data)
        self._given += 1
        if self._given >= self._pool.most_calls:
            self.takes_calls = False
        if len(self.calls) > 1 and self._timer is None:
            self._timer = self._agent.call_later(_TOO_LONG, self._look_at_the_first)

    def forget(self, program: int) -> None:
        if program in self._known:
            self._known.discard(program)
            self._put(FORGET, program, b"")

    def cancel(self, number: object) -> None:
        for call in self.calls:
            if call.number == number and not call.cancelled:
                call.cancelled = True
                if call is self.calls[0]:
                    self._interrupt()
                return

    def _interrupt(self) -> None:
        """The call that runs is no longer wanted. Nothing else may be hit: what was given ahead is
        taken back before, so that after this call the worker is between calls."""
        if self.calls[0].is_small:
            self._take_back()
        if self.calls:
            self._kill_with(signal.SIGINT)
            self._kill = self._agent.call_later(_GRACE, lambda: self._kill_with(signal.SIGKILL))

    def _kill_with(self, signum: int) -> None:
        if self._pid and self._status is None:
            try:
                os.kill(self._pid, signum)
            except ProcessLookupError:
                pass

    def _look_at_the_first(self) -> None:
        """What was given ahead is not to wait behind a call that takes long."""
        self._timer = None
        if len(self.calls) < 2 or self._over:
            return
        late = time.monotonic() - self._began
        if late >= _TOO_LONG:
            self._quick = max(self._quick, late)
            self._take_back()
            self._pool.dispatch()
        else:
            self._timer = self._agent.call_later(_TOO_LONG - late, self._look_at_the_first)

    def _take_back(self) -> None:
        """Reads from the worker's own end what it has not read yet."""
        unread = list(self._out)
        self._out.clear()
        while True:
            try:
                unread.append(self._theirs.recv(HEAD.size + PACKET, socket.MSG_DONTWAIT))
            except OSError:
                break
        back = set()
        for kind, number, _ in map(HEAD.unpack_from, unread):
            if kind == CALL:
                back.add(number)
            elif kind == PROGRAM:
                self._known.discard(number)
            else:
                self._put(kind, number, b"")
        waiting = [call for call in self.calls if call.number in back and not call.cancelled]
        self.calls = deque(call for call in self.calls if call.number not in back)
        self._given -= len(back)
        self._pool.put_back(waiting)

    def dismiss(self) -> None:
        """Nobody wants its answers any more."""
        self.takes_calls = False
        if self.calls:
            self._kill_with(signal.SIGKILL)
        self._part()

    # -- packets out

    def _put(self, kind: int, number: int, data: bytes) -> None:
        head = HEAD.pack(kind, number, len(data))
        if len(data) <= PACKET:
            self._out.append(head + data)
        else:
            for start in range(0, len(data), PACKET):
                self._out.append(head + data[start : start + PACKET])
        self._write()

    def _write(self) -> None:
        while self._out and not self._over:
            try:
                self._socket.send(self._out[0])
            except BlockingIOError:
                self._watching = True
                self._agent.loop.watch_writable(self._socket.fileno(), self._write)
                return
            except OSError:
                return  # its end is told by the other way
            self._out.popleft()
        if self._watching and not self._over:
            self._watching = False
            self._agent.loop.unwatch_writable(self._socket.fileno())

    # -- packets in

    def read_on(self) -> None:
        if not self._over and self._held and self._pool.may_tell():
            packet, self._held = self._held, b""
            self._take(packet)
            self._agent.watch_fd(self._socket.fileno(), self._readable)
            self._readable()

    def _readable(self) -> None:
        if not self.calls:
            self._kill_with(signal.SIGKILL)  # it speaks unasked: whatever it runs has got at us
            self._agent.unwatch_fd(self._socket.fileno())
            return
        for _ in range(_TURN):
            if not self._read():
                break
        self._pool.dispatch()
        if self._status is not None:
            self._ended()

    def _read(self) -> bool:
        """Takes a packet; whether there was one, and room for what it says."""
        if self._over or self._held or not self.calls:
            return False
        try:
            packet = self._socket.recv(HEAD.size + PACKET)
        except OSError:
            return False
        if not self._pool.may_tell():
            self._held = packet
            self._agent.unwatch_fd(self._socket.fileno())
            return False
        self._take(packet)
        return True

    def _take(self, packet: bytes) -> None:
        kind, number, total = HEAD.unpack_from(packet)
        part = len(packet) - HEAD.size
        call = self.calls[0]
        if number != call.number:
            self._kill_with(signal.SIGKILL)
            return
        if not call.cancelled:
            if kind == FAILED and not self._sent:
                self._read_stderr()
                tail = self._tail
                self._pool.tell(TAIL, number, 0, _TOTAL.pack(len(tail)) + tail)
            data = packet[HEAD.size :]
            if not self._sent:
                data = _TOTAL.pack(total) + data
            self._pool.tell(kind, number, self._sent, data)
        self._sent += part
        if self._sent >= total:
            self._answered()

    def _answered(self) -> None:
        self._sent = 0
        now = time.monotonic()
        self._quick += (now - self._began - self._quick) * 0.3
        self._began = now
        self._tail = b""
        if self.calls.popleft().cancelled and self._kill is not None:
            self._kill.cancel()
            self._kill = None
        if not self.calls and not self.takes_calls:
            self._part()

    def _read_stderr(self) -> None:
        try:
            while True:
                data = os.read(self._stderr, 1 << 16)
                if not data:
                    self._agent.unwatch_fd(self._stderr)
                    return
                self._tail = (self._tail + data)[-_STDERR_TAIL:]
        except BlockingIOError:
            pass

    # -- its end

    def _part(self) -> None:
        """Tells it to end, by the end of its socket, and lets go of it."""
        if self._over:
            return
        self._over = True
        self._agent.unwatch_fd(self._socket.fileno())
        self._agent.loop.unwatch_writable(self._socket.fileno())
        self._agent.unwatch_fd(self._stderr)
        self._socket.close()
        self._theirs.close()
        os.close(self._stderr)
        for timer in (self._timer, self._kill):
            if timer is not None:
                timer.cancel()
        self._pool.left(self)

    def _forked(self, pid: int) -> None:
        self._pid = pid
        self._pool.source.watch(pid, self._reaped)

    def _reaped(self, status: int) -> None:
        self._status = status
        self._ended()

    def _ended(self) -> None:
        """It died: the call that ran fails, those that were given ahead go to others."""
        while self._read():
            pass  # what it still said
        if self._over or self._held:
            return
        if self.calls:
            self._read_stderr()
            first = self.calls.popleft()
            self._pool.put_back([call for call in self.calls if not call.cancelled])
            self.calls.clear()
            if not first.cancelled:
                body = pack([*_end(self._status), self._tail])
                # Also in the middle of an answer: it takes the place of that.
                self._pool.tell(DIED, first.number, 0, _TOTAL.pack(len(body)) + body)
        self._part()


def _end(status: int | None) -> tuple[int | None, str | None]:
    if status is None:
        return None, None
    if os.WIFSIGNALED(status):
        try:
            return None, signal.Signals(os.WTERMSIG(status)).name
        except ValueError:
            return None, "SIG%d" % os.WTERMSIG(status)
    return os.WEXITSTATUS(status), None
