"""A link: one conversation over one byte stream, from the agent's hello to the end of the stream.

One task reads, one writes (a cancelled writer would leave half a frame, so nobody else does), one
watches the clock. What arrives is handed, without waiting, to the listener of its channel.
"""

from __future__ import annotations

import logging
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio

from remit._decoding import decode
from remit._errors import (
    LinkLost,
    LocalProtocolError,
    PluginError,
    RemitError,
    RemoteProtocolError,
    text_of,
    told,
)
from remit._link import agent_payload, heartbeat, tracing
from remit._link.background import Home
from remit._link.carrier import Carried
from remit._link.messages import Failure, Goodbye, Hello, Refusal, decode_event, encode
from remit._link.notify import Notifier
from remit._wire import frames
from remit._wire.conversation import CALLER, Conversation, Event, Piece, ProtocolError, Pulse
from remit._wire.credit import LEAST_CHARGE
from remit._wire.requests import build

_T = TypeVar("_T")
_log = logging.getLogger("remit.link")

_READ_SIZE = 1 << 18
# Who sends more than this ahead of the stream waits (`Link.drained`).
_HIGH_WATER = 1 << 20


class Listener:
    """What a channel's opener wants to know. Called in the link's reader: must not wait.

    After `refused`, `replied`, `ended`, `failed`, `raised` or `lost` nothing more is called. What
    a method raises costs its channel, which is then closed (`raised`); only RemoteProtocolError,
    that the agent is no sound one, costs the link.
    """

    def accepted(self, body: bytes) -> None:
        raise RemoteProtocolError("the agent opened a channel where an answer was due")

    def replied(self, body: bytes) -> None:
        raise RemoteProtocolError("the agent answered where a channel was to open")

    def refused(self, error: RemitError) -> None: ...

    def event(self, name: str, arguments: bytes) -> None: ...

    def data(self, piece: Piece) -> None:
        raise RemoteProtocolError("the agent sent data that nobody asked for")

    def credit(self) -> None: ...

    def ended(self, body: bytes) -> None: ...

    def failed(self, error: RemitError) -> None:
        """The agent has ended the channel because of an error of its own."""
        self.refused(error)

    def lost(self, error: RemitError) -> None:
        """The link is over and with it the channel."""

    def raised(self, error: RemitError) -> None:
        """The channel is over: here somebody raised ``error``, or what is its cause."""
        self.lost(error)


class _Answer(Listener):
    """Waits for one REPLY."""

    def __init__(self) -> None:
        self._done = anyio.Event()
        self._body = b""
        self._error: RemitError | None = None

    async def wait(self) -> bytes:
        await self._done.wait()
        if self._error is not None:
            raise self._error
        return self._body

    def replied(self, body: bytes) -> None:
        self._body = body
        self._done.set()

    def refused(self, error: RemitError) -> None:
        self._error = error
        self._done.set()

    lost = refused


class Link:
    """See the module. ``hello`` is the agent's, once it has come."""

    def __init__(self, stream: Carried, silence: float, name: str) -> None:
        self.hello: Hello | None = None
        self.goodbye_said: Goodbye | None = None
        self._home = Home(f"the session with {name}")
        self._stream = stream
        self._name = name
        self._conversation = Conversation(CALLER, LEAST_CHARGE)
        self._conversation.trace = tracing.of_caller()
        self._silence = silence
        # Weakly: who serves a channel is somebody's, and goes with them.
        self._listeners: weakref.WeakValueDictionary[int, Listener] = weakref.WeakValueDictionary()
        self._abandoned: deque[int] = deque()  # channels whose listeners are gone
        self._to_write = Notifier()
        self._written = Notifier()
        self._over: RemitError | None = None
        self._ping_writer: heartbeat.PingWriter | None = None
        self._met: Callable[[], None] = _nothing
        self._dead = False  # nothing was heard for too long
        self._deaf = False  # nothing can be sent, though it still speaks
        self._idle = False  # the writer has nothing to do
        self._left = b""  # of whole frames, a part of which was sent by `flush`

    # -- for those who ask

    async def ask(self, verb: str, arguments: Mapping[str, Any], answer: type[_T]) -> _T:
        """One request and its REPLY. Raises what the agent's refusal means, or LinkLost.

        Cancelled, the request is given up: what it does there goes on.
        """
        waiter = _Answer()
        number = self.open(verb, arguments, waiter)
        try:
            return decode(await waiter.wait(), answer)
        finally:
            self.close(number)

    def open(
        self, verb: str, arguments: Mapping[str, Any], listener: Listener, credit: int = 0
    ) -> int:
        """Opens a channel. Raises LinkLost, and ValueError where the request is too large;
        TypeError where these are not the verb's fields.

        The listener is held weakly; one that may be dropped calls `abandon` when it goes.
        """
        self._home.check()
        self._check()
        self._sweep()
        if verb in agent_payload.VERBS_WITH_MODULES:
            python = "" if self.hello is None else self.hello.python
            arguments = {**arguments, "modules": agent_payload.with_verb(verb, python)}
        body = encode(build(verb, arguments))
        if len(body) > frames.MAX_PAYLOAD:
            raise ValueError(
                f"a request of {len(body)} bytes (command, environment and names together), "
                f"the most is {frames.MAX_PAYLOAD}"
            )
        number = self._conversation.request(body, credit)
        self._listeners[number] = listener
        self._to_write.notify()
        return number

    def close(self, number: int) -> None:
        """Gives a channel up. Quiet where it is over."""
        self._listeners.pop(number, None)
        if self._over is None and self._conversation.is_open(number):
            self._conversation.close(number)
            self._to_write.notify()

    def abandon(self, number: int) -> None:
        """As `close`, from a finalizer: these run anywhere, in other threads, too. It is told when
        something else is, or with the next sign of life."""
        self._abandoned.append(number)

    def _sweep(self) -> None:
        while self._abandoned:
            self.close(self._abandoned.popleft())

    def event(self, number: int, name: str, **arguments: Any) -> None:
        if self._over is None:
            self._conversation.event(number, encode((name, arguments)))
            self._to_write.notify()

    def grant(self, number: int, size: int) -> None:
        if self._over is None:
            self._conversation.grant(number, size)
            self._to_write.notify()

    def granted(self, number: int) -> int:
        """How many bytes of data may still come on the channel."""
        return 0 if self._over is not None else self._conversation.granted(number)

    def credit(self, number: int) -> int:
        """How many bytes may be sent on the channel now; 0 while the stream is congested."""
        return 0 if self._over is not None or self.congested else self._conversation.credit(number)

    @property
    def congested(self) -> bool:
        """Whether so much waits to be written that more would only fill memory."""
        return self._over is None and self._conversation.queued > _HIGH_WATER

    def data(self, number: int, piece: Piece) -> None:
        """Sends a piece no larger than `credit`."""
        self._home.check()
        self._conversation.data(number, piece)
        self._to_write.notify()

    def end(self, number: int) -> None:
        if self._over is None:
            self._conversation.end(number)
            self._to_write.notify()

    def flush(self) -> None:
        """Sends what waits at once, if nothing is being sent: a turn of the loop is saved.

        For who waits for the answer alone; several say more with one write.
        """
        if not self._idle or self._ping_writer is None or self._over is not None:
            return
        data = self._conversation.data_to_send()
        sent = self._ping_writer.say(data)
        if sent < len(data):
            # The writer says the rest, or finds out what is wrong.
            self._idle = False
            self._left = data[sent:]
            self._to_write.notify()

    async def drained(self) -> None:
        """Waits until something was written (or the link is over)."""
        if self._over is None and self._conversation.queued:
            await self._written.wait()

    def goodbye(self) -> None:
        if self._over is None:
            self._conversation.goodbye(encode({}))
            self._to_write.notify()

    def _check(self) -> None:
        if self._over is not None:
            raise self._over.again()

    # -- the link's own life

    async def run(
        self, first: bytes, opening: bytes, hello: Mapping[str, Any], met: Callable[[], None]
    ) -> RemitError:
        """Serves until the stream is over; tells why. ``opening`` goes out before everything,
        ``first`` was read already, ``met`` is called when the agent's hello has come. Cancelled,
        all listeners are told that the link is lost."""
        self._met = met
        self._conversation.hello(encode(hello))
        now = anyio.current_time()
        pulse = Pulse(self._silence, now)
        fileno = self._stream.descriptor
        if fileno is not None:
            self._ping_writer = heartbeat.PingWriter(fileno, self._silence / 3)
            heartbeat.attend(self._ping_writer)
        error: RemitError = LinkLost(f"the session with {self._name} was ended")
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._write, opening, pulse, tasks.cancel_scope)
                tasks.start_soon(self._watch, pulse, tasks.cancel_scope)
                try:
                    await self._read(first, pulse)
                except (ProtocolError, RemoteProtocolError) as exc:
                    error = RemoteProtocolError(
                        f"the agent on {self._name} broke the protocol: {exc}"
                    )
                tasks.cancel_scope.cancel()
            if not isinstance(error, RemoteProtocolError):
                error = self._why()
        finally:
            if self._ping_writer is not None:
                heartbeat.leave(self._ping_writer)
            self._finish(error)
        return error

    def _why(self) -> RemitError:
        if isinstance(self._stream.broken, PluginError):
            return self._stream.broken
        if self._dead:
            what = f"nothing was heard of it for {self._silence:g} s"
        elif self._deaf:
            what = "nothing could be sent there any more"
        elif self._stream.broken is not None:
            what = text_of(self._stream.broken)
        elif self._conversation.between_frames:
            what = "the stream ended"
        else:
            what = "the stream ended in the middle of a message"
        stderr = self._stream.stderr_tail.decode("utf-8", "replace").strip()
        return LinkLost(
            f"the link to {self._name} was lost: {what}",
            evidence="\n".join(f"stderr  {line}" for line in stderr.splitlines()[-5:]),
        )

    async def _read(self, first: bytes, pulse: Pulse) -> None:
        def hear(data: bytes) -> None:
            pulse.heard(anyio.current_time())
            for event in self._conversation.receive(data):
                self._take(event)

        if first:
            hear(first)
        await self._stream.read(_READ_SIZE, hear)

    async def _write(self, opening: bytes, pulse: Pulse, scope: anyio.CancelScope) -> None:
        data = opening + self._conversation.data_to_send()
        while True:
            while data:
                try:
                    await self._send(data)
                except OSError:
                    # The reader sees the end, and what was still said before it; if it comes.
                    await anyio.sleep(self._silence)
                    self._deaf = True
                    scope.cancel()
                    return
                pulse.said(anyio.current_time())
                self._written.notify()
                data = self._conversation.data_to_send()
            self._idle = True
            await self._to_write.wait()
            self._idle = False
            data, self._left = self._left + self._conversation.data_to_send(), b""

    async def _send(self, data: bytes) -> None:
        if self._ping_writer is None:
            await self._stream.send(data)
            return
        self._ping_writer.begin()
        await self._stream.send(data)
        # Not after a cancel: then half a frame is out, and no ping may follow.
        self._ping_writer.done()

    async def _watch(self, pulse: Pulse, scope: anyio.CancelScope) -> None:
        while True:
            pause = pulse.next_look(anyio.current_time())
            before = anyio.current_time()
            await anyio.sleep(pause)
            self._sweep()
            now = anyio.current_time()
            if now - before > pause + self._silence / 3:
                # It was we who did not listen: the loop was busy. What came meanwhile is unread.
                pulse.heard(now)
            if pulse.dead(now):
                self._dead = True
                scope.cancel()
                return
            if pulse.due(now):
                self._conversation.ping()
                self._to_write.notify()
                pulse.said(now)

    def _finish(self, error: RemitError) -> None:
        self._over = error
        listeners = list(self._listeners.values())
        self._listeners.clear()
        for listener in listeners:
            try:
                listener.lost(error.again())
            except Exception as exc:
                _give_up(listener, exc)
        self._written.notify()

    def _take(self, event: Event) -> None:
        kind, number, body = event
        if self._abandoned:
            self._sweep()
        if kind == frames.HELLO:
            self.hello = decode(body, Hello)
            self._met()
            return
        if kind == frames.GOODBYE:
            self.goodbye_said = decode(body, Goodbye)
            return
        listener = self._listeners.get(number)
        if listener is None:
            return
        try:
            _ACTS[kind](listener, body)
        except RemoteProtocolError:
            raise  # it is told, as all listeners are, that the link is lost
        except Exception as exc:
            self.close(number)
            _give_up(listener, exc)
        if kind in (frames.REPLY, frames.REFUSAL, frames.END):
            self._listeners.pop(number, None)


def own_trouble(exc: Exception) -> RemitError:
    """What somebody's code raised here, as an error: of remit's own, what is none is its bug."""
    if isinstance(exc, RemitError):
        return exc
    error = LocalProtocolError(f"a bug of remit: {told(exc)}")
    error.__cause__ = exc
    return error


def _give_up(listener: Listener, exc: Exception) -> None:
    try:
        listener.raised(own_trouble(exc))
    except Exception:
        # Nobody is left to be told; to be silent would be worse, to raise would cost others.
        _log.exception("a bug of remit: %s did not stand its own failure", type(listener).__name__)


def _nothing() -> None: ...


def _event(listener: Listener, body: bytes) -> None:
    listener.event(*decode_event(body))


def _refused(listener: Listener, body: bytes) -> None:
    listener.refused(decode(body, Refusal).error())


def _ended(listener: Listener, body: bytes) -> None:
    error = decode(body, Failure).error if body else None
    if error is None:
        listener.ended(body)
    else:
        listener.failed(error.error())


def _credit(listener: Listener, _size: int) -> None:
    listener.credit()


_ACTS: dict[int, Callable[[Any, Any], None]] = {
    frames.REPLY: lambda listener, body: listener.replied(body),
    frames.ACCEPT: lambda listener, body: listener.accepted(body),
    frames.REFUSAL: _refused,
    frames.EVENT: _event,
    frames.DATA: lambda listener, piece: listener.data(piece),
    frames.CREDIT: _credit,
    frames.END: _ended,
}
