"""Turns: short pieces of work on files, done in processes that may wait for a file system.

The agent's loop must not wait, and a directory may hang: a dead server of files, an automount. So
what reads a job's directory is a turn in another process, one at a time for each job. One process
does them all, until it has not come back from one for a while: then the others go to a further
one, and only that job waits. Standard library only, Python 3.6.
"""

from __future__ import annotations

import _socket  # what `socket` has beyond it is not needed, and takes long to import
import os
import struct
import time
from collections import deque, namedtuple
from typing import TYPE_CHECKING

from remit._agent.base.helpers import EndedEarly, failed, forget_the_agent
from remit._agent.base.loop import nothing
from remit._wire.msgpack import UnpackError, pack, unpack
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from remit._agent.base.helpers import Done
    from remit._agent.base.loop import Timer
    from remit._agent.base.services import Place

# Seconds after which a process counts as stuck in its turn.
PATIENCE = 0.5
# How many there may be: those that are stuck are no use to anybody.
_MOST = 16
# In front of an answer: its size, and that of the bytes that come beside it as they are.
_SIZE = struct.Struct(">Q")
_SIZES = struct.Struct(">QQ")
_FD = struct.calcsize("i")
_PIECE = 1 << 18
# How much a process may have sent that was not read yet: then it goes on with the next turn.
_ROOM = 1 << 20

# key str: turns of one key come one after another; request bytes; done
_Turn = namedtuple("_Turn", "key request done")


class Turns:
    def __init__(self, place: Place, keep_fds: tuple[int, ...]) -> None:
        """``keep_fds`` are those of the agent's descriptors that the turns need."""
        self._place = place
        self._keep_fds = keep_fds
        self._waiting: deque[_Turn] = deque()
        self._workers: list[_Worker] = []
        self._timer: Timer | None = None

    def ask(self, key: str, name: str, args: tuple[object, ...], done: Done) -> None:
        """Has `remit._agent.kept.looks` do it; then ``done(value, None)``, or ``done(None, why)``.

        The value is a map; where a descriptor comes with it, that is its ``fd``, and its ``data``
        is a memoryview, until ``done`` returns. Raises OSError where no process can be had.
        """
        turn = _Turn(key, pack([name, args]), self._place.loop.bound(done))
        self._waiting.append(turn)
        if not self._workers:
            try:
                self._hire()
            except OSError:
                self._waiting.remove(turn)
                raise
        self._give()

    def _hire(self) -> None:
        loop = self._place.loop
        before, loop.owner = loop.owner, None  # it is nobody's own
        try:
            self._workers.append(_Worker(self._place, self._keep_fds, self._free))
        finally:
            loop.owner = before

    def _free(self, worker: _Worker) -> None:
        if worker.gone:
            self._workers.remove(worker)
        elif sum(each.turn is None for each in self._workers) > 1:
            self._workers.remove(worker)
            worker.dismiss()
        self._give()

    def _give(self) -> None:
        """Gives turns that wait to processes that have none."""
        busy = {each.turn.key for each in self._workers if each.turn is not None}
        for worker in self._workers:
            if worker.turn is None:
                turn = next((turn for turn in self._waiting if turn.key not in busy), None)
                if turn is None:
                    return
                self._waiting.remove(turn)
                busy.add(turn.key)
                worker.begin(turn)
        if self._waiting and self._timer is None:
            self._timer = self._place.loop.call_later(PATIENCE / 2, self._look_for_stuck)

    def _look_for_stuck(self) -> None:
        self._timer = None
        busy = {each.turn.key for each in self._workers if each.turn is not None}
        due = any(turn.key not in busy for turn in self._waiting)
        if due and len(self._workers) < _MOST and all(each.stuck for each in self._workers):
            try:
                self._hire()
            except OSError:
                pass  # tried again as long as somebody waits
        self._give()


class _Worker:
    """One process. ``turn`` is what it is at, ``gone`` whether it has ended."""

    def __init__(
        self, place: Place, keep_fds: tuple[int, ...], free: Callable[[_Worker], object]
    ) -> None:
        self.turn: _Turn | None = None
        self.gone = False
        self._place = place
        self._free = free
        self._began = 0.0
        self._head = b""  # of an answer, as far as it has come
        self._memory = bytearray()  # of the largest answer so far: to get it anew takes long
        self._answer = memoryview(b"")  # where in it the rest of the answer goes
        self._filled = 0
        self._fds: list[int] = []
        self._unsent = memoryview(b"")
        self._socket, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        theirs.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, _ROOM)  # at most what may be had
        try:
            pid = os.fork()
            if not pid:
                _serve(theirs, keep_fds)
        except OSError:
            self._socket.close()
            raise
        finally:
            theirs.close()
        self._socket.setblocking(False)
        place.children.watch(pid, nothing)  # the end of its socket tells
        place.loop.watch_fd(self._socket.fileno(), self._readable)

    @property
    def stuck(self) -> bool:
        return self.turn is not None and time.monotonic() - self._began >= PATIENCE

    def begin(self, turn: _Turn) -> None:
        self.turn = turn
        self._began = time.monotonic()
        self._unsent = memoryview(_SIZE.pack(len(turn.request)) + turn.request)
        self._write()

    def _write(self) -> None:
        fd = self._socket.fileno()
        try:
            while self._unsent:
                self._unsent = self._unsent[os.write(fd, self._unsent) :]
        except BlockingIOError:
            self._place.loop.watch_writable(fd, self._write)
            return
        except OSError:
            pass  # its end is told by the other way
        self._place.loop.unwatch_writable(fd)

    def _readable(self) -> None:
        try:
            came = self._take_head() if len(self._head) < _SIZES.size else self._take_rest()
        except BlockingIOError:
            return
        except OSError:
            came = False
        if not came:
            self._end()
        elif len(self._head) == _SIZES.size and self._filled == len(self._answer):
            size = _SIZES.unpack(self._head)[0]
            answer, data = self._answer[:size], self._answer[size:]
            self._head, self._answer, self._filled = b"", memoryview(b""), 0
            self._done(*_result(bytes(answer), data))

    def _take_head(self) -> bool:
        """Whether anything came; an answer's descriptors come with its first byte."""
        data, rights, _, _ = self._socket.recvmsg(
            _SIZES.size - len(self._head), _socket.CMSG_SPACE(_FD), _socket.MSG_CMSG_CLOEXEC
        )
        for _, _, fds in rights:
            self._fds += struct.unpack("%di" % (len(fds) // _FD), fds)
        self._head += data
        if len(self._head) == _SIZES.size:
            size = sum(_SIZES.unpack(self._head))
            if size > len(self._memory):
                self._memory = bytearray(size)
            self._answer = memoryview(self._memory)[:size]
        return bool(data)

    def _take_rest(self) -> bool:
        size = self._socket.recv_into(self._answer[self._filled :])
        self._filled += size
        return bool(size)

    def _done(self, value: Any, refused: Refused | None) -> None:
        turn, self.turn = self.turn, None
        fds, self._fds = self._fds, []
        if fds and isinstance(value, dict):
            value["fd"] = fds.pop()
        for fd in fds:
            os.close(fd)
        if turn is not None:
            turn.done(value, refused)
        self._free(self)

    def _end(self) -> None:
        """It was killed: whoever waits for it is told, and may ask again."""
        self.dismiss()
        self._done(None, EndedEarly("internal", "the process that did it was killed"))

    def dismiss(self) -> None:
        """It ends at the end of its socket."""
        self.gone = True
        self._place.loop.unwatch_fd(self._socket.fileno())
        self._place.loop.unwatch_writable(self._socket.fileno())
        self._socket.close()


def _result(answer: bytes, data: memoryview) -> tuple[Any, Refused | None]:
    try:
        told: Any = unpack(answer)
    except UnpackError as exc:
        return None, Refused("internal", "a helper process gave a malformed answer", str(exc))
    return (dict(told[1], data=data), None) if told[0] else (None, Refused(**told[1]))


def _serve(asked: _socket.socket, keep_fds: tuple[int, ...]) -> NoReturn:
    """The life of such a process, until the agent is gone."""
    try:
        forget_the_agent({0, 1, 2, asked.fileno(), *keep_fds})
        from remit._agent.kept import looks

        while True:
            request: Any = unpack(_read(asked, _SIZE.unpack(_read(asked, _SIZE.size))[0]))
            name, args = request
            fd, data = -1, []
            try:
                value = looks.TURNS[name](*args)
                fd, data = value.pop("fd", -1), value.pop("data", [])
                answer = pack([True, value])
            except Exception as exc:
                answer = pack([False, failed(exc)])
            _tell(asked, answer, data, fd)
    finally:
        os._exit(0)


def _read(asked: _socket.socket, size: int) -> bytes:
    pieces = []
    while size:
        piece = asked.recv(min(size, _PIECE))
        if not piece:
            os._exit(0)
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


def _tell(asked: _socket.socket, answer: bytes, data: list[bytes], fd: int) -> None:
    head = _SIZES.pack(len(answer), sum(map(len, data)))
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", fd))] if fd >= 0 else []
    asked.sendmsg([head], rights)
    if fd >= 0:
        os.close(fd)
    asked.sendall(answer)
    for each in data:
        asked.sendall(each)
