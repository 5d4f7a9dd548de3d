"""A link: one conversation over one byte stream, from the agent's hello to the end of the stream.

One task reads, one writes, one watches the clock. What arrives is handed, without waiting, to the
listener of its channel.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import anyio

from remit._decoding import decode
from remit._errors import LinkLost, PluginError, RemitError, RemoteProtocolError, text_of
from remit._link import agent_payload, tracing
from remit._link.background import Home
from remit._link.carrier import Carried
from remit._link.channel import Channel, Channels
from remit._link.listener import Listener
from remit._link.messages import Goodbye, Hello, encode
from remit._link.outgoing import Outgoing
from remit._wire import frames
from remit._wire.conversation import CALLER, Conversation, Event, ProtocolError, Pulse
from remit._wire.credit import LEAST_CHARGE
from remit._wire.requests import build

_T = TypeVar("_T")
_READ_SIZE = 1 << 18


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
        self._outgoing = Outgoing(stream, self._conversation)
        self.channels = Channels(self._conversation, self._outgoing, self._home)
        self._silence = silence
        self._over: RemitError | None = None
        self._met: Callable[[], None] = _nothing
        self._dead = False  # nothing was heard for too long
        self._deaf = False  # nothing can be sent, though it still speaks

    # -- for those who ask

    async def ask(self, verb: str, arguments: Mapping[str, Any], answer: type[_T]) -> _T:
        """One request and its REPLY. Raises what the agent's refusal means, or LinkLost.

        Cancelled, the request is given up: what it does there goes on.
        """
        waiter = _Answer()
        channel = self.open(verb, arguments, waiter)
        try:
            return decode(await waiter.wait(), answer)
        finally:
            channel.close()

    def open(
        self, verb: str, arguments: Mapping[str, Any], listener: Listener, credit: int = 0
    ) -> Channel:
        """Opens a channel, on which ``credit`` bytes may come. Raises LinkLost, and ValueError
        where the request is too large; TypeError where these are not the verb's fields.

        It is closed when nobody holds it; the listener it does not hold.
        """
        self._home.check()
        if self._over is not None:
            raise self._over.again()
        if verb in agent_payload.VERBS_WITH_MODULES:
            python = "" if self.hello is None else self.hello.python
            arguments = {**arguments, "modules": agent_payload.with_verb(verb, python)}
        body = encode(build(verb, arguments))
        if len(body) > frames.MAX_PAYLOAD:
            raise ValueError(
                f"a request of {len(body)} bytes (command, environment and names together), "
                f"the most is {frames.MAX_PAYLOAD}"
            )
        return self.channels.open(body, listener, credit)

    def goodbye(self) -> None:
        if self._over is None:
            self._conversation.goodbye(encode({}))
            self._outgoing.wake()

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
        self._outgoing.open(self._silence)
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
            self._outgoing.close()
            self._over = error
            self.channels.lost(error)
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
        await self._outgoing.write(opening, pulse)
        # The reader sees the end, and what was still said before it; if it comes.
        await anyio.sleep(self._silence)
        self._deaf = True
        scope.cancel()

    async def _watch(self, pulse: Pulse, scope: anyio.CancelScope) -> None:
        while True:
            pause = pulse.next_look(anyio.current_time())
            before = anyio.current_time()
            await anyio.sleep(pause)
            self.channels.sweep()
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
                self._outgoing.wake()
                pulse.said(now)

    def _take(self, event: Event) -> None:
        if event.kind == frames.HELLO:
            self.hello = decode(event.body, Hello)
            self._met()
        elif event.kind == frames.GOODBYE:
            self.goodbye_said = decode(event.body, Goodbye)
        else:
            self.channels.take(event)


def _nothing() -> None: ...
