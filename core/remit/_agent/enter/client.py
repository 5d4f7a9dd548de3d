"""A caller's end of a link over a unix socket, blocking: the launcher's way to talk to the agent.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from typing import TYPE_CHECKING

from remit._wire.conversation import CALLER, PROTOCOL, Conversation, Event, ProtocolError
from remit._wire.credit import LEAST_CHARGE
from remit._wire.frames import GOODBYE, HELLO, MAX_PAYLOAD, REFUSAL
from remit._wire.msgpack import pack, unpack
from remit._wire.requests import build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


class Refusal(Exception):
    """The agent cannot do what was asked; ``facts`` is its answer (docs/wire.md, Refusals)."""

    def __init__(self, facts: Any) -> None:
        super().__init__(str(facts.get("message")))
        self.facts = facts


class SessionOver(Exception):
    """Nobody answers any more: the session that was entered has ended."""


class Client:
    """Requests and what comes back, one thread, in the order in which it came."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._conversation = Conversation(CALLER, LEAST_CHARGE)
        self._arrived: deque[Event] = deque()
        self._last = 0  # the number of the channel that was opened last
        self._conversation.hello(pack({"protocol": PROTOCOL, "features": []}))

    def ask(self, verb: str, arguments: Mapping[str, object], deadline: float | None = None) -> Any:
        """One request and the whole of its first answer. Raises as `open` does."""
        _, answer = self.open(verb, arguments, deadline=deadline)
        return answer

    def open(
        self,
        verb: str,
        arguments: Mapping[str, object],
        credit: int = 0,
        deadline: float | None = None,
    ) -> tuple[int, Any]:
        """Opens a channel; its number and the first answer. Raises Refusal, SessionOver, and
        TimeoutError once the monotonic clock is past ``deadline``.

        What comes on other channels meanwhile stays for `next_event`.
        """
        request = pack(build(verb, arguments))
        if len(request) > MAX_PAYLOAD:
            words = "command and environment have %d bytes; %d can be sent"
            raise Refusal({"message": words % (len(request), MAX_PAYLOAD)})
        self._last = number = self._conversation.request(request, credit)
        self._flush()
        later: deque[Event] = deque()
        while True:
            event = self.next_event(deadline)
            if event.channel == number:
                break
            later.append(event)
        self._arrived.extendleft(reversed(later))
        if event.kind == REFUSAL:
            raise Refusal(unpack(event.body))
        return number, unpack(event.body)

    def grant(self, number: int, size: int) -> None:
        self._conversation.grant(number, size)
        self._flush()

    def tell(self, number: int, name: str, arguments: Mapping[str, object]) -> None:
        """An EVENT."""
        self._conversation.event(number, pack([name, arguments]))
        self._flush()

    def take_back(self) -> None:
        """Gives up the channel that was opened last, whether it was answered or not."""
        if self._last:
            self.close(self._last)

    def close(self, number: int) -> None:
        self._conversation.close(number)
        self._flush()

    def next_event(self, deadline: float | None = None) -> Event:
        """The oldest event of any channel that was not given out.

        Raises TimeoutError once the monotonic clock is past ``deadline``, and SessionOver.
        """
        while not self._arrived:
            self._listen(deadline)
        return self._arrived.popleft()

    def leave(self) -> None:
        """The orderly end: what was said before arrives there."""
        self._conversation.goodbye(pack({}))
        try:
            self._flush()
        except SessionOver:
            pass  # it has left before us
        self._socket.close()

    def _listen(self, deadline: float | None) -> None:
        # Without a deadline for ever: the socket itself tells when the agent is gone.
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        try:
            data = self._socket.recv(1 << 18)
        except socket.timeout:
            raise TimeoutError from None
        except OSError as exc:
            raise SessionOver from exc
        if not data:
            raise SessionOver
        try:
            events = self._conversation.receive(data)
        except ProtocolError as exc:
            raise SessionOver from exc
        for event in events:
            if event.kind == GOODBYE:
                raise SessionOver
            if event.kind != HELLO:
                self._arrived.append(event)

    def _flush(self) -> None:
        self._socket.settimeout(None)
        try:
            while self._conversation.queued:
                self._socket.sendall(self._conversation.data_to_send())
        except OSError as exc:
            raise SessionOver from exc
