"""The collector: the process here that a return job sends its results to.

``remit start`` starts it, in a session of its own, and is told by a pipe whether the job runs. It
then fills a local job directory until the job ends, and does what is asked of the job there.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from functools import partial

import anyio
import anyio.abc
import msgspec

from remit import Job, JobStateError, RemitError
from remit._agent.base import fds
from remit._jobdir import mailbox
from remit._wire.requests import STOP_GRACE
from remit.cli import _connecting, _endings, _hints, _stopped
from remit.cli._collecting import Answer, Assignment
from remit.cli._gathering import Gathering, StandIn
from remit.cli._interrupts import beside
from remit.cli._report import status_of
from remit.cli._work import Work

# Seconds until what went wrong is tried again.
_AGAIN = 1.0
_OVER = "the job is over"
# Lines of the log: what goes wrong in each turn is not to fill the disk.
_MOST_NOTES = 100


def main() -> None:
    """Takes its assignment from stdin, and answers once on stdout."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    assignment = _assignment(sys.stdin.buffer.read())
    _stopped.expect()
    _connecting.timeout = assignment.connect_timeout
    _connecting.reuse()
    # Before there are threads and an event loop, which a fork would halve.
    collector = _Collector(assignment, StandIn())
    anyio.run(collector.run)


def _assignment(data: bytes) -> Assignment:
    """Ends with a status alone where it is cut: whoever began to say it is gone."""
    try:
        return msgspec.msgpack.decode(data, type=Assignment)
    except msgspec.MsgspecError:
        raise SystemExit(1) from None


class _Collector:
    def __init__(self, assignment: Assignment, stand_in: StandIn) -> None:
        self._assignment = assignment
        self._stand_in = stand_in
        self._job: Job | None = None
        self._stops: list[bytes] = []  # requests that are answered once the outcome is written
        self._taken: set[bytes] = set()  # a request comes again until it is answered
        self._survivors: list[str] = []
        self._full: OSError | None = None
        self._gathering: Gathering | None = None
        self._notes = 0

    async def run(self) -> None:
        """From connecting to the written outcome; SIGTERM ends the job, too."""
        scope = anyio.CancelScope()

        async def obey() -> None:
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    if self._job is None:
                        scope.cancel()
                    else:
                        await self._stop(self._job, STOP_GRACE)

        try:
            async with beside(obey):
                with scope:
                    await self._collect()
        except (RemitError, OSError) as exc:
            if self._job is not None:
                self._note(exc)
                raise
            with suppress(BrokenPipeError):  # nobody waits for it any more
                _answer(_refusal(exc))
        except Exception as exc:
            self._note(exc)
            raise

    async def _collect(self) -> None:
        work = self._assignment.work()
        async with _connecting.connect(self._assignment.target, reconnect=0) as session:
            gathering = Gathering(self._assignment.id, work, session.location, self._stand_in)
            self._gathering = gathering
            try:
                options = work.options()
                if work.stdin is not None:
                    os.close(work.stdin)
                job = await session.start(
                    work.words(),
                    placement="return",
                    id=self._assignment.id,
                    full="block",
                    **options,
                )
                _answer(_started(job, work))
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
            await self._finish(job, gathering)

    async def _gather(self, job: Job, gathering: Gathering) -> None:
        try:
            async for record in job.receive():
                if self._full is None:
                    try:
                        gathering.append(record)
                    except OSError as exc:
                        self._full = exc
                        await self._stop(job, STOP_GRACE)
            await job.wait()
        except RemitError:
            pass  # a lost link is an end like others: what came is here, and the job is LOST
        except Exception as exc:
            # Without anybody who takes its output the job is not to go on unseen.
            self._note(exc)
            await self._stop(job, STOP_GRACE)

    async def _finish(self, job: Job, gathering: Gathering) -> None:
        """Whatever the disk says: while its end is not written down the job is not over."""
        while gathering.exists:
            try:
                gathering.finish(job, self._full)
                break
            except OSError as exc:
                self._note(exc)
                await anyio.sleep(_AGAIN)
        try:
            self._answer_stops(gathering.inbox)
        except Exception as exc:
            self._note(exc)

    def _note(self, exc: Exception) -> None:
        """Writes down what went wrong in one turn. The next ones are taken all the same."""
        self._notes += 1
        if self._gathering is None or self._notes > _MOST_NOTES:
            return
        with suppress(OSError):
            log = self._gathering.open_log()
            try:
                os.write(log, "".join(traceback.format_exception(exc)).encode("utf-8", "replace"))
            finally:
                os.close(log)

    # -- what is asked of the job, here

    async def _heed(self, inbox: mailbox.Mailbox, job: Job, tasks: anyio.abc.TaskGroup) -> None:
        while True:
            await anyio.wait_readable(inbox.fd)
            while not self._took_all(inbox, job, tasks):  # noqa: ASYNC110 - nobody tells of that
                await anyio.sleep(_AGAIN)

    def _took_all(self, inbox: mailbox.Mailbox, job: Job, tasks: anyio.abc.TaskGroup) -> bool:
        """False where some of it cannot be read yet, or went wrong: that is no reason to end a
        job."""
        try:
            self._take(inbox, job, tasks)
        except Exception as exc:
            self._note(exc)
            return False
        return not inbox.look_again

    def _take(self, inbox: mailbox.Mailbox, job: Job, tasks: anyio.abc.TaskGroup) -> None:
        requests, rung = inbox.read(self._taken)
        if rung:
            tasks.start_soon(self._stop, job, STOP_GRACE)
        for name, request in requests:
            self._taken.add(name)
            what = name.partition(b"-")[0]
            if what == b"stop":
                self._stops.append(name)
                tasks.start_soon(self._stop, job, _grace(request))
            else:
                tasks.start_soon(self._answer, inbox, name, request, job)

    async def _answer(self, inbox: mailbox.Mailbox, name: bytes, request: object, job: Job) -> None:
        try:
            inbox.answer(name, await self._asked(name.partition(b"-")[0], request, job))
        except Exception as exc:
            self._note(exc)
            inbox.answer(name, {"error": f"{type(exc).__name__}: {exc}"})
        finally:
            self._taken.discard(name)

    async def _asked(self, what: bytes, request: object, job: Job) -> dict[str, object]:
        try:
            if what == b"signal":
                return await _signalled(request, job)
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
        try:
            self._survivors = await job.stop(grace)
        except RemitError:
            pass  # where the link is lost meanwhile, the far end stops the job by itself
        except Exception as exc:
            self._note(exc)

    def _answer_stops(self, inbox: mailbox.Mailbox) -> None:
        waiting = list(self._stops)
        # Some may have come after we last looked.
        while late := inbox.read(set(waiting))[0]:
            waiting += [name for name, _ in late]
        for name in waiting:
            over = name.startswith(b"stop-")
            inbox.answer(name, {"survivors": self._survivors} if over else {"error": _OVER})


async def _signalled(request: object, job: Job) -> dict[str, object]:
    """As a supervisor answers it."""
    word = request.get("signal") if isinstance(request, dict) else None
    try:
        await job.signal(word)  # type: ignore[arg-type]
    except (RemitError, TypeError, ValueError) as exc:
        code = "state" if isinstance(exc, JobStateError) else "no-signal"
        return {"error": exc.message if isinstance(exc, RemitError) else str(exc), "code": code}
    return {}


def _grace(request: object) -> float:
    grace = request.get("grace") if isinstance(request, dict) else None
    return float(grace) if isinstance(grace, (int, float)) and 0 <= grace <= 3600 else STOP_GRACE


def _started(job: Job, work: Work) -> Answer:
    outcome = job.outcome
    if outcome is None or outcome.reason != "start-failed":
        return Answer()
    hint = _hints.hint(work.command, work.cwd, outcome)
    return Answer(problem=_endings.words(outcome), hint=hint)


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
