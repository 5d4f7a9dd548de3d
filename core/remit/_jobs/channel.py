"""The channel on which the agent tells of one job."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import anyio

from remit._decoding import decode
from remit._errors import RemitError
from remit._link.link import Link, Listener
from remit._link.messages import JobMap, JobNews
from remit._link.notify import Notifier
from remit._wire.conversation import Piece

# Pieces of stdin, so that several jobs' inputs go in turn.
_STDIN_PIECE = 1 << 16


class Hearer(Protocol):
    """Whoever is told. Called in the link's reader: must not wait."""

    notifier: Notifier  # notified when something happens to the job

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
        self._number = 0
        self.answered = anyio.Event()
        self.error: RemitError | None = None

    def open(self, link: Link, verb: str, arguments: dict[str, Any], credit: int = 0) -> None:
        self._link = link
        self._number = link.open(verb, arguments, self, credit)

    def close(self) -> None:
        if self._link is not None:
            self._link.close(self._number)

    def __del__(self) -> None:
        if self._link is not None:
            self._link.abandon(self._number)

    def grant(self, size: int) -> None:
        if self._link is not None:
            self._link.grant(self._number, size)

    @property
    def granted(self) -> int:
        """How many bytes of output may come now."""
        return 0 if self._link is None else self._link.granted(self._number)

    async def ask(self, verb: str, arguments: dict[str, Any], answer: type[Any]) -> Any:
        """A request over the same link; raises LinkLost once that is over."""
        assert self._link is not None
        return await self._link.ask(verb, arguments, answer)

    async def send(
        self,
        data: bytes | memoryview,
        notifier: Notifier,
        over: Callable[[], bool],
        stream: int = 0,
    ) -> None:
        """Sends it as the job reads it. ``over`` is asked before each piece: True, and the rest is
        let be; it may also raise. ``notifier`` notifies when something happens to the job."""
        view = memoryview(data).cast("B")
        while view and not over():
            link = self._link
            assert link is not None
            room = min(link.credit(self._number), _STDIN_PIECE)
            if room:
                link.data(self._number, Piece(stream, 0, 0, 0.0, bytes(view[:room])))
                view = view[room:]
            elif link.congested:
                await link.drained()
            else:
                await notifier.wait()

    def send_eof(self) -> None:
        if self._link is not None:
            self._link.end(self._number)

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
        self.credit()

    def event(self, name: str, arguments: bytes) -> None:
        job = self._job()
        if name == "stdin-closed":
            if job is not None:
                job.stdin_over()
            self.credit()
        elif name == "job" and job is not None:
            job.hear(decode(arguments, JobMap))

    def data(self, piece: Piece) -> None:
        job = self._job()
        if job is not None:
            job.take(piece)

    def credit(self) -> None:
        job = self._job()
        if job is not None:
            job.notifier.notify()

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
