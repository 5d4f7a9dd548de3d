"""remit: background jobs on other computers, from async Python and from a shell."""

from typing import TYPE_CHECKING

from remit import _public
from remit._version import __version__

if TYPE_CHECKING:
    from remit import abc as abc
    from remit import blocking as blocking
    from remit._errors import (
        AuthenticationError,
        BootstrapError,
        ConnectError,
        GroupFailed,
        JobFailed,
        JobNotFound,
        JobRefused,
        JobStateError,
        LinkLost,
        LocalProtocolError,
        PluginError,
        RemitError,
        RemoteProtocolError,
        ResultError,
        SessionClosed,
        ShippingError,
        TargetError,
    )
    from remit._executor import Executor
    from remit._hookspecs import hookimpl
    from remit._jobs.group import JobGroup
    from remit._jobs.job import Job
    from remit._jobs.options import ConnectOptions, RunOptions, StartOptions, Stdin, Word, Work
    from remit._jobs.receiver import Receiver
    from remit._plugins import PluginWarning
    from remit._process import open_process
    from remit._pump import Pumped, open_pump
    from remit._session.fleet import Fleet, connect_many
    from remit._session.hub import Hub, connect, open_hub, start
    from remit._session.session import Session
    from remit._session.spread import Results, TargetResult
    from remit._types import (
        PIPE,
        AnyRecord,
        CommandResult,
        Gap,
        JobInfo,
        JobState,
        Lease,
        LogoutWarning,
        LogRecord,
        Outcome,
        Peer,
        Progress,
        Pruned,
        Record,
        SessionState,
        Stream,
        WarningRecord,
        lease,
        new_job_id,
        progress,
    )
    from remit._values.limits import Limits
    from remit._values.placeholders import EnumMember, ExceptionRecord, Struct
    from remit.abc import (
        ByteStream,
        Channel,
        End,
        Placement,
        Position,
        ResultStore,
        Target,
        Transport,
    )

__all__ = [
    "PIPE",
    "AnyRecord",
    "AuthenticationError",
    "BootstrapError",
    "ByteStream",
    "Channel",
    "CommandResult",
    "ConnectError",
    "ConnectOptions",
    "End",
    "EnumMember",
    "ExceptionRecord",
    "Executor",
    "Fleet",
    "Gap",
    "GroupFailed",
    "Hub",
    "Job",
    "JobFailed",
    "JobGroup",
    "JobInfo",
    "JobNotFound",
    "JobRefused",
    "JobState",
    "JobStateError",
    "Lease",
    "Limits",
    "LinkLost",
    "LocalProtocolError",
    "LogRecord",
    "LogoutWarning",
    "Outcome",
    "Peer",
    "Placement",
    "PluginError",
    "PluginWarning",
    "Position",
    "Progress",
    "Pruned",
    "Pumped",
    "Receiver",
    "Record",
    "RemitError",
    "RemoteProtocolError",
    "ResultError",
    "ResultStore",
    "Results",
    "RunOptions",
    "Session",
    "SessionClosed",
    "SessionState",
    "ShippingError",
    "StartOptions",
    "Stdin",
    "Stream",
    "Struct",
    "Target",
    "TargetError",
    "TargetResult",
    "Transport",
    "WarningRecord",
    "Word",
    "Work",
    "__version__",
    "connect",
    "connect_many",
    "hookimpl",
    "lease",
    "new_job_id",
    "open_hub",
    "open_process",
    "open_pump",
    "progress",
    "start",
]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """A public name is imported when it is first used: PEP 562. Who asks remit for its help, or
        marks a hook, waits for no event loop."""
        value = globals()[name] = _public.load(name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
