"""The channel on which the agent tells of one job."""

from __future__ import annotations

import weakref
from typing import Any, Protocol

import anyio

from remit._decoding import decode
from remit._errors import RemitError
from remit._link.channel import Channel, Parcel
from remit._link.link import Link
from remit._link.listener import Listener
from remit._link.messages import JobMap, JobNews
from remit._wire.conversation import Piece


class Hearer(Protocol):
    """Whoever is told. Called in the link's reader: must not wait."""

    def accepted(self, news: JobMap) -> None: ...

    def hear(self, news: JobMap) -> None: ...

    def take(self, piece: Piece) -> None: ...

    def stdin_over(self) -> None:
        """It reads no more of it."""

    def over(self, news: JobMap) -> None: ...

    def unwatched(self, error: RemitError) -> None:
        """The agent refuses to tell of it."""

    def untold(self, error: RemitError) -> None:
        """The agent cannot tell of it any more, for an error of its own."""

    def fail(self, exc: Exception) -> None:
        """What was raised here while news of it were taken."""


class JobChannel(Listener):
    """That of its start, or of a watch.

    The job holds it, and it holds the job weakly: when the handle is dropped, the channel is given
    up.
    """

    def __init__(self, job: Hearer) -> None:
        self._job = weakref.ref(job)
        self._link: Link | None = None
        self._channel: Channel | None = None
        self.answered = anyio.Event()
        self.error: RemitError | None = None

    def open(self, link: Link, verb: str, arguments: dict[str, Any], credit: int = 0) -> None:
        self._link = link
        self._channel = link.open(verb, arguments, self, credit)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    def grant(self, size: int) -> None:
        if self._channel is not None:
            self._channel.grant(size)

    @property
    def granted(self) -> int:
        """How many bytes of output may come now."""
        return 0 if self._channel is None else self._channel.granted

    async def ask(self, verb: str, arguments: dict[str, Any], answer: type[Any]) -> Any:
        """A request over the same link; raises LinkLost once that is over."""
        assert self._link is not None
        return await self._link.ask(verb, arguments, answer)

    async def send(self, data: bytes | memoryview, stream: int = 0) -> None:
        """Sends it as the job reads it. Raises why it cannot: the channel's end, or what `shut` was
        given."""
        assert self._channel is not None
        await self._channel.send(Parcel(data, stream))

    def send_eof(self) -> None:
        if self._channel is not None:
            self._channel.end()

    def shut(self, error: RemitError) -> None:
        """The job reads no more: who sends is told that."""
        if self._channel is not None:
            self._channel.shut(error)

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        job = self._job()
        if job is not None:
            job.accepted(decode(body, JobMap))
        self.answered.set()

    def refused(self, error: RemitError) -> None:
        self.error = error
        self.answered.set()
        job = self._job()
        if job is not None:
            job.unwatched(error)

    def event(self, name: str, arguments: bytes) -> None:
        job = self._job()
        if job is None:
            return
        if name == "stdin-closed":
            job.stdin_over()
        elif name == "job":
            job.hear(decode(arguments, JobMap))

    def data(self, piece: Piece) -> None:
        job = self._job()
        if job is not None:
            job.take(piece)

    def ended(self, body: bytes) -> None:
        job = self._job()
        if job is not None:
            job.over(decode(body, JobNews).job)

    def failed(self, error: RemitError) -> None:
        job = self._job()
        if job is not None:
            job.untold(error)

    def lost(self, error: RemitError) -> None:
        if not self.answered.is_set():
            self.refused(error)

    def raised(self, error: RemitError) -> None:
        job = self._job()
        if not self.answered.is_set():
            self.refused(error)
        elif job is not None:
            job.fail(error)
