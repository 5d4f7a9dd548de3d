"""remit: background jobs on other computers, from async Python and from a shell."""

from remit._errors import (
    AuthenticationError,
    BootstrapError,
    ConnectError,
    GroupFailed,
    JobFailed,
    JobNotFound,
    JobStateError,
    LinkLost,
    LocalProtocolError,
    RemitError,
    RemoteProtocolError,
    ResultError,
    SessionClosed,
    TargetError,
)
from remit._hookspecs import hookimpl
from remit._hub import Hub, connect, open_hub, start
from remit._job import Job
from remit._process import open_process
from remit._receive import Receiver
from remit._session import Session
from remit._words import (
    PIPE,
    CommandResult,
    Gap,
    JobInfo,
    JobState,
    Outcome,
    Record,
    SessionState,
    Stream,
    new_job_id,
)
from remit.abc import ByteStream, Channel, End, Placement, Position, ResultStore, Target, Transport

__all__ = [
    "PIPE",
    "AuthenticationError",
    "BootstrapError",
    "ByteStream",
    "Channel",
    "CommandResult",
    "ConnectError",
    "End",
    "Gap",
    "GroupFailed",
    "Hub",
    "Job",
    "JobFailed",
    "JobInfo",
    "JobNotFound",
    "JobState",
    "JobStateError",
    "LinkLost",
    "LocalProtocolError",
    "Outcome",
    "Placement",
    "Position",
    "Receiver",
    "Record",
    "RemitError",
    "RemoteProtocolError",
    "ResultError",
    "ResultStore",
    "Session",
    "SessionClosed",
    "SessionState",
    "Stream",
    "Target",
    "TargetError",
    "Transport",
    "connect",
    "hookimpl",
    "new_job_id",
    "open_hub",
    "open_process",
    "start",
]
