"""The result of a job. Of a command: what it printed. Of a function: its value, the list of its
items, or how it failed."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Protocol

from remit import _function_records
from remit._errors import JobFailed, JobStateError, RemitError, RemoteProtocolError, ResultError
from remit._function_records import FunctionFailure
from remit._jobs import function_output
from remit._jobs.failure import ended_as
from remit._jobs.function_output import Teller, beside
from remit._jobs.receiver import Turns
from remit._jobs.stores import Reader, Store
from remit._types import CommandResult, Gap, JobInfo, JobState, Outcome, Record
from remit._wire import records
from remit._wire.records import Malformed, Said, Splitter
from remit._wire.streams import STDERR_TAIL


class Source(Protocol):
    """The job whose result it is."""

    info: JobInfo
    result_at: int | None  # where a function's result is in what it said

    @property
    def known(self) -> JobInfo: ...

    async def wait(self) -> JobState: ...

    def failure(self, stderr: bytes, result: CommandResult | None = None) -> JobFailed: ...


class CommandOutput:
    """One pass over what is not used up of a command."""

    def __init__(self, job: Source, store: Store) -> None:
        self._job = job
        self._store = store
        self._parts: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        self._dropped: dict[str, int] = {}
        self._last: dict[str, Record] = {}

    async def wait(self, *, check: bool) -> CommandResult:
        """Waits for its end. Raises JobFailed, with the result, where it did not exit, and with
        ``check`` where it is not COMPLETED; then nothing is used up."""
        job = self._job
        reader = self._store.read(None, follow=True, consume=True)
        turns = Turns()
        while (record := await reader.next()) is not None:
            self._take(record)
            reader.take(record)
            await turns.next()
        state = await job.wait()
        outcome = job.info.outcome
        result = CommandResult(
            exit_status=None if outcome is None else outcome.exit_status,
            stdout=b"".join(self._parts["stdout"]),
            stderr=b"".join(self._parts["stderr"]),
            dropped=self._dropped,
        )
        exited = outcome is not None and outcome.reason == "exited"
        if state is not JobState.COMPLETED and (check or not exited):
            raise job.failure(result.stderr, result)
        await _use_up(reader, self._last)
        return result

    def _take(self, record: Record) -> None:
        self._last[record.stream] = record
        if isinstance(record.data, Gap):
            dropped = self._dropped.get(record.stream, 0)
            self._dropped[record.stream] = dropped + record.data.size
        elif record.stream in self._parts:
            self._parts[record.stream].append(record.data)


class FunctionResult:
    """One pass over what is not used up of a function."""

    def __init__(self, job: Source, store: Store, teller: Teller) -> None:
        self._job = job
        self._store = store
        self._teller = teller
        self._stderr = b""
        self._items: list[Any] = []
        self._end: Said | None = None
        self._dropped = 0  # bytes of records
        self._splitter: Splitter | None = None
        self._last: dict[str, Record] = {}

    async def wait(self) -> Any:
        """As `Job.result`."""
        reader = self._store.read(None, follow=True, consume=True)
        turns = Turns()
        while (record := await reader.next()) is not None:
            self._last[record.stream] = record
            if record.stream == "records":
                await self._take(record)
            elif record.stream == "stderr" and isinstance(record.data, bytes):
                self._stderr = (self._stderr + record.data)[-STDERR_TAIL:]
            reader.take(record)
            await turns.next()
        state = await self._job.wait()
        if self._end is None:
            await self._find_used_up()
        value = await self._judge(state)
        await _use_up(reader, self._last)
        return value

    async def failure(self) -> FunctionFailure | None:
        """How the function failed; None where that is not to be had. Uses nothing up."""
        with suppress(RemitError):
            await self._find_used_up()
            if self._end is not None and self._end.kind == records.FAILURE:
                return FunctionFailure.of(_function_records.failure(self._end.body))
        return None

    async def _take(self, record: Record) -> None:
        if isinstance(record.data, Gap):
            self._dropped += record.data.size
            self._splitter = None
            return
        if self._splitter is None:
            self._splitter = Splitter(record.offset)
        try:
            said = self._splitter.feed(record.data)
        except Malformed as exc:
            raise RemoteProtocolError(f"job {record.job} sent a malformed record: {exc}") from exc
        for one in said:
            kind = one.kind & ~records.PICKLED
            if kind == records.ITEM:
                self._items.append(await beside(len(one.body), self._teller.value, one))
            elif kind in records.LAST:
                self._end = one

    async def _find_used_up(self) -> None:
        """The end was received by somebody before us; it is still there."""
        at = self._job.result_at
        if at is None:
            return
        position = {**self._store.size, "records": at}
        reader = self._store.read(position, follow=False, consume=False)
        self._splitter = None
        with suppress(JobStateError):  # what was used up is gone
            while self._end is None and (record := await reader.next()) is not None:
                if record.stream == "records":
                    await self._take(record)
        reader.close()

    async def _judge(self, state: JobState) -> Any:
        job, end = self._job.info, self._end
        outcome = job.outcome or Outcome()
        failure = None
        if end is not None and end.kind == records.FAILURE:
            failure = _function_records.failure(end.body)
        if failure is not None and outcome.reason == "exited":
            raise function_output.failed(
                failure,
                f"the function of job {job.id} on {job.location}",
                job=self._job.known,
                location=job.location,
                **ended_as(outcome),
                stderr_tail=self._stderr,
            )
        if state is not JobState.COMPLETED or failure is not None:
            error = self._job.failure(self._stderr)
            if failure is not None:  # of how it took being stopped
                error.type, error.traceback = failure.type, failure.traceback
            raise error
        if end is None:
            raise ResultError(
                f"job {job.id} on {job.location} is COMPLETED, but its result is not available",
                hint="with full='block' or on_max='truncate' what was received may be gone",
            )
        if end.kind & ~records.PICKLED == records.DONE:
            if self._dropped:
                raise ResultError(
                    f"{self._dropped} bytes of what job {job.id} on {job.location} gave were "
                    "dropped: its items are not all here",
                    hint="receive() gives those that are, and a Gap for the others",
                )
            return self._items
        return await beside(len(end.body), self._teller.value, end)


async def _use_up(reader: Reader, last: dict[str, Record]) -> None:
    """Up to the last record of each stream."""
    for record in last.values():
        reader.used(record)
    await reader.next()  # None: it is written down that they are used up
