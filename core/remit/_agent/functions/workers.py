"""One worker of a pool: a fork of the warm interpreter, and the socket to it.

A worker whose calls are short is given some ahead, so that it need not wait for the agent between
them. Both ends of its socket are kept here: what it has not read yet can be read back, and given to
another. That is only done where all there is are whole messages, a packet each; what is larger goes
to a worker that has nothing else to do.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING

from remit._agent.functions.worker_process import Line, Process, Stderr
from remit._wire.calls import (
    CALL,
    CALL_HEAD,
    DIED,
    FAILED,
    FORGET,
    HEAD,
    PACKET,
    PICKLED,
    TAIL,
    TOTAL,
    VALUE,
    packets,
    sized,
)
from remit._wire.ended import of_status
from remit._wire.msgpack import pack

if TYPE_CHECKING:
    from typing import Collection, Iterator

    from remit._agent.base.loop import Timer
    from remit._agent.functions.pool import Call, Pool, Program

# Seconds that calls take at most of a worker that is given some ahead; and how long the first of
# them may take before the others are taken back.
_SHORT = 0.002
_TOO_LONG = 0.01
# Seconds after each INT to a worker whose call was cancelled, until its KILL.
_INTERRUPTS = (0.5, 1.5, 3.0)
# Those that it has to end once it has nothing more to do.
_GRACE = 5.0
# Packets taken from one worker before others have their turn.
_TURN = 64


def _is_small(call: Call, known: Collection[int]) -> bool:
    """Whether it is one packet, so that it can be given ahead, and taken back."""
    program = 0 if call.program.number in known else len(call.program.body)
    return CALL_HEAD.size + program + len(call.arguments) <= PACKET


def _packets(call: Call, known: Collection[int], interrupts: int) -> Iterator[bytes]:
    """``interrupts``: how often the worker was before. A signal that comes after is about this
    call."""
    program = call.program
    body = b"" if program.number in known else program.body
    head = CALL_HEAD.pack(program.number, len(body), interrupts)
    for packet in packets(CALL, call.number, (head, body, call.arguments)):
        yield b"".join(packet)


def _death(status: int | None, tail: bytes) -> bytes:
    how = of_status(status)
    return sized(pack([how.exit_status, how.signal, tail]))


def _makes_sense(packet: bytes, call: Call | None, sent: int) -> bool:
    """As the answer to the call that runs, of which so much was sent on."""
    if len(packet) < HEAD.size or call is None:
        return False
    kind, number, total = HEAD.unpack_from(packet)
    known = kind in (VALUE, FAILED, PICKLED) and number == call.number
    return known and 0 < len(packet) - HEAD.size <= total - sent


class Worker:
    def __init__(self, pool: Pool) -> None:
        """Has it forked. Raises OSError and Refused, and then leaves nothing behind."""
        self.calls: deque[Call] = deque()  # given and not yet answered; the first one runs
        self._pool = pool
        self._link = pool.link
        self._known: set[int] = set()  # programs with which it has answered a call
        self._stale: set[int] = set()  # those of them that it is to forget
        self._alone = False  # what was given is more than a packet, and nothing is given with it
        self._given = 0
        self._answers = 0
        self._began = 0.0  # when the first of `calls` became the first
        self._quick = 1.0  # seconds that its calls take, smoothed
        self._sent = 0  # bytes of the answer that is being told
        self._held = b""  # a packet for which there was no credit
        self._timer: Timer | None = None
        self._process = Process(self._link.loop)
        self._line = Line(self._link.loop)
        try:
            self._stderr = Stderr(self._link.loop)
        except OSError:
            self._line.close()
            raise
        stderr = self._stderr.theirs
        try:
            fds = [self._line.theirs.fileno(), stderr]
            pool.source.fork("calls", pool.trust, fds, lambda: os.close(stderr), self._forked)
        except Exception:
            os.close(stderr)
            self._stderr.close()
            self._line.close()
            raise
        self._line.watch(self._readable)
        self._stderr.watch()

    # -- what may be given to it

    @property
    def _has_had_its_share(self) -> bool:
        return self._given >= self._pool.most_calls

    @property
    def is_idle(self) -> bool:
        return not (self.calls or self._process.dead or self._has_had_its_share)

    def takes_ahead(self, call: Call) -> bool:
        """Whether it may be given the call while another one runs."""
        return (
            self._quick <= _SHORT
            and bool(self.calls)
            and not (self._process.dead or self._has_had_its_share or self.calls[-1].cancelled)
            and _is_small(call, self._known)
            and not self._alone
        )

    # -- calls

    def give(self, call: Call) -> None:
        if not self.calls:
            self._began = time.monotonic()
            self._alone = not _is_small(call, self._known)
        self.calls.append(call)
        self._given += 1
        forgets = [HEAD.pack(FORGET, number, 0) for number in self._stale]
        self._stale.clear()
        self._line.send([*forgets, *_packets(call, self._known, self._process.interrupts)])
        if len(self.calls) > 1 and self._timer is None:
            self._timer = self._link.loop.call_later(_TOO_LONG, self._look_at_the_first)

    def forget(self, program: Program) -> None:
        if program.number in self._known:
            self._known.discard(program.number)
            self._stale.add(program.number)

    def cancel(self, number: int) -> bool:
        """Whether it had that call. Nothing else may be hit: what was given ahead is taken back
        before the worker is interrupted, so that after this call it is between calls."""
        for call in self.calls:
            if call.number == number:
                break
        else:
            return False
        if call.cancelled:
            return True
        call.cancelled = True
        self._take_back()
        # It runs if it is the last that was read. If not, its answer is on its way already.
        if self.calls and self.calls[-1] is call:
            if self._line.is_all_out:
                self._process.interrupt(_INTERRUPTS)
            else:
                # It has read a part of a large call, and nobody needs the rest.
                self._process.kill()
        return True

    def _look_at_the_first(self) -> None:
        """What was given ahead is not to wait behind a call that takes long."""
        self._timer = None
        if len(self.calls) < 2 or not self._line.is_open:
            return
        late = time.monotonic() - self._began
        if late >= _TOO_LONG:
            self._quick = max(self._quick, late)
            self._take_back()
            self._pool.dispatch()
        else:
            self._timer = self._link.loop.call_later(_TOO_LONG - late, self._look_at_the_first)

    def _take_back(self) -> None:
        """What it has not read yet goes back to the pool."""
        if self._alone:
            return  # it may have been read in part
        back = set()
        for kind, number, _ in map(HEAD.unpack_from, self._line.take_back()):
            if kind == CALL:
                back.add(number)
            else:
                self._stale.add(number)
        waiting = [call for call in self.calls if call.number in back]
        self.calls = deque(call for call in self.calls if call.number not in back)
        self._given -= len(back)
        self._pool.put_back(waiting)

    # -- packets in

    def read_on(self) -> None:
        """There may be room again for what it says."""
        if (
            not (self._line.is_open and (self._held or self._process.dead))
            or not self._pool.answers.may_tell()
        ):
            return
        packet, self._held = self._held, b""
        if packet:
            self._line.watch(self._readable)
            self._take(packet)
        self._readable()

    def _readable(self) -> None:
        for _ in range(_TURN):
            if not self._read():
                break
        if self._process.dead:
            self._ended()
        self._pool.dispatch()

    def _read(self) -> bool:
        """Takes a packet; whether there was one, and room for what it says."""
        if self._held or not self._line.is_open:
            return False
        packet = self._line.receive()
        if packet is None:
            return False
        if not self._pool.answers.may_tell():
            self._held = packet
            self._line.unwatch()
            return False
        self._take(packet)
        return True

    def _take(self, packet: bytes) -> None:
        if not _makes_sense(packet, self.calls[0] if self.calls else None, self._sent):
            # Whatever it runs has got at the socket.
            self._process.kill()
            return
        kind, number, total = HEAD.unpack_from(packet)
        data = packet[HEAD.size :]
        size = len(data)
        if not self.calls[0].cancelled:
            if not self._sent:
                data = TOTAL.pack(total) + data
                if kind == FAILED:
                    self._stderr.read()
                    self._pool.answers.tell(TAIL, number, 0, sized(self._stderr.tail))
            self._pool.answers.tell(kind, number, self._sent, data)
        self._sent += size
        if self._sent >= total:
            self._answered()

    def _answered(self) -> None:
        self._sent = 0
        self._answers += 1
        now = time.monotonic()
        self._quick += (now - self._began - self._quick) * 0.3
        self._began = now
        self._stderr.tail = b""
        self._process.spare()
        program = self.calls.popleft().program
        (self._stale if program.forgotten else self._known).add(program.number)
        if not self.calls and self._has_had_its_share:
            self._part()

    # -- its end

    def dismiss(self) -> None:
        """Nobody wants its answers any more."""
        if self.calls:
            self._process.kill()
        self._part()

    def _part(self) -> None:
        """Tells it to end, by the end of its socket, and lets go of it."""
        if not self._line.is_open:
            return
        self._line.close()
        self._stderr.close()
        if self._timer is not None:
            self._timer.cancel()
        self._process.kill_after(_GRACE)
        self._pool.left(self)

    def _forked(self, pid: int, error: int) -> None:
        if pid:
            self._pool.source.watch(pid, self._reaped)
            self._process.born(pid)
            return
        self._process.dead = True
        if self._line.is_open:
            calls, self.calls = self.calls, deque()
            self._pool.answers.refuse(OSError(error, os.strerror(error)), calls)
            self._part()

    def _reaped(self, status: int | None) -> None:
        self._process.dead = True
        self._process.status = status
        if not self._line.is_open:
            self._process.spare()
        self._ended()

    def _ended(self) -> None:
        """It died: the call that ran fails, those that were given ahead go to others."""
        while self._read():
            pass  # what it still said
        if self._held or not self._line.is_open:
            return
        if self.calls:
            if not self._pool.answers.may_tell():
                return  # `read_on` comes back here
            if self._answers:
                self._take_back()  # one that never answered is not tried again
        if self.calls:
            first = self.calls.popleft()
            self._pool.put_back(self.calls)
            self.calls.clear()
            if not first.cancelled:
                self._stderr.read()
                # Also in the middle of an answer: it takes the place of that.
                body = _death(self._process.status, self._stderr.tail)
                self._pool.answers.tell(DIED, first.number, 0, body)
        self._part()
