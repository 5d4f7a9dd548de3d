"""Control bodies, typed: what the agent says is checked against these before anyone reads it."""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from remit import _errors
from remit._decoding import decode, moment
from remit._errors import RemitError
from remit._types import JobInfo, JobState, Outcome, Pruned

_encoder = msgspec.msgpack.Encoder()

# What may become part of a path, a line or a decision here is checked by type, once: it is refused
# where it is decoded. (No "$": that also matches before a newline.)
JobId = Annotated[str, Meta(pattern=r"\Aj[a-z2-7]{12}\Z")]
# A reason, or the name of a signal: a word of ours, or of a later version.
ShortWord = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_.+-]{0,64}\Z")]
ExitStatus = Annotated[int, Meta(ge=0, le=255)]
Size = Annotated[int, Meta(ge=0, le=1 << 62)]
# Of what a target tells in words so much is kept.
_MOST_TEXT = 1 << 14
_MOST_LINES = 100
_GROUP = re.compile(r"g[a-z2-7]{12}")
# What users are told as it stands.
_SAME = ("id", "name", "state", "placement", "lifetime", "pid")
_TIMES = ("created", "started", "finished")
_ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.STOPPED)


class Hello(msgspec.Struct, kw_only=True):
    """What the agent says of itself and of its computer."""

    protocol: int
    features: list[str] = []
    version: str = ""
    python: str = ""
    executable: bytes = b""
    hostname: str = ""
    user: str = ""
    uid: int = -1
    pid: int = 0
    home: bytes = b""
    platform: str = ""
    time: float = 0.0
    state: bytes | None = None
    state_problem: str | None = None
    problem: str | None = None  # why there can be no session with it


class Command(msgspec.Struct, kw_only=True):
    argv: list[bytes] | None = None
    line: bytes | None = None
    function: str | None = None


class OutcomeMap(msgspec.Struct, kw_only=True):
    exit_status: ExitStatus | None = None
    signal: ShortWord | None = None
    reason: ShortWord = ""
    error: str | None = None
    note: str | None = None
    left_behind: list[str] = []
    result_at: Size | None = None

    def outcome(self) -> Outcome:
        return Outcome(
            exit_status=self.exit_status,
            signal=self.signal,
            reason=self.reason,
            error=_cut(self.error),
            note=_cut(self.note),
            left_behind=tuple(one[:_MOST_TEXT] for one in self.left_behind[:_MOST_LINES]),
        )


class Sizes(msgspec.Struct, kw_only=True):
    stdout: Size = 0
    stderr: Size = 0
    records: Size | None = None  # only functions have any

    def position(self) -> dict[str, int]:
        position = {"stdout": self.stdout, "stderr": self.stderr}
        if self.records is not None:
            position["records"] = self.records
        return position


class JobMap(msgspec.Struct, kw_only=True):
    """A job as the agent tells it: docs/wire.md."""

    id: JobId
    state: JobState
    name: str | None = None
    group: str | None = None
    placement: str = ""
    lifetime: str = ""
    location: str | None = None
    command: Command | None = None
    created: float | None = None
    started: float | None = None
    finished: float | None = None
    outcome: OutcomeMap | None = None
    pid: Size | None = None
    has_more: bool = True
    sizes: Sizes = msgspec.field(default_factory=Sizes)
    used: Sizes = msgspec.field(default_factory=Sizes)
    problem: str | None = None
    warning: str | None = None

    def __post_init__(self) -> None:
        if self.state not in _ENDED:
            return
        if self.outcome is None:
            raise ValueError(f"job {self.id} is {self.state}, and has no outcome")
        succeeded = self.outcome.exit_status == 0 and self.outcome.signal is None
        if self.state is JobState.COMPLETED and not succeeded:
            raise ValueError(f"job {self.id} is COMPLETED, and did not exit with status 0")

    def info(self, location: str, *, here: bool) -> JobInfo:
        """The same for users. ``location`` is the session's: where a job is, only it can know. But
        a job that was collected ``here``, on our own computer, says where it ran."""
        same = {name: getattr(self, name) for name in _SAME}
        times: dict[str, Any] = {name: moment(getattr(self, name)) for name in _TIMES}
        return JobInfo(
            **same,
            **times,
            location=(self.location if here else None) or location,
            command=_command(self.command),
            has_more_data=self.has_more if self.state.finished else True,
            outcome=None if self.outcome is None else self.outcome.outcome(),
            group=self.group if _GROUP.fullmatch(self.group or "") else None,
            problem=_cut(self.problem),
        )


class JobNews(msgspec.Struct, kw_only=True):
    job: JobMap


class JobPage(msgspec.Struct, kw_only=True):
    jobs: list[JobMap]
    next: JobId | None = None
    gone: bool = False  # that the one that was asked for was removed is known there


class PrunedMap(msgspec.Struct, kw_only=True):
    id: JobId
    state: JobState
    size: Size
    name: str | None = None
    finished: float | None = None

    def pruned(self) -> Pruned:
        return Pruned(
            id=self.id,
            name=self.name,
            state=self.state,
            finished=moment(self.finished),
            size=self.size,
        )


class PrunedPage(msgspec.Struct, kw_only=True):
    jobs: list[PrunedMap]
    next: tuple[float, JobId] | None = None


class ReadAccepted(msgspec.Struct, kw_only=True):
    position: Sizes


class Tailed(msgspec.Struct, kw_only=True):
    position: Sizes | None


class AllSent(msgspec.Struct, kw_only=True):
    position: Sizes
    complete: bool = True


class Freed(msgspec.Struct, kw_only=True):
    position: Sizes


class ReadEnd(msgspec.Struct, kw_only=True):
    complete: bool
    job: JobMap


class Stopped(msgspec.Struct, kw_only=True):
    survivors: list[str]
    job: JobMap


class Saved(msgspec.Struct, kw_only=True):
    path: bytes


class Sealed(msgspec.Struct, kw_only=True):
    ran: bool


class Nothing(msgspec.Struct, kw_only=True):
    """An answer whose content does not matter."""


class Greeting(msgspec.Struct, kw_only=True):
    """What an interpreter for functions says of itself."""

    version: tuple[int, int, int]
    implementation: str
    executable: bytes = b""


class PackageCount(msgspec.Struct, kw_only=True):
    count: int


class Workers(msgspec.Struct, kw_only=True):
    workers: int


class Goodbye(msgspec.Struct, kw_only=True):
    reason: str = ""
    left: list[str] = []


class Refusal(msgspec.Struct, kw_only=True):
    code: str
    message: str
    evidence: str | None = None
    hint: str | None = None
    ids: list[JobId] = []

    def error(self) -> RemitError:
        kind = _REFUSED.get(self.code, RemitError)
        evidence = self.evidence or "\n".join(self.ids[:_MOST_LINES])
        hint = self.hint or ""
        return kind(
            self.message[:_MOST_TEXT], evidence=evidence[:_MOST_TEXT], hint=hint[:_MOST_TEXT]
        )


class NotRun(Refusal, kw_only=True):
    """Why no worker could be had for a call."""

    call: int


class PoolEnd(msgspec.Struct, kw_only=True):
    """``problem``: what is wrong with what was sent. None: the interpreter was killed."""

    problem: str | None = None


class Failure(msgspec.Struct, kw_only=True):
    """The end of a channel on which something went wrong in the agent itself."""

    error: Refusal | None = None


_REFUSED: dict[str, type[RemitError]] = {
    "not-found": _errors.JobNotFound,
    "ambiguous": _errors.JobNotFound,
    "state": _errors.JobStateError,
    "gone": _errors.JobStateError,
    "no-state": _errors.TargetError,
    "no-python": _errors.TargetError,
    "no-signal": _errors.TargetError,
    "bad-request": _errors.LocalProtocolError,
    "internal": _errors.RemoteProtocolError,
}


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_MOST_TEXT]


def encode(value: object) -> bytes:
    return _encoder.encode(value)


def decode_event(body: bytes) -> tuple[str, bytes]:
    """The name of an event, and its arguments still packed."""
    name, arguments = decode(body, tuple[str, msgspec.Raw])
    return name, bytes(arguments)


def _command(command: Command | None) -> str | tuple[str, ...]:
    if command is None:
        return ""
    if command.argv is not None:
        return tuple(_text(word) for word in command.argv)
    if command.function is not None:
        return f"{command.function}()"
    return _text(command.line or b"")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
