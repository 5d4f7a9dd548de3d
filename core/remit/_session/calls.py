"""`Session.call`: functions in the warm workers of a target, many at a time over one channel."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from remit._decoding import decode
from remit._errors import JobFailed, RemitError, RemoteProtocolError
from remit._jobs import function_output
from remit._link.channel import Channel, Parcel
from remit._link.link import Link
from remit._link.listener import Listener
from remit._link.messages import NotRun, PoolEnd, Workers
from remit._session.answers import Answers, Awaited
from remit._session.interpreters import Interpreter
from remit._session.pool_programs import Known, Programs
from remit._wire.calls import CALL, MOST, NUMBER, PROGRAM, TOTAL, WINDOW, sized
from remit._wire.conversation import Piece

if TYPE_CHECKING:
    from remit._session.connection import Connection
    from remit._shipping.runtime import Runtime


class Calls(Listener):
    """The channel of calls to one interpreter, over one link. When that is lost so are the calls
    that were on their way."""

    def __init__(self, link: Link, peer: Runtime, trust: bool, place: str) -> None:
        self.over = False
        self._link = link
        self._peer = peer
        self._place = place
        self._channel: Channel
        self._answers = Answers(trust, place)
        self._programs = Programs()
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
        self._channel = link.open("pool", arguments, self, WINDOW)
        return self

    def serves(self, link: Link, peer: Runtime) -> bool:
        return not self.over and self._link is link and self._peer == peer

    async def call(
        self, fn: Callable[..., Any], args: tuple[Any, ...], begun: Callable[[], None]
    ) -> Any:
        """As `Session.call`. ``begun``: to call once it is sent."""
        from remit._shipping import programs  # with cloudpickle it is slow to import
        from remit._shipping.partials import unfolded

        fn, args = unfolded(fn, args)
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
                await known.introduce(program, partial(self._send, PROGRAM))
            awaited = await self._answer_to(known, data, begun)
        finally:
            self._users -= 1
            self._forget(self._programs.leave(program, known))
        taken = self._answers.taken
        return await function_output.beside(awaited.size, taken, awaited, program.name)

    def _forget(self, numbers: list[int]) -> None:
        if self._retired and not self._users:
            self.over = True
            self._channel.close()
        else:
            for number in numbers:
                self._order("forget", program=number)

    def retire(self) -> None:
        """Its workers are to end once the calls have that are under way."""
        self._retired = True
        self._forget([])

    async def _answer_to(self, known: Known, data: bytes, begun: Callable[[], None]) -> Awaited:
        awaited = self._answers.next()
        sent = False
        try:
            await self._send(CALL, awaited.number, NUMBER.pack(known.number) + data)
            sent = True
            if len(self._answers) == 1:
                self._channel.flush()
            begun()
            await awaited.done.wait()
        except BaseException:
            if self._answers.give_up(awaited) and sent:
                self._order("cancel", call=awaited.number)
            raise
        return awaited

    def _order(self, what: str, **of: int) -> None:
        """Events overtake data, so the agent is told how much of that was sent before."""
        self._channel.event(what, after=self._channel.pieces, **of)

    async def _send(self, kind: int, number: int, data: bytes) -> None:
        """Cancelled, what was sent of it is taken back."""
        # The first piece has to hold the size.
        parcel = Parcel(sized(data), kind, number, first=TOTAL.size)
        try:
            await self._channel.send(parcel)
        except BaseException:
            if parcel.sent:
                self._order("cancel", **{"program" if kind == PROGRAM else "call": number})
            raise

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        decode(body, Workers)

    def data(self, piece: Piece) -> None:
        self._channel.consumed(len(piece.data))
        self._answers.take(piece)

    def event(self, name: str, arguments: bytes) -> None:
        if name == "not-run":
            self._answers.not_run(decode(arguments, NotRun))

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
        self._channel.shut(error)
        self._answers.fail(error)


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
