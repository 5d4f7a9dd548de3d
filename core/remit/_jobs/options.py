"""What may be said at a start and at a connection, as type checkers see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

from remit._jobs.request import Stdin, Word
from remit._public import named_as_written
from remit._types import Lease

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


class StartOptions(TypedDict, total=False):
    """The options of `Session.start`, for ``**options: Unpack[remit.StartOptions]``. ``placement``
    may be any that a plugin brings."""

    placement: str
    lifetime: Lifetime | Lease | None
    name: str | None
    id: str | None
    cwd: Word | None
    env: Mapping[str, str] | None
    stdin: Stdin
    timeout: float | None
    merge: bool
    leftovers: Leftovers
    full: Full
    buffer_limit: int
    max_output: int | None
    on_max: OnMax
    python: str | None


class RunOptions(StartOptions, total=False):
    """The options of `Session.run`."""

    check: bool


class JobOptions(ConnectOptions, StartOptions, total=False):
    """The options of `remit.start`: of its session and of its job."""


named_as_written(__name__)
