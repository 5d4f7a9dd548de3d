"""remit for programs without ``await``: the same names, for plain scripts, notebooks and threads.

::

    import remit.blocking

    with remit.blocking.connect("web1") as session:
        print(session.run(["uname", "-a"]).stdout)
        job = session.start(["journalctl", "-f"])
        for record in job.receive():
            ...

Methods have the names, parameters and promises of those of `remit`; what is said there of tasks and
cancels holds here for threads and Ctrl-C. Everything runs in one event loop, in a thread of its
own that begins with the first call. Any thread may call, several at the same time. Ctrl-C breaks
off a call as a cancel does, and waits for what that takes back; a second one does not wait.

What is still open when the interpreter ends is closed then. In a process that was forked, what was
opened before raises RuntimeError, and what is opened is its own.
"""

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
from remit._jobs.options import ConnectOptions, RunOptions, StartOptions, Stdin, Word, Work
from remit._plugins import PluginWarning
from remit._session.spread import TargetResult
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
from remit.blocking._fleet import Fleet, connect_many
from remit.blocking._groups import JobGroup, Results
from remit.blocking._hub import Hub, connect, open_hub, start
from remit.blocking._jobs import Job, Receiver
from remit.blocking._session import Session

__all__ = [
    "PIPE",
    "AnyRecord",
    "AuthenticationError",
    "BootstrapError",
    "CommandResult",
    "ConnectError",
    "ConnectOptions",
    "EnumMember",
    "ExceptionRecord",
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
    "PluginError",
    "PluginWarning",
    "Progress",
    "Pruned",
    "Receiver",
    "Record",
    "RemitError",
    "RemoteProtocolError",
    "ResultError",
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
    "TargetError",
    "TargetResult",
    "WarningRecord",
    "Word",
    "Work",
    "connect",
    "connect_many",
    "lease",
    "new_job_id",
    "open_hub",
    "progress",
    "start",
]

for _kind in (Fleet, Hub, Job, JobGroup, Receiver, Results, Session):
    _kind.__module__ = __name__  # as users write it
for _function in (connect, connect_many, open_hub, start):
    _function.__module__ = __name__
