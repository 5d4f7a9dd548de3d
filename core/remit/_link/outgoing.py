"""What goes out on a link: one task writes it, since a cancelled writer leaves half a frame."""

from __future__ import annotations

import anyio

from remit._link import heartbeat
from remit._link.carrier import Carried
from remit._link.notify import Notifier
from remit._wire.conversation import Conversation, Pulse

# Who sends more than this ahead of the stream waits (`Outgoing.congested`).
_HIGH_WATER = 1 << 20


class Outgoing:
    """Of one link. What its conversation has to say is written once `wake` is called."""

    def __init__(self, stream: Carried, conversation: Conversation) -> None:
        self._stream = stream
        self._conversation = conversation
        self._to_write = Notifier()
        self._waiting: list[Notifier] = []  # to be notified once something was written
        self._ping_writer: heartbeat.PingWriter | None = None
        self._idle = False  # the writer has nothing to do
        self._left = b""  # of whole frames, a part of which was sent by `flush`

    def open(self, silence: float) -> None:
        """Signs of life are given from now on, also while the event loop is busy."""
        fileno = self._stream.descriptor
        if fileno is not None:
            self._ping_writer = heartbeat.PingWriter(fileno, silence / 3)
            heartbeat.attend(self._ping_writer)

    def close(self) -> None:
        """Nothing more is written."""
        self._idle = False
        if self._ping_writer is not None:
            heartbeat.leave(self._ping_writer)

    def wake(self) -> None:
        """There is something to be written."""
        self._to_write.notify()

    @property
    def congested(self) -> bool:
        """Whether so much waits to be written that more would only fill memory."""
        return self._conversation.queued > _HIGH_WATER

    def tell_when_written(self, notifier: Notifier) -> None:
        """It is notified once something was: who found the link congested looks again."""
        self._waiting.append(notifier)

    def flush(self) -> None:
        """Sends what waits at once, if nothing is being sent: a turn of the loop is saved.

        For who waits for the answer alone; several say more with one write.
        """
        if not self._idle or self._ping_writer is None:
            return
        data = self._conversation.data_to_send()
        sent = self._ping_writer.say(data)
        if sent < len(data):
            # The writer says the rest, or finds out what is wrong.
            self._idle = False
            self._left = data[sent:]
            self._to_write.notify()

    async def write(self, opening: bytes, pulse: Pulse) -> None:
        """Writes ``opening``, and then all there is; returns where the stream takes no more."""
        data = opening + self._conversation.data_to_send()
        while True:
            while data:
                try:
                    await self._send(data)
                except OSError:
                    return
                pulse.said(anyio.current_time())
                waiting, self._waiting = self._waiting, []
                for notifier in waiting:
                    notifier.notify()
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
