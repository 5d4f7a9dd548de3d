"""A link without a stream: the agent's end of the conversation is in the test's own hands."""

from __future__ import annotations

from typing import Any

import msgspec

from remit import RemitError
from remit._link.carrier import Carried
from remit._link.link import Link
from remit._plugins import plugins
from remit._wire.conversation import AGENT, Conversation, Event
from remit._wire.credit import LEAST_CHARGE

HELLO = {"protocol": 1, "features": [], "version": "0", "pid": 1, "hostname": "fake"}


class NoStream:
    """Carries nothing."""

    stderr_tail = b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        raise AssertionError

    async def send(self, data: bytes) -> None:
        raise AssertionError

    async def wait(self) -> Any:
        raise AssertionError


class FakeLink(Link):
    """What either end has said reaches the other at `exchange`, and not before."""

    def __init__(self, stream: Any = None) -> None:
        super().__init__(Carried(stream or NoStream(), "fake", plugins()), 15.0, "fake:")
        self.agent = Conversation(AGENT, LEAST_CHARGE)
        self.agent.hello(msgspec.msgpack.encode(HELLO))
        self._conversation.hello(b"\x80")
        self.exchange()

    def exchange(self) -> list[Event]:
        """What has come to the agent."""
        heard: list[Event] = []
        while True:
            said = self._conversation.data_to_send()
            heard += self.agent.receive(said)
            answers = self.agent.data_to_send()
            for event in self._conversation.receive(answers):
                self._take(event)
            if not said and not answers:
                return heard

    def lose(self, error: RemitError) -> None:
        self._over = error
        self.channels.lost(error)
