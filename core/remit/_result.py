"""The result of a function job: its value, the list of its items, or how it failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit import _records, _said
from remit._errors import RemoteProtocolError, ResultError
from remit._records import Malformed, Said, Splitter
from remit._said import Teller
from remit._words import JobState, Outcome, Record
from remit.abc import ResultStore

if TYPE_CHECKING:
    from remit._job import Job

# Bytes of the end of stderr that an error tells.
STDERR_TAIL = 4096


class FunctionResult:
    """One pass over what is not used up of a job."""

    def __init__(self, job: Job, store: ResultStore, teller: Teller) -> None:
        self._job = job
        self._store = store
        self._teller = teller
        self._stderr = b""
        self._items: list[Any] = []
        self._end: Said | None = None
        self._splitter: Splitter | None = None
        self._last: dict[str, Record] = {}

    async def wait(self) -> Any:
        """As `Job.result`."""
        reader = self._store.read(None, follow=True, consume=True)
        while (record := await reader.next()) is not None:
            self._last[record.stream] = record
            if record.stream == "records":
                self._take(record)
            elif record.stream == "stderr" and isinstance(record.data, bytes):
                self._stderr = (self._stderr + record.data)[-STDERR_TAIL:]
        state = await self._job.wait()
        if self._end is None:
            await self._find_used_up()
        value = self._judge(state)
        for record in self._last.values():
            reader.used(record)
        await reader.next()  # None: it is written down that they are used up
        return value

    def _take(self, record: Record) -> None:
        if self._splitter is None:
            self._splitter = Splitter(record.offset)
        try:
            said = self._splitter.feed(record.data)
        except Malformed as exc:
            raise RemoteProtocolError(f"job {record.job} said what is no record: {exc}") from exc
        for one in said:
            kind = one.kind & ~_records.PICKLED
            if kind == _records.ITEM:
                self._items.append(self._teller.value(one))
            elif kind in _records.LAST:
                self._end = one

    async def _find_used_up(self) -> None:
        """The end was received by somebody before us; it is still there."""
        at = self._job._result_at
        if at is None:
            return
        position = {**self._store.size, "records": at}
        reader = self._store.read(position, follow=False, consume=False)
        self._splitter = None
        while self._end is None and (record := await reader.next()) is not None:
            if record.stream == "records":
                self._take(record)
        reader.close()

    def _judge(self, state: JobState) -> Any:
        job, end = self._job, self._end
        outcome = job.outcome or Outcome()
        failure = None
        if end is not None and end.kind == _records.FAILURE:
            failure = _said.failure(end.body)
        if failure is not None and outcome.reason == "exited":
            raise _said.failed(
                failure,
                f"the function of job {job.id} on {job.location}",
                job=job,
                location=job.location,
                exit_status=outcome.exit_status,
                signal=outcome.signal,
                reason=outcome.reason,
                stderr_tail=self._stderr,
            )
        if state is not JobState.COMPLETED or failure is not None:
            error = job._failure(self._stderr)
            if failure is not None:  # of how it took being stopped
                error.type, error.traceback = failure.type, failure.traceback
            raise error
        if end is None:
            raise ResultError(
                f"job {job.id} on {job.location} is COMPLETED, and its result is not to be had",
                hint="with full='block' or on_max='truncate' what was received may be gone",
            )
        if end.kind & ~_records.PICKLED == _records.DONE:
            return self._items
        return self._teller.value(end)
