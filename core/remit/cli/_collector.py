"""The collector: the process here that a return job sends its results to.

``remit start`` starts it, in a session of its own, and is told by a pipe whether the job runs. It
then fills a local job directory until the job ends, and does what is asked of the job there.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from functools import partial

import anyio
import anyio.abc
import msgspec

import remit
from remit import Job, RemitError
from remit.agent import asks, fds
from remit.cli._collecting import Answer, Assignment
from remit.cli._gathering import Gathering, StandIn
from remit.cli._interrupts import beside
from remit.cli._report import status_of

_GRACE = 5.0


def main() -> None:
    """Takes its assignment from stdin, and answers once on stdout."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    assignment = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Assignment)
    # Before there are threads and an event loop, which a fork would halve.
    collector = _Collector(assignment, StandIn())
    anyio.run(collector.run)


class _Collector:
    def __init__(self, assignment: Assignment, stand_in: StandIn) -> None:
        self._assignment = assignment
        self._stand_in = stand_in
        self._job: Job | None = None
        self._stops: list[bytes] = []  # requests that are answered once the outcome is written
        self._survivors: list[str] = []
        self._full: OSError | None = None

    async def run(self) -> None:
        """From connecting to the written outcome; SIGTERM ends the job, too."""
        scope = anyio.CancelScope()

        async def obey() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    if self._job is None:
                        scope.cancel()
                    else:
                        await self._stop(self._job, _GRACE)

        try:
            async with beside(obey):
                with scope:
                    await self._collect()
        except (RemitError, OSError) as exc:
            if self._job is None:
                _answer(_refusal(exc))
            else:
                raise

    async def _collect(self) -> None:
        work = self._assignment.work()
        async with remit.connect(self._assignment.target, reconnect=0) as session:
            gathering = Gathering(self._assignment.id, work, session.location, self._stand_in)
            try:
                job = await session.start(
                    work.words(),
                    placement="return",
                    id=self._assignment.id,
                    name=work.name,
                    cwd=work.cwd,
                    env=work.env,
                    timeout=work.timeout,
                    leftovers=work.leftovers,
                    full="block",
                )
                _answer(Answer())
            except BaseException:
                gathering.discard()
                raise
            self._job = job
            # Nothing of where we were started is to be held on to.
            fds.point_at_null(0, 1, 2)
            os.chdir("/")
            async with (
                anyio.create_task_group() as stops,
                beside(partial(self._heed, gathering.inbox, job, stops)),
            ):
                await self._gather(job, gathering)
            gathering.finish(job, self._full)
            self._answer_stops(gathering.inbox)

    async def _gather(self, job: Job, gathering: Gathering) -> None:
        # A lost link is an end like others: what came is here, and the job is LOST.
        with suppress(RemitError):
            async for record in job.receive():
                if self._full is None:
                    try:
                        gathering.append(record)
                    except OSError as exc:
                        self._full = exc
                        await self._stop(job, _GRACE)
            await job.wait()

    # -- what is asked of the job, here

    async def _heed(self, inbox: asks.Inbox, job: Job, stops: anyio.abc.TaskGroup) -> None:
        while True:
            await anyio.wait_readable(inbox.fd)
            requests, rung = inbox.read()
            if rung:
                stops.start_soon(self._stop, job, _GRACE)
            for name, request in requests:
                what = name.partition(b"-")[0]
                if what == b"stop":
                    if name not in self._stops:
                        self._stops.append(name)
                        stops.start_soon(self._stop, job, _grace(request))
                else:
                    inbox.answer(name, await self._hold(what, job))

    async def _hold(self, what: bytes, job: Job) -> dict[str, object]:
        try:
            if what == b"suspend":
                await job.suspend()
                self._stand_in.suspend()
            elif what == b"resume":
                await job.resume()
                self._stand_in.resume()
            else:
                return {"error": f"a collector knows no {what.decode('ascii', 'replace')}"}
        except RemitError as exc:
            return {"error": exc.message}
        return {}

    async def _stop(self, job: Job, grace: float) -> None:
        # Where the link is lost meanwhile, the far end stops the job by itself.
        with suppress(RemitError):
            self._survivors = await job.stop(grace)

    def _answer_stops(self, inbox: asks.Inbox) -> None:
        # One may have come after we last looked.
        late = [name for name, _ in inbox.read()[0] if name.startswith(b"stop-")]
        for name in dict.fromkeys([*self._stops, *late]):
            inbox.answer(name, {"survivors": self._survivors})


def _grace(request: dict[str, object]) -> float:
    grace = request.get("grace")
    return float(grace) if isinstance(grace, (int, float)) and 0 <= grace <= 3600 else _GRACE


def _refusal(error: RemitError | OSError) -> Answer:
    if isinstance(error, RemitError):
        return Answer(
            message=error.message,
            evidence=error.evidence,
            hint=error.hint,
            status=status_of(error),
        )
    return Answer(message=str(error), status=status_of(error))


def _answer(answer: Answer) -> None:
    os.write(1, msgspec.msgpack.encode(answer))


if __name__ == "__main__":
    main()
