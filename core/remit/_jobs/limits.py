"""The limits of a return job, which hold whatever the target does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, Protocol

import anyio
import attrs

from remit._errors import RemitError
from remit._jobs.channel import JobChannel
from remit._types import JobInfo, JobState, Outcome

# A job that is over its time limit or has printed too much is ended there. If the target does not,
# it is over for us: so many seconds later where it sends more than so much meanwhile, else after
# twice that time.
_PATIENCE: Final = 10.0
_LAST_WORDS: Final = 16 << 20


@attrs.frozen
class Verdict:
    """Why a job is ended from here, whatever the target then tells of its end."""

    error: str
    reason: str = ""  # empty: it is STOPPED

    def on(self, info: JobInfo) -> JobInfo:
        """What is known of the job once it has ended."""
        outcome = attrs.evolve(info.outcome or Outcome(), error=self.error)
        if not self.reason:
            return attrs.evolve(info, outcome=outcome)
        outcome = attrs.evolve(outcome, reason=self.reason)
        return attrs.evolve(info, outcome=outcome, state=JobState.FAILED)


class Limited(Protocol):
    """A job that may be ended from here."""

    async def stop(self, grace: float = 5.0) -> list[str]: ...

    def outlived(self) -> None:
        """It is over for us, whatever becomes of it there."""


class Limits:
    """Of one job. What waits here is let be once the job has ended (`lift`)."""

    def __init__(self, channel: JobChannel) -> None:
        self.verdict: Verdict | None = None
        self._channel = channel
        self._allowance: int | None = None  # bytes that may still be granted after the verdict
        self._scopes: set[anyio.CancelScope] = set()

    def on(self, info: JobInfo) -> JobInfo:
        """What is known of the job, the verdict included."""
        if self.verdict is not None and info.state.finished:
            return self.verdict.on(info)
        return info

    def lift(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    def granted(self, size: int) -> int:
        """How much of that may be granted to the target."""
        if self._allowance is not None:
            size = min(size, self._allowance)
            self._allowance -= size
        return size

    def condemn(self, verdict: Verdict) -> None:
        self.verdict = verdict
        self._allowance = _LAST_WORDS

    async def enforce(self, job: Limited, timeout: float) -> None:
        """The time limit is the target's to see to. One that does not loses the job to us."""
        with self._while_it_lasts():
            await anyio.sleep(timeout)
            if self.verdict is None:
                self._allowance = _LAST_WORDS
                verdict = Verdict("the target did not end it in time", "timeout")
                await self._outlast(job, verdict)

    async def end(self, job: Limited) -> None:
        """Has the target end it, for what its verdict says."""
        assert self.verdict is not None
        with self._while_it_lasts():
            with suppress(RemitError), anyio.move_on_after(_PATIENCE):
                await job.stop()
            await self._outlast(job, self.verdict)

    async def _outlast(self, job: Limited, verdict: Verdict) -> None:
        """Waits for its end as long as that is bearable."""
        rounds = 0
        while rounds < 2:
            await anyio.sleep(_PATIENCE)
            if not self._allowance:
                break  # it goes on and on
            # Without credit it is held up: what it has printed is not read here.
            rounds += self._channel.granted > 0
        self.condemn(verdict)
        self._channel.close()
        job.outlived()

    @contextmanager
    def _while_it_lasts(self) -> Iterator[None]:
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)
