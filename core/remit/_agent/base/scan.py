"""Looking at many directories, of which some may hang: a dead server of files, an automount.

They are looked at in a further process. Where it does not come back from one, that one is given up,
and another process goes on with the rest. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import select
import signal
import struct
from typing import TYPE_CHECKING

from remit._wire.msgpack import pack, unpack

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, NoReturn

# Seconds that a directory may take; and once some have taken that, since the rest may be as dead.
PATIENCE = 2.0
_LESS = 0.2
_SOME = 4
_SIZE = struct.Struct(">Q")


class Hanging:
    """In the place of a value that did not come."""


def each(function: Callable[[str], object], names: list[str]) -> Iterator[tuple[str, Any]]:
    """Each name, and what ``function`` says of it, or `Hanging`. Raises OSError where no process
    can be had. The values are such as MessagePack can say."""
    hanging = 0
    at = 0
    while at < len(names):
        pid, fd = _scanner(function, names[at:])
        try:
            while at < len(names):
                value = _next(fd, PATIENCE if hanging < _SOME else _LESS)
                yield names[at], value
                at += 1
                if value is Hanging:
                    hanging += 1
                    break
        finally:
            os.close(fd)
            _end(pid)


def _scanner(function: Callable[[str], object], names: list[str]) -> tuple[int, int]:
    """A process that says all values, and a descriptor that they come on."""
    fd, writing = os.pipe()
    try:
        pid = os.fork()
        if not pid:
            os.close(fd)
            _scan(function, names, writing)
    except OSError:
        os.close(fd)
        raise
    finally:
        os.close(writing)
    return pid, fd


def _scan(function: Callable[[str], object], names: list[str], writing: int) -> NoReturn:
    try:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        for name in names:
            value = pack(function(name))
            left = memoryview(_SIZE.pack(len(value)) + value)
            while left:
                left = left[os.write(writing, left) :]
    finally:
        os._exit(0)


def _next(fd: int, patience: float) -> Any:
    head = _read(fd, _SIZE.size, patience)
    if head is None:
        return Hanging
    value = _read(fd, _SIZE.unpack(head)[0], patience)
    return Hanging if value is None else unpack(value)


def _read(fd: int, size: int, patience: float) -> bytes | None:
    pieces = []
    while size:
        if not select.select([fd], [], [], patience)[0]:
            return None
        piece = os.read(fd, size)
        if not piece:
            return None
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _end(pid: int) -> None:
    """It may be out of the reach even of a KILL; then it is reaped by whoever is left."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, os.WNOHANG)
    except (ProcessLookupError, ChildProcessError):
        pass
