"""The hooks, as pluggy knows them. All are synchronous and return objects; what takes time is a
method on those."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import pluggy

from remit._entry_points import GROUP
from remit._public import named_as_written

# Who marks a hook waits for none of what hooks are given.
if TYPE_CHECKING:
    import click

    from remit._types import AnyRecord, JobInfo, JobState
    from remit.abc import FunctionFailure, JobRequest, Placement, Transport

_F = TypeVar("_F", bound=Callable[..., Any])

_hookspec = pluggy.HookspecMarker(GROUP)
# Marks a function of a plugin as the implementation of the hook of its name.
hookimpl = cast("Callable[[_F], _F]", pluggy.HookimplMarker(GROUP))


@_hookspec
def remit_transports() -> list[Transport]:  # type: ignore[empty-body]
    """The transports that the plugin brings."""


@_hookspec
def remit_placements() -> list[Placement]:  # type: ignore[empty-body]
    """The placements that the plugin brings."""


@_hookspec
def remit_job_starting(request: JobRequest) -> None:
    """A job is about to be started by this process: add to its environment, or refuse it. Called in
    the event loop: be quick."""


@_hookspec
def remit_job_changed(
    job: JobInfo, old: JobState | None, new: JobState, failure: FunctionFailure | None
) -> None:
    """A job of this process changed its state. Called in the event loop: be quick."""


@_hookspec
def remit_record(job: JobInfo, record: AnyRecord) -> None:
    """A record of a return job arrived. Called in the event loop: be quick."""


@_hookspec
def remit_commands() -> list[click.Command]:  # type: ignore[empty-body]
    """The commands that the plugin adds to ``remit``."""


named_as_written(__name__)
