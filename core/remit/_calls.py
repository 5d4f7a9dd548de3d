"""`Session.call`: functions in the warm workers of a target, many at a time over one channel."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel

from remit import _said
from remit._conversation import Piece
from remit._errors import JobFailed, LinkLost, RemitError, RemoteProtocolError
from remit._interpreter import Interpreter
from remit._link import Link, Listener
from remit._messages import Workers, decode
from remit._peer import Peer
from remit._result import STDERR_TAIL

if TYPE_CHECKING:
    from remit import _functions
    from remit._session import Session

# What goes as streams of DATA, with the number of the program or of the call as the piece's seq.
# The first piece of each begins with the size of the whole, u64. See docs/wire.md.
_PROGRAM, _FORGET, _CALL = 1, 2, 3
_VALUE, _FAILED, _PICKLED, _DIED, _TAIL = 1, 2, 3, 4, 5
_TOTAL = struct.Struct(">Q")
_NUMBER = struct.Struct(">Q")
_KINDS = {"value": b"v", "source": b"s"}
_PIECE = 1 << 16
# What the target may send of answers before they are taken here.
_WINDOW = 1 << 22
_GRANT = _WINDOW // 4
# Functions that the workers are to know at the same time.
_MOST_PROGRAMS = 128
# Values are no larger (docs/values.md, Limits); pickles may be.
_MOST = 1 << 32
# What the agent takes of one call: it holds it until a worker is free.
MAX_ARGUMENTS = 256 << 20


class _Call:
    """One call on its way. ``answer`` is kind and body once it is there."""

    __slots__ = ("answer", "done", "error", "stderr", "unread")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer: tuple[int, bytes | bytearray] | None = None
        self.error: RemitError | None = None
        self.stderr = b""
        self.unread: _Unread | None = None


class _Unread:
    __slots__ = ("data", "kind", "total")

    def __init__(self, kind: int, total: int, data: bytes) -> None:
        self.kind = kind
        self.total = total
        self.data = bytearray(data)


class Calls(Listener):
    """The channel of calls to one interpreter, over one link. When that is lost so are the calls
    that were on their way."""

    def __init__(self, link: Link, peer: Peer, trust: bool, place: str) -> None:
        self.over = False
        self._link = link
        self._peer = peer
        self._trust = trust
        self._place = place
        self._number = 0
        self._calls: dict[int, _Call] = {}
        self._count = 0
        self._programs: dict[bytes, int] = {}  # their numbers by digest; least used first
        self._program_count = 0
        self._owed = 0
        self._room = anyio.Event()

    @classmethod
    def open(
        cls,
        link: Link,
        interpreter: Interpreter,
        peer: Peer,
        workers: int | None,
        most_calls: int,
        trust: bool,
        place: str,
    ) -> Self:
        self = cls(link, peer, trust, place)
        arguments = {
            "python": interpreter.path,
            "workers": workers,
            "most_calls": most_calls,
            "trust": trust,
        }
        self._number = link.open("pool", arguments, self, _WINDOW)
        return self

    def serves(self, link: Link, peer: Peer) -> bool:
        return not self.over and self._link is link and self._peer == peer

    async def call(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """As `Session.call`."""
        from remit import _functions  # with cloudpickle it is slow to import

        program = _functions.program(fn, self._peer)
        data = _functions.arguments(args, self._peer, program.kind)
        if len(data) > MAX_ARGUMENTS:
            raise ValueError(
                f"arguments of {len(data)} bytes, a call takes {MAX_ARGUMENTS}; a job "
                "(session.start) takes more"
            )
        known = self._programs.pop(program.digest, None)
        if known is None:
            known = await self._introduce(program)
        self._programs[program.digest] = known
        self._count += 1
        number = self._count
        call = self._calls[number] = _Call()
        try:
            await self._send(_CALL, number, _NUMBER.pack(known) + data)
            await call.done.wait()
        except BaseException:
            if self._calls.pop(number, None) is not None and not self.over:
                self._link.event(self._number, "cancel", call=number)
            raise
        return self._taken(call, program.name)

    async def _introduce(self, program: _functions.Program) -> int:
        self._program_count += 1
        number = self._program_count
        await self._send(_PROGRAM, number, _KINDS[program.kind] + program.body)
        if len(self._programs) >= _MOST_PROGRAMS:
            oldest = next(iter(self._programs))
            await self._send(_FORGET, self._programs.pop(oldest), b"")
        return number

    async def _send(self, kind: int, number: int, data: bytes) -> None:
        link, channel = self._link, self._number
        whole = _TOTAL.pack(len(data)) + data
        if link.credit(channel) >= len(whole) and len(whole) <= _PIECE:
            link.data(channel, Piece(kind, number, 0, 0.0, whole))
            if len(self._calls) == 1:
                link.flush()
            return
        view = memoryview(whole)
        sent = 0
        while view:
            if self.over:
                raise LinkLost("the link was lost in the middle of a call")
            room = min(link.credit(channel), _PIECE)
            # The first piece has to hold the size.
            if room >= _TOTAL.size or (room and sent):
                link.data(channel, Piece(kind, number, sent, 0.0, bytes(view[:room])))
                view = view[room:]
                sent += room
            elif link.congested:
                await link.drained()
            else:
                await self._room.wait()

    def _taken(self, call: _Call, name: str) -> Any:
        if call.error is not None:
            raise call.error
        assert call.answer is not None
        kind, body = call.answer
        whose = f"{name}() on {self._place}"
        if kind == _VALUE:
            return _said.taken(body, whose)
        if kind == _PICKLED:
            return _said.unpickled(body, self._trust, whose)
        if kind == _FAILED:
            raise _said.failed(
                decode(bytes(body), _said.Failure),
                whose,
                location=self._place,
                reason="exited",
                stderr_tail=call.stderr,
            )
        exit_status, signal, stderr = decode(bytes(body), tuple[int | None, str | None, bytes])
        if signal is not None:
            how = f"was ended by {signal}"
        elif exit_status is not None:
            how = f"exited with status {exit_status}"
        else:
            how = "was lost with the interpreter that it came from"
        lines = stderr.decode("utf-8", "replace").strip().splitlines()[-5:]
        raise JobFailed(
            f"the worker that ran {whose} {how}",
            location=self._place,
            exit_status=exit_status,
            signal=signal,
            reason="signalled" if signal else "exited",
            stderr_tail=stderr,
            evidence="\n".join(f"stderr  {line}" for line in lines),
        )

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        decode(body, Workers)

    def data(self, piece: Piece) -> None:
        kind, number, offset, data = piece.stream, piece.seq, piece.offset, piece.data
        self._owed += len(data)
        if self._owed >= _GRANT:
            self._link.grant(self._number, self._owed)
            self._owed = 0
        call = self._calls.get(number)
        if call is None:
            if not 0 < number <= self._count:
                raise RemoteProtocolError(f"an answer to call {number}, which nobody made")
            return  # given up here meanwhile
        if not offset:
            if len(data) < _TOTAL.size:
                raise RemoteProtocolError(f"an answer to call {number} without its size")
            total = _TOTAL.unpack_from(data)[0]
            data = data[_TOTAL.size :]
            if total > _MOST and kind != _PICKLED:
                raise RemoteProtocolError(f"an answer to call {number} of {total} bytes")
            if len(data) < total:
                call.unread = _Unread(kind, total, data)
                return
            if len(data) > total:
                raise RemoteProtocolError(f"an answer to call {number} larger than it said")
            self._answer(call, number, kind, data)
            return
        unread = call.unread
        if unread is None or unread.kind != kind or offset != len(unread.data):
            raise RemoteProtocolError(f"an answer to call {number} goes on at {offset}")
        unread.data += data
        if len(unread.data) >= unread.total:
            if len(unread.data) > unread.total:
                raise RemoteProtocolError(f"an answer to call {number} larger than it said")
            self._answer(call, number, kind, unread.data)

    def _answer(self, call: _Call, number: int, kind: int, body: bytes | bytearray) -> None:
        if kind == _TAIL:
            call.stderr = bytes(body[-STDERR_TAIL:])
            call.unread = None
            return
        if kind not in (_VALUE, _FAILED, _PICKLED, _DIED):
            raise RemoteProtocolError(f"an answer of kind {kind}")
        call.answer = kind, body
        del self._calls[number]
        call.done.set()

    def credit(self) -> None:
        self._room.set()
        self._room = anyio.Event()

    def refused(self, error: RemitError) -> None:
        self._finish(error)

    def ended(self, body: bytes) -> None:
        self._finish(
            JobFailed(
                f"the interpreter for functions on {self._place} was killed",
                location=self._place,
                reason="signalled",
                hint="the next call starts another",
            )
        )

    def lost(self, error: RemitError) -> None:
        self._finish(error)

    def _finish(self, error: RemitError) -> None:
        self.over = True
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.error = error.again()
            call.done.set()
        self.credit()


async def call(
    session: Session, fn: Callable[..., Any], args: tuple[Any, ...], python: str | None
) -> Any:
    """As `Session.call`. Opens what is not open yet."""
    interpreter = session._interpreter(python)
    calls = session._calls.get(interpreter)
    link = session._link
    peer = interpreter.known(link)
    if calls is None or link is None or peer is None or not calls.serves(link, peer):
        peer = await interpreter.peer()
        link = await session._ready()
        calls = session._calls.get(interpreter)
        if calls is None or not calls.serves(link, peer):
            settings = session._settings
            calls = session._calls[interpreter] = Calls.open(
                link,
                interpreter,
                peer,
                settings.workers,
                settings.calls_per_worker,
                settings.trust,
                session.location,
            )
    return await calls.call(fn, args)
