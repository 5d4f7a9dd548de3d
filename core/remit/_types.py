"""The nouns of remit: what a job is, how it stands, how it ended and what it produced."""

from __future__ import annotations

import enum
import os
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, TypeAlias, cast

import attrs

from remit import _amounts
from remit._public import named_as_written
from remit._wire import names, states, streams

# What `connect` calls with a stage and its detail.
OnStatus = Callable[[str, str], object]


def new_job_id() -> str:
    """A fresh job id: ``j`` and 12 of a-z2-7, 60 random bits."""
    return names.id_of(os.urandom(12))


def new_group_id() -> str:
    """A fresh id of a job group: ``g`` and 12 of a-z2-7."""
    return names.id_of(os.urandom(12), names.GROUP)


class JobState(enum.StrEnum):
    """How a job stands. The moves between them are in `remit._wire.states`."""

    PENDING = states.PENDING
    RUNNING = states.RUNNING
    BLOCKED = states.BLOCKED
    SUSPENDED = states.SUSPENDED
    STOPPING = states.STOPPING
    COMPLETED = states.COMPLETED
    FAILED = states.FAILED
    STOPPED = states.STOPPED
    DISCONNECTED = states.DISCONNECTED
    LOST = states.LOST

    @property
    def finished(self) -> bool:
        """COMPLETED, FAILED, STOPPED or LOST: it will not change again."""
        return self.value in states.FINISHED


class SessionState(enum.StrEnum):
    """How a session stands. BROKEN: the link was lost and is given up; CLOSED: ended from here."""

    OPENING = "OPENING"
    OPEN = "OPEN"
    RECONNECTING = "RECONNECTING"
    BROKEN = "BROKEN"
    CLOSED = "CLOSED"


class Pipe(enum.Enum):
    """The type of `PIPE`."""

    PIPE = "PIPE"

    def __repr__(self) -> str:
        return "remit.PIPE"


def _lease_seconds(value: object) -> float:
    return _amounts.seconds("seconds of a lease", value, above=0)


@attrs.frozen
class Lease:
    """Made by `lease`."""

    seconds: float = attrs.field(converter=_lease_seconds)


def lease(seconds: float) -> Lease:
    """``lifetime=remit.lease(seconds)``: a kept job that is detached from its session, and stopped
    (reason ``lease``) so long after its last caller has gone.

    Callers are the session that started it, for as long as it is open, and every session that has a
    handle of it. Raises ValueError unless ``seconds`` is more than 0 and finite.
    """
    return Lease(seconds)


PIPE: Final = Pipe.PIPE
"""``stdin=remit.PIPE``: the job reads what `Job.send` gives it."""

Stream = Literal["stdout", "stderr", "records", "value", "log", "warning", "progress"]
"""What users see is never ``records``: that is how stores are given the four that follow it, one
after another as bytes (docs/wire.md), so that one position tells how far all of them are."""

# What streams are called on the wire.
STREAMS: Final = cast(dict[int, Stream], streams.NAMES)


class LogoutWarning(UserWarning):
    """A job that is to outlive its session will not outlive the login session on its target."""


@attrs.frozen
class Outcome:
    """How a job ended, as far as it is known.

    ``reason`` is one word: exited, signalled, stopped, timeout and the others under *Reasons* in
    the reference, or one of a later version. ``note`` says what else is worth knowing;
    ``left_behind`` describes processes that ran on when the job was over.
    """

    exit_status: int | None = None
    signal: str | None = None
    reason: str = ""
    error: str | None = None
    note: str | None = None
    left_behind: tuple[str, ...] = ()


@attrs.frozen
class JobInfo:
    """What is known of a job, at one moment. Times are aware, by the target's clock."""

    id: str
    name: str | None
    state: JobState
    location: str
    command: str | tuple[str, ...]
    placement: str
    lifetime: str
    has_more_data: bool
    created: datetime | None = None
    started: datetime | None = None
    finished: datetime | None = None
    outcome: Outcome | None = None
    group: str | None = None
    problem: str | None = None
    """Why this job cannot be read in full, where it cannot."""
    pid: int | None = None
    """Of its first process, as its target numbers processes. None before that has begun and once
    it has ended, and where it is not known: of what runs on another computer of a shared home, and
    of a job whose results a collector of `remit start` gathers."""


@attrs.frozen
class Pruned:
    """A job that `Session.prune` removed, or would remove.

    ``finished`` is when its directory last changed where it is LOST. ``size`` is bytes of disk.
    """

    id: str
    name: str | None
    state: JobState
    finished: datetime | None
    size: int


@attrs.frozen
class Gap:
    """Stands as ``data`` of a record for ``size`` bytes that were dropped (``full="drop"``) or
    freed (``on_max="truncate"``) before they were read."""

    size: int


# To type checkers a plain `Record` is one of any stream, with any data.
if TYPE_CHECKING:
    from typing_extensions import TypeVar

    _S = TypeVar("_S", bound=Stream, covariant=True, default=Stream)
    _D = TypeVar("_D", covariant=True, default=Any)
else:
    from typing import TypeVar

    _S = TypeVar("_S", covariant=True)
    _D = TypeVar("_D", covariant=True)


@attrs.frozen
class Record(Generic[_S, _D]):
    """One piece of what a job produced.

    ``offset`` is the position of ``data`` in its stream, in bytes for stdout and stderr and in
    records elsewhere; ``seq`` orders the pieces of one job over all its streams. Where pieces are
    cut is no promise. To type checkers ``Record`` is a record of any stream; `AnyRecord` is the
    union that readers are given.
    """

    stream: _S
    data: _D
    offset: int
    seq: int
    time: datetime
    job: str
    location: str

    @property
    def end(self) -> int:
        """The position just after this record in its stream."""
        if isinstance(self.data, Gap):
            return self.offset + self.data.size
        return self.offset + (len(self.data) if isinstance(self.data, bytes) else 1)


@attrs.frozen
class LogRecord:
    """``data`` of a record of ``log``: what a function gave to `logging`. ``level`` is a number
    (`logging.INFO` is 20), ``created`` Unix seconds by the target's clock."""

    level: int
    logger: str
    message: str
    created: float


@attrs.frozen
class WarningRecord:
    """``data`` of a record of ``warning``; ``category`` is the name of its class."""

    category: str
    message: str
    filename: str
    lineno: int


@attrs.frozen
class Progress:
    """``data`` of a record of ``progress``: what a function gave to `progress`."""

    done: float
    total: float | None
    text: str


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """For a function that runs as a job: tells how far it is, as a record of ``progress``.

    Elsewhere, as here, nobody listens, and it does nothing.
    """


AnyRecord: TypeAlias = (
    Record[Literal["stdout"], bytes | Gap]
    | Record[Literal["stderr"], bytes | Gap]
    | Record[Literal["value"], Any]
    | Record[Literal["log"], LogRecord]
    | Record[Literal["warning"], WarningRecord]
    | Record[Literal["progress"], Progress]
)
"""A record as readers are given it: what ``data`` is shows by ``stream``, to type checkers too."""


def _counted(dropped: Mapping[str, int]) -> Mapping[str, int]:
    return Counter(dropped)


@attrs.frozen
class CommandResult:
    """What a command left: its exit status, and its output as bytes.

    ``dropped`` tells, by stream, how many bytes are missing from it (``full="drop"``, or freed
    under ``on_max="truncate"``), 0 where it is whole; what came before and after them stands
    together in the output.
    """

    exit_status: int | None
    stdout: bytes
    stderr: bytes
    dropped: Mapping[str, int] = attrs.field(factory=dict, converter=_counted, hash=False)

    @property
    def text(self) -> str:
        """``stdout`` as text; what is no UTF-8 is replaced."""
        return self.stdout.decode("utf-8", "replace")


@attrs.frozen
class Peer:
    """The computer and the account that a session reached, as its agent tells of them: the versions
    of the Python and of remit that run there, the directory in which kept jobs are (None: nowhere).
    """

    hostname: str
    user: str
    python: str
    platform: str
    version: str
    state: str | None


named_as_written(__name__)
