"""`Session.call`: functions in the warm workers of a target, many at a time over one channel."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import anyio
import anyio.lowlevel

from remit._decoding import decode
from remit._errors import JobFailed, RemitError, RemoteProtocolError
from remit._function_records import Failure, taken
from remit._jobs import function_output
from remit._link.link import Link, Listener
from remit._link.messages import NotRun, PoolEnd, Workers
from remit._session.interpreters import Interpreter
from remit._wire.calls import (
    CALL,
    DIED,
    FAILED,
    LAST,
    MOST,
    NUMBER,
    PICKLED,
    PIECE,
    PROGRAM,
    SORTS,
    TAIL,
    TOTAL,
    VALUE,
    WINDOW,
    Malformed,
    Whole,
    sized,
)
from remit._wire.conversation import Piece
from remit._wire.credit import Window, charge
from remit._wire.streams import STDERR_TAIL

if TYPE_CHECKING:
    from remit._session.connection import Connection
    from remit._shipping import programs
    from remit._shipping.runtime import Runtime

# Functions that the agent and its workers are to hold without a call that needs them, and their
# bytes.
_MOST_PROGRAMS = 128
_MOST_PROGRAM_BYTES = 32 << 20
# Values are no larger (docs/values.md, Limits); pickles may be, from a target that is trusted.
_MOST = 1 << 32
_MOST_WORDS = 4 << 20  # of a failure, as `remit._worker.failures` cuts it


class _Call:
    """One call on its way. ``answer`` is kind and body once it is there."""

    __slots__ = ("answer", "done", "error", "stderr", "unread")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.answer: tuple[int, bytes | bytearray] | None = None
        self.error: RemitError | None = None
        self.stderr = b""
        self.unread: Whole | None = None


class _Known:
    """A program that the agent has, or is being sent: under a number, for so many calls."""

    __slots__ = ("number", "sending", "sent", "size", "users")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.users = 0
        self.sent = False
        self.sending = anyio.Lock()


class _Programs:
    """Those that the agent has: all that calls need, and some that were needed last."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}  # by digest
        self._unused: dict[bytes, _Known] = {}  # the longest unused first
        self._bytes = 0
        self._count = 0

    def take(self, program: programs.Program) -> _Known:
        known = self._known.get(program.digest)
        if known is None:
            self._count += 1
            known = self._known[program.digest] = _Known(self._count, len(program.body))
            self._bytes += known.size
        elif not known.users:
            del self._unused[program.digest]
        known.users += 1
        return known

    def leave(self, program: programs.Program, known: _Known) -> list[int]:
        """One call less needs it. The numbers of those that the agent is to forget."""
        known.users -= 1
        if known.users:
            return []
        self._unused[program.digest] = known
        forgotten = []
        if not known.sent:
            self._drop(program.digest)
        while self._unused and (
            len(self._known) > _MOST_PROGRAMS or self._bytes > _MOST_PROGRAM_BYTES
        ):
            forgotten.append(self._drop(next(iter(self._unused))))
        return forgotten

    def _drop(self, digest: bytes) -> int:
        known = self._unused.pop(digest)
        del self._known[digest]
        self._bytes -= known.size
        return known.number


class Calls(Listener):
    """The channel of calls to one interpreter, over one link. When that is lost so are the calls
    that were on their way."""

    def __init__(self, link: Link, peer: Runtime, trust: bool, place: str) -> None:
        self.over = False
        self._link = link
        self._peer = peer
        self._trust = trust
        self._place = place
        self._number = 0
        self._calls: dict[int, _Call] = {}
        self._count = 0
        self._programs = _Programs()
        self._pieces = 0  # sent
        self._window = Window(WINDOW)
        self._room = anyio.Event()
        self._error: RemitError | None = None  # once it is over
        self._users = 0  # calls, from their beginning to their end
        self._retired = False  # there is another for those that come

    @classmethod
    def open(
        cls,
        link: Link,
        interpreter: Interpreter,
        peer: Runtime,
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
        self._number = link.open("pool", arguments, self, WINDOW)
        return self

    def serves(self, link: Link, peer: Runtime) -> bool:
        return not self.over and self._link is link and self._peer == peer

    async def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], begun: Callable[[], None]
    ) -> Any:
        """As `Session.call`. ``begun``: to call once it is sent."""
        from remit._shipping import programs  # with cloudpickle it is slow to import
        from remit._shipping.partials import unfolded

        fn, args = unfolded(fn, args, keywords=self._peer.runs_our_bytecode)
        program = programs.program(fn, self._peer)
        data = programs.arguments(args, self._peer, program.kind)
        if len(data) > MOST:
            raise ValueError(
                f"arguments of {len(data)} bytes, a call takes {MOST}; a job "
                "(session.start) takes more"
            )
        if len(program.body) >= MOST:
            raise ValueError(
                f"{program.name} has {len(program.body)} bytes with what it captures, a call takes "
                f"{MOST}; a job (session.start) takes more"
            )
        known = self._programs.take(program)
        self._users += 1
        try:
            if not known.sent:
                await self._introduce(known, program)
            call = await self._answer_to(known, data, begun)
        finally:
            self._users -= 1
            self._forget(self._programs.leave(program, known))
        size = len(call.answer[1]) if call.answer is not None else 0
        return await function_output.beside(size, self._taken, call, program.name)

    def _forget(self, numbers: list[int]) -> None:
        if self._retired and not self._users:
            self.over = True
            self._link.close(self._number)
        else:
            for number in numbers:
                self._order("forget", program=number)

    def retire(self) -> None:
        """Its workers are to end once the calls have that are under way."""
        self._retired = True
        self._forget([])

    async def _introduce(self, known: _Known, program: programs.Program) -> None:
        """One of the calls that need it sends it; where that is cancelled, the next begins anew."""
        async with known.sending:
            if not known.sent:
                body = SORTS[program.kind] + program.body
                await self._send(PROGRAM, known.number, body)
                known.sent = True

    async def _answer_to(self, known: _Known, data: bytes, begun: Callable[[], None]) -> _Call:
        self._count += 1
        number = self._count
        call = self._calls[number] = _Call()
        sent = False
        try:
            await self._send(CALL, number, NUMBER.pack(known.number) + data)
            sent = True
            begun()
            await call.done.wait()
        except BaseException:
            if self._calls.pop(number, None) is not None and sent:
                self._order("cancel", call=number)
            raise
        return call

    def _order(self, what: str, **of: int) -> None:
        """Events overtake data, so the agent is told how much of that was sent before."""
        if not self.over:
            self._link.event(self._number, what, after=self._pieces, **of)

    async def _send(self, kind: int, number: int, data: bytes) -> None:
        """Cancelled, what was sent of it is taken back."""
        link, channel = self._link, self._number
        whole = sized(data)
        if link.credit(channel) >= len(whole) and len(whole) <= PIECE:
            self._send_piece(Piece(kind, number, 0, 0.0, whole))
            if len(self._calls) == 1:
                link.flush()
            return
        sent = 0
        try:
            while sent < len(whole):
                sent += await self._send_part(kind, number, whole, sent)
        except BaseException:
            if sent:
                self._order("cancel", **{"program" if kind == PROGRAM else "call": number})
            raise

    async def _send_part(self, kind: int, number: int, whole: bytes, sent: int) -> int:
        """As much as there is credit for, or nothing, once there may be some."""
        if self._error is not None:
            raise self._error.again()
        room = min(self._link.credit(self._number), PIECE)
        # The first piece has to hold the size.
        if room >= TOTAL.size or (room and sent):
            part = whole[sent : sent + room]
            self._send_piece(Piece(kind, number, sent, 0.0, part))
            return len(part)
        if self._link.congested:
            await self._link.drained()
        else:
            await self._room.wait()
        return 0

    def _send_piece(self, piece: Piece) -> None:
        self._link.data(self._number, piece)
        self._pieces += 1

    def _taken(self, call: _Call, name: str) -> Any:
        if call.error is not None:
            raise call.error
        assert call.answer is not None
        kind, body = call.answer
        whose = f"{name}() on {self._place}"
        if kind == VALUE:
            return taken(body, whose)
        if kind == PICKLED:
            return function_output.unpickled(body, self._trust, whose)
        if kind == FAILED:
            raise function_output.failed(
                decode(bytes(body), Failure),
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
        self._window.consumed(charge(len(data)))
        if self._window.is_due:
            self._link.grant(self._number, self._window.due())
        call = self._calls.get(number)
        if call is None:
            if not 0 < number <= self._count:
                raise RemoteProtocolError(f"an answer to call {number}, which nobody made")
            return  # given up here meanwhile
        try:
            if not offset:
                whole = call.unread = Whole(kind, data, self._most(kind))
            elif call.unread is None or call.unread.kind != kind:
                raise Malformed(f"goes on at {offset}")
            else:
                whole = call.unread
                whole.add(offset, data)
        except Malformed as exc:
            raise RemoteProtocolError(f"an answer to call {number} {exc}") from exc
        if whole.is_whole:
            self._answer(call, number, kind, whole.data)

    def _most(self, kind: int) -> float:
        if kind in (FAILED, DIED, TAIL):
            return _MOST_WORDS
        if kind == PICKLED:
            # One that is not taken anyway is not gathered first.
            return math.inf if self._trust else _MOST_WORDS
        return _MOST

    def event(self, name: str, arguments: bytes) -> None:
        if name == "not-run":
            why = decode(arguments, NotRun)
            call = self._calls.pop(why.call, None)
            if call is not None:
                why.message = f"no worker could be started on {self._place}: {why.message}"
                call.error = why.error()
                call.done.set()

    def _answer(self, call: _Call, number: int, kind: int, body: bytes | bytearray) -> None:
        if kind == TAIL:
            call.stderr = bytes(body[-STDERR_TAIL:])
            call.unread = None
            return
        if kind not in LAST:
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
        problem = decode(body, PoolEnd).problem
        if problem is not None:
            what = f"the agent on {self._place} refused calls as malformed: {problem}"
            self._finish(RemoteProtocolError(what))
            return
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
        self._error = error
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.error = error.again()
            call.done.set()
        self.credit()


def _nothing() -> None:
    """Who calls once need not know when the call began."""


async def call(
    connection: Connection,
    fn: Callable[..., Any],
    args: tuple[Any, ...],
    python: str | None,
    begun: Callable[[], None] = _nothing,
) -> Any:
    """As `Session.call`. Opens what is not open yet. ``begun`` is called once it is sent: calls
    that are sent one after another begin in that order."""
    interpreter = connection.interpreter(python)
    calls = connection.calls.get(interpreter)
    link = connection.link
    peer = interpreter.known(link)
    if calls is None or link is None or peer is None or not calls.serves(link, peer):
        peer = await interpreter.peer()
        link = await connection.ready()
        calls = connection.calls.get(interpreter)
        if calls is None or not calls.serves(link, peer):
            if calls is not None:
                calls.retire()
            calls = connection.calls[interpreter] = _opened(connection, link, interpreter, peer)
    return await calls.call(fn, args, begun)


def _opened(connection: Connection, link: Link, interpreter: Interpreter, peer: Runtime) -> Calls:
    settings = connection.settings
    return Calls.open(
        link,
        interpreter,
        peer,
        settings.workers,
        settings.calls_per_worker,
        settings.trust,
        connection.location,
    )
