"""One worker of a pool: a fork of the warm interpreter, and the socket to it.

A worker whose calls are short is given some ahead, so that it need not wait for the agent between
them. Both ends of its socket are kept here: what it has not read yet can be read back, and given to
another. That is only done where all there is are whole messages, a packet each; what is larger goes
to a worker that has nothing else to do.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING

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
from remit._wire.streams import STDERR_TAIL

if TYPE_CHECKING:
    from typing import Iterator, Sequence

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
        self._interrupts = 0
        self._pid = 0
        self._status: int | None = None
        self._unborn = False  # to be killed as soon as its pid is known
        self._dead = False  # ended, or never came to be
        self._began = 0.0  # when the first of `calls` became the first
        self._quick = 1.0  # seconds that its calls take, smoothed
        self._sent = 0  # bytes of the answer that is being told
        self._held = b""  # a packet for which there was no credit
        self._out: deque[bytes] = deque()
        self._tail = b""
        self._timer: Timer | None = None
        self._kill: Timer | None = None
        self._over = False
        ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        try:
            self._stderr, stderr = os.pipe()
        except OSError:
            self._close_sockets()
            raise
        try:
            fds = [self._theirs.fileno(), stderr]
            pool.source.fork("calls", pool.trust, fds, lambda: os.close(stderr), self._forked)
        except Exception:
            os.close(stderr)
            os.close(self._stderr)
            self._close_sockets()
            raise
        ours.setblocking(False)
        os.set_blocking(self._stderr, False)
        self._link.loop.watch_fd(ours.fileno(), self._readable)
        self._link.loop.watch_fd(self._stderr, self._read_stderr)

    def _close_sockets(self) -> None:
        self._socket.close()
        self._theirs.close()

    # -- what may be given to it

    @property
    def _has_had_its_share(self) -> bool:
        return self._given >= self._pool.most_calls

    @property
    def is_idle(self) -> bool:
        return not (self.calls or self._dead or self._has_had_its_share)

    def takes_ahead(self, call: Call) -> bool:
        """Whether it may be given the call while another one runs."""
        return (
            self._quick <= _SHORT
            and bool(self.calls)
            and not (self._dead or self._has_had_its_share or self.calls[-1].cancelled)
            and self._is_small(call)
            and not self._alone
        )

    def _is_small(self, call: Call) -> bool:
        """Whether it is one packet, so that it can be given ahead, and taken back."""
        program = 0 if call.program.number in self._known else len(call.program.body)
        return CALL_HEAD.size + program + len(call.arguments) <= PACKET

    # -- calls

    def give(self, call: Call) -> None:
        if not self.calls:
            self._began = time.monotonic()
            self._alone = not self._is_small(call)
        self.calls.append(call)
        self._given += 1
        for number in self._stale:
            self._out.append(HEAD.pack(FORGET, number, 0))
        self._stale.clear()
        self._out.extend(self._packets(call))
        self._write()
        if len(self.calls) > 1 and self._timer is None:
            self._timer = self._link.loop.call_later(_TOO_LONG, self._look_at_the_first)

    def _packets(self, call: Call) -> Iterator[bytes]:
        program = call.program
        body = b"" if program.number in self._known else program.body
        # How often it was interrupted before: a signal that comes after is about this call.
        head = CALL_HEAD.pack(program.number, len(body), self._interrupts)
        for packet in packets(CALL, call.number, (head, body, call.arguments)):
            yield b"".join(packet)

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
            if self._out:
                # It has read a part of a large call, and nobody needs the rest.
                self._kill_with(signal.SIGKILL)
            else:
                self._interrupt(_INTERRUPTS)
        return True

    def _interrupt(self, pauses: Sequence[float]) -> None:
        """More than once: a worker that has only just been forked does not hear it yet."""
        if not pauses:
            self._kill_with(signal.SIGKILL)
            return
        self._interrupts += 1
        self._kill_with(signal.SIGINT)
        self._kill = self._link.loop.call_later(pauses[0], lambda: self._interrupt(pauses[1:]))

    def _kill_with(self, signum: int) -> None:
        if not self._pid:
            self._unborn = signum == signal.SIGKILL
        elif not self._dead:
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
            self._timer = self._link.loop.call_later(_TOO_LONG - late, self._look_at_the_first)

    def _take_back(self) -> None:
        """What it has not read yet goes back to the pool."""
        if self._alone:
            return  # it may have been read in part
        unread = []
        while True:
            try:
                unread.append(self._theirs.recv(HEAD.size + PACKET, socket.MSG_DONTWAIT))
            except OSError:
                break
        unread += self._out
        self._out.clear()
        back = set()
        for kind, number, _ in map(HEAD.unpack_from, unread):
            if kind == CALL:
                back.add(number)
            else:
                self._stale.add(number)
        waiting = [call for call in self.calls if call.number in back]
        self.calls = deque(call for call in self.calls if call.number not in back)
        self._given -= len(back)
        self._pool.put_back(waiting)

    # -- packets out

    def _write(self) -> None:
        while self._out and not self._over:
            try:
                self._socket.send(self._out[0])
            except BlockingIOError:
                self._link.loop.watch_writable(self._socket.fileno(), self._write)
                return
            except OSError:
                return  # its end is told by the other way
            self._out.popleft()
        if not self._over:
            self._link.loop.unwatch_writable(self._socket.fileno())

    # -- packets in

    def read_on(self) -> None:
        """There may be room again for what it says."""
        if self._over or not (self._held or self._dead) or not self._pool.may_tell():
            return
        packet, self._held = self._held, b""
        if packet:
            self._link.loop.watch_fd(self._socket.fileno(), self._readable)
            self._take(packet)
        self._readable()

    def _readable(self) -> None:
        for _ in range(_TURN):
            if not self._read():
                break
        if self._dead:
            self._ended()
        self._pool.dispatch()

    def _read(self) -> bool:
        """Takes a packet; whether there was one, and room for what it says."""
        if self._over or self._held:
            return False
        try:
            packet = self._socket.recv(HEAD.size + PACKET)
        except OSError:
            return False
        if not self._pool.may_tell():
            self._held = packet
            self._link.loop.unwatch_fd(self._socket.fileno())
            return False
        self._take(packet)
        return True

    def _take(self, packet: bytes) -> None:
        if not self._makes_sense(packet):
            # Whatever it runs has got at the socket.
            self._kill_with(signal.SIGKILL)
            return
        kind, number, total = HEAD.unpack_from(packet)
        data = packet[HEAD.size :]
        size = len(data)
        if not self.calls[0].cancelled:
            if not self._sent:
                data = TOTAL.pack(total) + data
                if kind == FAILED:
                    self._read_stderr()
                    self._pool.tell(TAIL, number, 0, sized(self._tail))
            self._pool.tell(kind, number, self._sent, data)
        self._sent += size
        if self._sent >= total:
            self._answered()

    def _makes_sense(self, packet: bytes) -> bool:
        if len(packet) < HEAD.size or not self.calls:
            return False
        kind, number, total = HEAD.unpack_from(packet)
        size = len(packet) - HEAD.size
        return (
            kind in (VALUE, FAILED, PICKLED)
            and number == self.calls[0].number
            and 0 < size <= total - self._sent
        )

    def _answered(self) -> None:
        self._sent = 0
        self._answers += 1
        now = time.monotonic()
        self._quick += (now - self._began - self._quick) * 0.3
        self._began = now
        self._tail = b""
        if self._kill is not None:
            self._kill.cancel()
            self._kill = None
        program = self.calls.popleft().program
        (self._stale if program.forgotten else self._known).add(program.number)
        if not self.calls and self._has_had_its_share:
            self._part()

    def _read_stderr(self) -> None:
        try:
            while True:
                data = os.read(self._stderr, 1 << 16)
                if not data:
                    self._link.loop.unwatch_fd(self._stderr)
                    return
                self._tail = (self._tail + data)[-STDERR_TAIL:]
        except BlockingIOError:
            pass

    # -- its end

    def dismiss(self) -> None:
        """Nobody wants its answers any more."""
        if self.calls:
            self._kill_with(signal.SIGKILL)
        self._part()

    def _part(self) -> None:
        """Tells it to end, by the end of its socket, and lets go of it."""
        if self._over:
            return
        self._over = True
        self._link.loop.unwatch_fd(self._socket.fileno())
        self._link.loop.unwatch_writable(self._socket.fileno())
        self._link.loop.unwatch_fd(self._stderr)
        self._close_sockets()
        os.close(self._stderr)
        for timer in (self._timer, self._kill):
            if timer is not None:
                timer.cancel()
        if not self._dead:
            self._kill = self._link.loop.call_later(_GRACE, lambda: self._kill_with(signal.SIGKILL))
        self._pool.left(self)

    def _forked(self, pid: int, error: int) -> None:
        if pid:
            self._pid = pid
            self._pool.source.watch(pid, self._reaped)
            if self._unborn:
                self._kill_with(signal.SIGKILL)
            return
        self._dead = True
        if not self._over:
            calls, self.calls = self.calls, deque()
            self._pool.refuse(OSError(error, os.strerror(error)), calls)
            self._part()

    def _reaped(self, status: int | None) -> None:
        self._dead = True
        self._status = status
        if self._over and self._kill is not None:
            self._kill.cancel()
        self._ended()

    def _ended(self) -> None:
        """It died: the call that ran fails, those that were given ahead go to others."""
        while self._read():
            pass  # what it still said
        if self._over or self._held:
            return
        if self.calls:
            if not self._pool.may_tell():
                return  # `read_on` comes back here
            if self._answers:
                self._take_back()  # one that never answered is not tried again
        if self.calls:
            first = self.calls.popleft()
            self._pool.put_back(self.calls)
            self.calls.clear()
            self._tell_of_its_death(first)
        self._part()

    def _tell_of_its_death(self, call: Call) -> None:
        if not call.cancelled:
            self._read_stderr()
            how = of_status(self._status)
            body = pack([how.exit_status, how.signal, self._tail])
            # Also in the middle of an answer: it takes the place of that.
            self._pool.tell(DIED, call.number, 0, sized(body))
