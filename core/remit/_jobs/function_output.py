"""What a function said, as users are given it: records of values, logs, warnings and progress."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
import attrs
from anyio.lowlevel import RunVar

from remit._decoding import moment
from remit._errors import JobFailed, RemitError, RemoteProtocolError, ResultError
from remit._function_records import Failure, plain, taken
from remit._types import Record, Stream
from remit._wire import records
from remit._wire.records import Said

_STREAMS: dict[int, Stream] = {
    records.ITEM: "value",
    records.RESULT: "value",
    records.LOG: "log",
    records.WARNING: "warning",
    records.PROGRESS: "progress",
}


# An item of one byte can take 25 µs to decode: other tasks do not wait longer than 0.1 s for it.
_IN_THREAD_FROM = 1 << 12
_MOST_THREADS = 4
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("remit decoding")


@attrs.frozen
class Teller:
    """Makes records of what one job said. ``trust``: pickles are taken from there."""

    job: str
    location: str
    trust: bool

    def record(self, said: Said, seq: int) -> Record | None:
        """None for what only marks an end. Raises ResultError for a value that cannot be taken,
        and RemoteProtocolError."""
        kind = said.kind & ~records.PICKLED
        stream = _STREAMS.get(kind)
        time = moment(said.time)
        if stream is None or time is None:
            return None
        try:
            data = self.value(said) if stream == "value" else plain(stream, bytes(said.body))
        except RemitError as exc:
            where = f"{stream} {said.number} (byte {said.at} of what job {self.job} said)"
            raise type(exc)(f"{where}: {exc.message}", hint=exc.hint) from exc
        return Record(stream, data, said.number, seq, time, self.job, self.location)

    async def told(self, said: Said, seq: int) -> Record | None:
        """As `record`, without holding up other tasks."""
        return await beside(len(said.body), self.record, said, seq)

    def value(self, said: Said) -> Any:
        if said.kind & records.PICKLED:
            return unpickled(said.body, self.trust, f"job {self.job}")
        return taken(said.body, f"job {self.job} on {self.location}")


_Ts = TypeVarTuple("_Ts")
_T = TypeVar("_T")


async def beside(size: int, function: Callable[[Unpack[_Ts]], _T], *args: *_Ts) -> _T:
    """What a function makes of so many bytes from a target: in a thread if it may take its time.
    Cancelled, the thread goes on by itself."""
    if size < _IN_THREAD_FROM:
        return function(*args)
    return await anyio.to_thread.run_sync(
        function, *args, abandon_on_cancel=True, limiter=_threads()
    )


def _threads() -> anyio.CapacityLimiter:
    # Our own: the application's threads are for the application.
    try:
        return _limiter.get()
    except LookupError:
        _limiter.set(anyio.CapacityLimiter(_MOST_THREADS))
        return _limiter.get()


def unpickled(body: bytes | bytearray | memoryview, trust: bool, whose: str) -> Any:
    """The value in a pickle, from a target that is trusted. Raises ResultError."""
    if not trust:
        raise RemoteProtocolError(
            f"the result of {whose} is a pickle, which this session does not accept",
            hint="remit.connect(…, trust=True), where you trust that computer with this one",
        )
    try:
        return pickle.loads(body)
    except Exception as exc:
        raise ResultError(f"the result of {whose} cannot be unpickled: {exc!r}") from exc


def failed(failure: Failure, whose: str, **facts: Any) -> JobFailed | ResultError:
    """The error for a function that failed so; ``facts`` are those of JobFailed."""
    if failure.kind == "result":
        return ResultError(
            f"{whose} returned what cannot be sent as data: {failure.message}",
            hint="return numbers, text, bytes, or lists and dicts of them; or use trust=True",
        )
    lines = failure.traceback.rstrip().splitlines()
    words = f"{failure.type}: {failure.message}" if failure.message else failure.type
    stderr = facts.get("stderr_tail", b"").decode("utf-8", "replace").strip().splitlines()
    return JobFailed(
        f"{whose} raised {words}",
        type=failure.type,
        traceback=failure.traceback,
        evidence="\n".join([*lines, *(f"stderr  {line}" for line in stderr[-5:])]),
        **facts,
    )
