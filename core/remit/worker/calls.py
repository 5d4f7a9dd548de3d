"""A worker of a pool: runs one call after another, for `Session.call`.

Packets on a socket, each a head (kind u8, number u64, total u64) and a part of ``total`` bytes;
what is larger than a packet comes in several, one after another.
"""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import TYPE_CHECKING

from remit import _values
from remit._limits import ValueRefused
from remit.worker import failures, job, outlet, programs

if TYPE_CHECKING:
    import socket as _socket
    from typing import Any

HEAD = struct.Struct(">BQQ")
# From the agent. The number is that of the program, or of the call.
PROGRAM = 1  # a byte: v or s (by value, by source), then its body
FORGET = 2
CALL = 3  # the number of its program u64, then its arguments
# To the agent. The number is that of the call.
VALUE = 1
FAILED = 2  # packed, as `remit.worker.failures` says
PICKLED = 3

PACKET = 1 << 16
_NUMBER = struct.Struct(">Q")
_KINDS = {b"v": "value", b"s": "source"}


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
        self._programs: dict[int, tuple[str, bytes]] = {}  # not yet called
        self._functions: dict[int, tuple[str, Any]] = {}
        self._working = False

    def work(self) -> None:
        signal.signal(signal.SIGINT, self._interrupt)
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
            elif kind == PROGRAM:
                # Loaded when it is first called, so that its failure is that call's.
                self._programs[number] = (_KINDS[bytes(data[:1])], bytes(data[1:]))
            elif kind == FORGET:
                self._programs.pop(number, None)
                self._functions.pop(number, None)

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
            self._working = True
            try:
                kind, buffers = self._answer(_NUMBER.unpack_from(data)[0], data[_NUMBER.size :])
            finally:
                self._working = False
        except BaseException as exc:  # SystemExit too: the worker is none the worse for it
            kind, buffers = FAILED, list(failures.told(exc)[1])
        if kind == FAILED:
            _flush()
        self._send(kind, number, buffers)

    def _answer(self, program: int, data: memoryview) -> tuple[int, list[Any]]:
        if program in self._programs:
            kind, body = self._programs[program]
            self._functions[program] = kind, programs.load(kind, body)
            del self._programs[program]
        kind, function = self._functions[program]
        value = job.plain(function(*programs.load_arguments(kind, data)))
        try:
            return VALUE, _values.encode(value)
        except ValueRefused:
            if not self._trust:
                raise
            return PICKLED, [outlet.pickled(value)]

    def _send(self, kind: int, number: int, buffers: list[Any]) -> None:
        total = sum(memoryview(buffer).nbytes for buffer in buffers)
        head = HEAD.pack(kind, number, total)
        if total <= PACKET:
            self._socket.send(head + b"".join(map(bytes, buffers)))
            return
        for buffer in buffers:
            view = memoryview(buffer).cast("B")
            for start in range(0, len(view), PACKET):
                self._socket.sendmsg([head, view[start : start + PACKET]])

    def _interrupt(self, signum: int, frame: object) -> None:
        """A call that nobody waits for any more is interrupted; there may be none by now."""
        if self._working:
            raise KeyboardInterrupt


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
