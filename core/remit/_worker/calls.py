"""A worker of a pool: runs one call after another, for `Session.call`.

What comes and goes is packets on a socket, as `remit._wire.calls` has them.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from remit._values import codec
from remit._values.limits import ValueRefused
from remit._wire.calls import (
    CALL,
    CALL_HEAD,
    FAILED,
    FORGET,
    HEAD,
    PACKET,
    PICKLED,
    SORTS,
    VALUE,
    packets,
)
from remit._worker import failures, job, outlet, programs, spawning, state

if TYPE_CHECKING:
    import socket as _socket
    from typing import Any

# A program begins with a byte: by value, by source.
_KINDS = {first: kind for kind, first in SORTS.items()}


def run(trust: bool, channel: int, stderr: int) -> int:
    """The life of a worker; returns when its socket is over."""
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.dup2(stderr, 2)
    os.close(null)
    os.close(stderr)
    job.open_stdio()
    _Worker(channel, trust).work()
    return 0


class _Worker:
    def __init__(self, channel: int, trust: bool) -> None:
        import socket

        self._socket: _socket.socket = socket.socket(fileno=channel)
        self._trust = trust
        self._unread: dict[int, tuple[str, bytes]] = {}  # programs not yet called
        self._programs: dict[int, programs.Program] = {}
        self._working = False
        self._interrupts = 0
        self._pid = os.getpid()

    def work(self) -> None:
        signal.signal(signal.SIGINT, self._interrupt)
        spawning.install()
        before = state.State(job.open_stdio)
        while True:
            packet = self._socket.recv(HEAD.size + PACKET)
            if not packet:
                return
            kind, number, total = HEAD.unpack_from(packet)
            data: Any = memoryview(packet)[HEAD.size :]
            if len(data) < total:
                data = self._gather(data, total)
            if kind == CALL:
                self._call(number, data)
                if not before.repair():
                    # The next call gets another worker, whatever stands in the way of an end here.
                    os._exit(0)
            elif kind == FORGET:
                self._unread.pop(number, None)
                self._programs.pop(number, None)

    def _gather(self, data: memoryview, total: int) -> memoryview:
        whole = bytearray(data)
        while len(whole) < total:
            packet = self._socket.recv(HEAD.size + PACKET)
            if not packet:
                os._exit(0)
            whole += memoryview(packet)[HEAD.size :]
        return memoryview(whole)

    def _call(self, number: int, data: memoryview) -> None:
        try:
            try:
                self._working = True
                kind, buffers = self._answer(data)
            finally:
                self._working = False
        except BaseException as exc:  # SystemExit too: the worker is none the worse for it
            self._working = False
            if os.getpid() != self._pid:
                raise
            kind, buffers = FAILED, list(failures.told(exc)[1])
        if os.getpid() != self._pid:
            # A child of the function that came back: it ends as at the end of a script.
            sys.exit(0)
        if kind == FAILED:
            _flush()
        self._send(kind, number, buffers)

    def _answer(self, data: memoryview) -> tuple[int, list[Any]]:
        number, size, interrupts = CALL_HEAD.unpack_from(data)
        begin = CALL_HEAD.size
        if size and number not in self._programs:
            # Loaded when it is called, so that its failure is that call's.
            body = data[begin : begin + size]
            self._unread[number] = _KINDS[bytes(body[:1])], bytes(body[1:])
        if self._interrupts > interrupts:
            raise KeyboardInterrupt  # it came between the call and here
        self._interrupts = interrupts
        if number in self._unread:
            self._programs[number] = programs.Program(*self._unread[number])
            del self._unread[number]
        program = self._programs[number]
        try:
            value = job.plain(program(data[begin + size :]))
        finally:
            program.leave()
        try:
            return VALUE, codec.encode(value)
        except ValueRefused:
            if not self._trust:
                raise
            return PICKLED, [outlet.pickled(value)]

    def _send(self, kind: int, number: int, buffers: list[Any]) -> None:
        for packet in packets(kind, number, buffers):
            self._socket.sendmsg(packet)

    def _interrupt(self, signum: int, frame: object) -> None:
        """A call that nobody waits for any more is interrupted; it may be over, or not begun."""
        self._interrupts += 1
        if self._working:
            raise KeyboardInterrupt


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
