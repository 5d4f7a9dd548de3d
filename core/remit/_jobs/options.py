"""What may be said at a start and at a connection: for type checkers, and as one value."""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Mapping, Sequence
from os import PathLike
from typing import Any, BinaryIO, Literal, TypedDict

import attrs

from remit._public import named_as_written
from remit._types import Lease, OnStatus, Pipe

Word = str | bytes | PathLike[str] | PathLike[bytes]
Work = str | Sequence[Word] | Callable[..., Any]
Stdin = bytes | bytearray | memoryview | BinaryIO | AsyncIterable[bytes] | Pipe | None

Lifetime = Literal["session", "detached"]
Full = Literal["spill", "block", "drop"]
OnMax = Literal["stop", "truncate"]
Leftovers = Literal["leave", "stop"]


class ConnectOptions(TypedDict, total=False):
    """The options of `remit.connect`, for ``**options: Unpack[remit.ConnectOptions]``."""

    connect_timeout: float
    silence: float
    reconnect: float | None
    trust: bool
    workers: int | None
    calls_per_worker: int
    via: Sequence[str] | None
    on_status: OnStatus | None


class StartOptions(TypedDict, total=False):
    """The options of `Session.start`, for ``**options: Unpack[remit.StartOptions]``. ``placement``
    may be any that a plugin brings."""

    placement: str
    lifetime: Lifetime | Lease | None
    name: str | None
    id: str | None
    cwd: Word | None
    env: Mapping[str, str | None] | None
    stdin: Stdin
    login: bool
    timeout: float | None
    merge: bool
    leftovers: Leftovers
    full: Full
    buffer_limit: int
    max_output: int | None
    on_max: OnMax
    python: str | None


@attrs.frozen
class StartSettings:
    """The options of one start, all of them, in the order that `Session.start` has."""

    placement: str = "return"
    lifetime: Lifetime | Lease | None = None
    name: str | None = None
    id: str | None = None
    cwd: Word | None = None
    env: Mapping[str, str | None] | None = None
    stdin: Stdin = None
    login: bool = False
    timeout: float | None = None
    merge: bool = False
    leftovers: Leftovers = "leave"
    full: Full = "spill"
    buffer_limit: int = 8 << 20
    max_output: int | None = None
    on_max: OnMax = "stop"
    python: str | None = None
    # Not for users to say.
    group: str | None = None  # the id of the job group that it is a child of
    unique: bool = False  # no unfinished job on the target may bear the name


class RunOptions(StartOptions, total=False):
    """The options of `Session.run`."""

    check: bool


class JobOptions(ConnectOptions, StartOptions, total=False):
    """The options of `remit.start`: of its session and of its job."""


named_as_written(__name__)
