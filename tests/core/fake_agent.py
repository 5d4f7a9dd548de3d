"""An agent played by a test, over `remit.testing.FakeTransport`: sound, broken or hostile."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import msgspec

from remit._wire import frames
from remit._wire.conversation import AGENT, Conversation, Event
from remit.testing import FakePeer

HELLO = {"protocol": 1, "features": [], "version": "0", "pid": 1, "hostname": "fake"}


class FakeAgent:
    """What a script holds once the caller has sent the agent and its hello."""

    def __init__(self, peer: FakePeer) -> None:
        self.peer = peer
        self.conversation = Conversation(AGENT)
        self.events: list[Event] = []

    async def boot(self) -> None:
        """Answers as STAGE0 does, and takes in what a real one would run."""
        nonce = self.peer.argv[-1]
        await self.peer.send(nonce[::-1].encode() + b"50790640\n")
        data = b""
        while b"\n" not in data.lstrip(b"\n"):
            data += await self.peer.receive()
        line, _, rest = data.lstrip(b"\n").partition(b"\n")
        found = re.search(rb"len\(packed\) < (\d+)", line)
        assert found is not None
        while len(rest) < int(found[1]):
            rest += await self.peer.receive()
        self.events += self.conversation.receive(rest[int(found[1]) :])

    async def flush(self) -> None:
        while data := self.conversation.data_to_send():
            await self.peer.send(data)

    async def next(self, kind: int) -> Event:
        """The next event of that kind; others are dropped."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event.kind == kind:
                    return event
            data = await self.peer.receive()
            assert data, "the caller left"
            self.events += self.conversation.receive(data)

    @staticmethod
    def unpack(body: bytes) -> tuple[str, dict[str, Any]]:
        """The verb and the arguments of a request."""
        verb, arguments = msgspec.msgpack.decode(body)
        return verb, arguments

    async def requests(self) -> AsyncGenerator[tuple[int, str, dict[str, Any]], None]:
        """All requests; what was answered to one is sent before the next is waited for. Ends with
        the caller's goodbye, which is returned."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if event.kind == frames.GOODBYE:
                    self.conversation.goodbye(pack({}))
                    await self.flush()
                    return
                if event.kind == frames.REQUEST:
                    verb, arguments = msgspec.msgpack.decode(event.body)
                    yield event.channel, verb, arguments
                    await self.flush()
            data = await self.peer.receive()
            if not data:
                return
            self.events += self.conversation.receive(data)

    async def request(self) -> tuple[int, str, dict[str, Any]]:
        """The next request: its channel, verb and arguments."""
        event = await self.next(frames.REQUEST)
        verb, arguments = msgspec.msgpack.decode(event.body)
        return event.channel, verb, arguments


def pack(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


def job_map(job_id: str, state: str = "RUNNING", **more: object) -> dict[str, object]:
    return {"id": job_id, "state": state, "placement": "return", "created": 1.0, **more}


def agent_script(
    play: Callable[[FakeAgent], Awaitable[None]], hello: object = HELLO
) -> Callable[[FakePeer], Awaitable[int]]:
    """A script that boots, says hello, and then does as ``play`` does."""

    async def script(peer: FakePeer) -> int:
        agent = FakeAgent(peer)
        await agent.boot()
        agent.conversation.hello(pack(hello))
        await agent.flush()
        await play(agent)
        return 0

    return script
