"""What plugins implement, and what they are given. Read in five minutes; a promise.

`Transport` and `Placement` never grow. Each further ability is a small protocol of its own here,
found by isinstance; a plugin without it gets the plain way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, runtime_checkable

import attrs

from remit._errors import ConnectError
from remit._function_records import DecodedRecord, FunctionFailure, RecordDecoder
from remit._types import JobInfo, Outcome, Record
from remit._wire.sanitize import harmless, one_line

__all__ = [
    "API",
    "ByteStream",
    "Channel",
    "ChecksTarget",
    "DecodedRecord",
    "End",
    "ExplainsFailure",
    "FunctionFailure",
    "HasFileno",
    "IsHere",
    "JobRequest",
    "KeepsConnections",
    "KnowsAddresses",
    "OutlivesSession",
    "Placement",
    "Position",
    "RecordDecoder",
    "ResultStore",
    "StoreReader",
    "TakesBareWords",
    "TakesOptions",
    "TakesRawAddress",
    "Target",
    "Transport",
    "harmless",
    "one_line",
]

API = 1
"""The version of these protocols that this remit speaks; a plugin says ``api = 1``."""

Position = Mapping[str, int]
"""A place in a job's output: for each of the streams of a store how many bytes lie before it. A
stream that is not named counts as 0."""


@attrs.frozen
class Target:
    """Where jobs run: ``scheme:address?options``, taken apart.

    ``text`` is what the user wrote, ``connect_timeout`` the seconds that the whole of connecting
    may take; a transport may hand its tool a shorter limit so that the tool's own words are seen.
    ``persist``: for how many seconds a connection may stay for the next who comes, where a
    transport can have several over one; 0: not at all.
    """

    scheme: str
    address: str
    options: Mapping[str, str] = attrs.field(factory=dict)
    text: str = ""
    connect_timeout: float = 30.0
    persist: float = 0.0

    def __str__(self) -> str:
        return self.text or f"{self.scheme}:{self.address}"


@attrs.frozen
class End:
    """How the transport's program ended: its exit status (negative: a signal), None while it runs
    or where it cannot be known, and the last of what it said on stderr (at most 8 KiB)."""

    exit_status: int | None
    stderr: bytes


class ByteStream(Protocol):
    """Both directions of one command on a target."""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes of the command's stdout, at least one; ``b""`` at its end.

        Cancelled, it has taken nothing.
        """

    async def send(self, data: bytes) -> None:
        """Hands ``data`` to the command's stdin. Raises BrokenPipeError once nobody reads it.

        Cancelled, a part may have been sent: the stream can then only be closed.
        """

    async def wait(self) -> End:
        """Waits for the end of the command and tells it. Cancelled, it changes nothing."""

    @property
    def stderr_tail(self) -> bytes:
        """The last of what the command said on stderr so far, at most 8 KiB."""


@runtime_checkable
class Transport(Protocol):
    """A way to start one command on another computer and talk with it in bytes."""

    @property
    def api(self) -> int:
        """The version of these protocols that it was written for: `API`."""

    @property
    def scheme(self) -> str:
        """What stands before the colon of its targets."""

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """Starts ``argv`` there (no shell of ours). Leaving the context ends the transport's
        program, also when cancelled, within a few seconds.

        Raises TargetError before anything is started where ``target`` can never be right, and
        ConnectError where the transport's program is missing.
        """


# -- further abilities of a transport


@runtime_checkable
class TakesOptions(Protocol):
    """The transport has options of its own in the target's query: ``?config=…``."""

    @property
    def option_names(self) -> Collection[str]:
        """Names of options, beside ``python`` and ``state``; any other is a TargetError."""


@runtime_checkable
class ChecksTarget(Protocol):
    """The transport can tell beforehand that a target can never be right."""

    def check(self, target: Target) -> None:
        """Raises TargetError. Starts nothing."""


@runtime_checkable
class TakesBareWords(Protocol):
    """A target without a scheme goes to this transport while ``bare_words`` is true."""

    @property
    def bare_words(self) -> bool:
        """Whether it takes them; one transport of a process may."""


@runtime_checkable
class TakesRawAddress(Protocol):
    """All after the scheme is the address while ``raw_address`` is true: there are no options."""

    @property
    def raw_address(self) -> bool:
        """Whether the address goes to the end of the target."""


@runtime_checkable
class KnowsAddresses(Protocol):
    """A transport that can tell some addresses, to complete a target that is being typed."""

    def addresses(self) -> Collection[str]:
        """Those that are known without asking for long: somebody waits with a finger on Tab. Never
        raises; empty where none is known."""


@runtime_checkable
class KeepsConnections(Protocol):
    """A transport whose connection may stay for those that come after: `Target.persist`, ``remit
    login`` and ``remit doctor``."""

    def keep(self, target: Target, seconds: float) -> str:
        """Opens a connection on the caller's terminal, which may ask its user, and leaves it there
        until so long after its last use. Words that say so. It takes as long as its user does.
        Raises ConnectError."""

    def let_go(self, target: Target) -> bool:
        """Ends it; whether there was one."""

    def kept(self, target: Target) -> str:
        """How the next who comes is connected, in words: by which connection, or why by none."""


@runtime_checkable
class IsHere(Protocol):
    """While ``here`` is true targets are this computer: jobs start in the caller's directory and
    their location is ``localhost``."""

    @property
    def here(self) -> bool:
        """Whether commands run on this computer, with its files and processes."""


@runtime_checkable
class ExplainsFailure(Protocol):
    """The transport knows what its program's failures mean."""

    def explain(self, target: Target, end: End) -> ConnectError | None:
        """The error for a program that ended so before an agent came up; None: no idea."""


@runtime_checkable
class HasFileno(Protocol):
    """A stream whose sending side is a file descriptor in non-blocking mode. Lets remit show signs
    of life from a thread while the event loop is busy."""

    def fileno(self) -> int:
        """The descriptor. What is written to it must reach the command as what `send` is given
        does."""


# -- placements


class StoreReader(Protocol):
    """One pass over a store. It holds no task; dropping it is allowed."""

    async def next(self) -> Record | None:
        """The next record; None at the end, or where there is nothing now and it does not follow.

        Cancelled, nothing is lost: the record comes at the next call. Raises JobStateError once
        another consuming reader has taken over, and RemitErrors for what went wrong.
        """

    def used(self, record: Record) -> None:
        """Marks ``record`` as used up, and what lies before it in its stream. For consuming
        readers. ``record`` may be a part of one that was given, up to some byte."""

    def close(self) -> None:
        """Gives the pass up; twice is quiet."""


class ResultStore(Protocol):
    """Where the output of one job is. One reader at a time consumes; any number may read along.

    A store knows three streams, each of them bytes: ``stdout``, ``stderr``, and ``records``, which
    holds all that a function says beside (`RecordDecoder` tells what). ``data`` of each `Record` is
    bytes, or a `Gap` where a reader is told what was dropped; ``offset`` goes on where the one
    before it in the stream ended. Pieces may be cut and joined; the order across streams is kept.

    All methods but `StoreReader.next` and `aclose` are called in the event loop: be quick.
    """

    def append(self, record: Record) -> None:
        """Takes a record that the target sent. Never waits: a store that has no room grants no
        credit (`Channel.grant`), and then nothing more comes. Under ``full="drop"`` each record of
        ``records`` holds whole records of the function."""

    def read(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        """A pass from ``position`` on, or from what is used up where it is None. ``follow``: until
        the job has ended, else what there is now."""

    @property
    def size(self) -> Position:
        """How much came: bytes of each stream, gaps counted."""

    @property
    def used(self) -> Position:
        """How much of that is consumed."""

    def close(self, outcome: Outcome | None) -> None:
        """Nothing more will be appended; readers come to their end, and so do the tasks that
        `Channel.start_soon` runs, once what is on its way has arrived. May be called twice."""

    async def aclose(self) -> None:
        """Frees what the store holds here, such as a file. After `close`, and after its tasks have
        ended or were given up. Shielded, and given up after 10 s. May be called twice."""


@runtime_checkable
class OutlivesSession(Protocol):
    """A store that is read after its session, too, while ``outlives_session`` is true: its results
    are held by the job's handle, and it is not closed at the end of the session."""

    @property
    def outlives_session(self) -> bool:
        """Whether what is stored can be read without the session."""


class Channel(Protocol):
    """What a placement is given of the job's link.

    Before the store is opened the target may send ``buffer_limit`` bytes, at most 1 MiB; from then
    on what the store grants.
    """

    @property
    def full(self) -> str:
        """What to do when the buffer is full: ``spill`` (put it elsewhere, and lose nothing),
        ``block`` (grant only as records are used up) or ``drop`` (the oldest; readers that miss
        some are given a `Gap`). A store that always has room may treat all of them as ``spill``."""

    @property
    def buffer_limit(self) -> int:
        """Bytes that may be held in memory here."""

    @property
    def size(self) -> Position:
        """What is known to be spooled on the target; empty where nothing is spooled."""

    @property
    def used(self) -> Position:
        """What is known to be used up of that."""

    def grant(self, size: int) -> None:
        """Lets the target send ``size`` more bytes."""

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Runs ``function(*args)`` beside the session. `Job.wait` and the session's end wait for it
        once the store was closed, for 30 s at most; then it is cancelled."""

    def open_reader(self, position: Position | None, *, follow: bool, consume: bool) -> StoreReader:
        """Reads what is spooled on the target, as `ResultStore.read`."""


@runtime_checkable
class Placement(Protocol):
    """A strategy for where results are."""

    @property
    def api(self) -> int:
        """The version of these protocols that it was written for: `API`."""

    @property
    def name(self) -> str:
        """What users give as ``placement=``."""

    @property
    def spools(self) -> bool:
        """Whether the agent spools output in a job directory there (such jobs can be detached);
        else it sends the output, and the job ends with its session."""

    def open_store(self, job: JobInfo, channel: Channel) -> ResultStore:
        """The store of one job, on the caller's side."""


# -- what the hook remit_job_starting is given


class JobRequest(Protocol):
    """A job that is about to be started. What is in it has been checked already."""

    @property
    def target(self) -> str:
        """The target of its session."""

    @property
    def location(self) -> str:
        """Where it is to run, for people."""

    @property
    def id(self) -> str:
        """Its id."""

    @property
    def name(self) -> str | None:
        """Its name."""

    @property
    def command(self) -> str | tuple[str, ...]:
        """A line, words, or the name of a function."""

    @property
    def is_function(self) -> bool:
        """Whether it is a function."""

    @property
    def placement(self) -> str:
        """The name of its placement."""

    @property
    def lifetime(self) -> str:
        """``session``, ``detached`` or ``lease``."""

    @property
    def cwd(self) -> str | None:
        """Where it is to run there; None: where jobs begin."""

    @property
    def env(self) -> Mapping[str, str | None]:
        """What is added to its environment, by plugins asked before too; None: removed."""

    def add_env(self, name: str, value: str | None) -> None:
        """Adds a variable, or with None has it removed. Raises ValueError and TypeError."""

    def refuse(self, reason: str) -> None:
        """Has nothing started: `remit.JobRefused` with this reason."""
