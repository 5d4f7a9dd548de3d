"""Where public names come from: each is written once, in a module of its subject, and imported by
users as ``remit.NAME`` when they first use it."""

from __future__ import annotations

import importlib
import sys

_HOMES: dict[str, tuple[str, ...]] = {
    "remit._errors": (
        "AuthenticationError",
        "BootstrapError",
        "ConnectError",
        "GroupFailed",
        "JobFailed",
        "JobNotFound",
        "JobRefused",
        "JobStateError",
        "LinkLost",
        "LocalProtocolError",
        "PluginError",
        "RemitError",
        "RemoteProtocolError",
        "ResultError",
        "SessionClosed",
        "ShippingError",
        "TargetError",
    ),
    "remit._executor": ("Executor",),
    "remit._hookspecs": ("hookimpl",),
    "remit._jobs.group": ("JobGroup",),
    "remit._jobs.job": ("Job",),
    "remit._jobs.options": (
        "ConnectOptions",
        "RunOptions",
        "StartOptions",
        "Stdin",
        "Word",
        "Work",
    ),
    "remit._jobs.receiver": ("Receiver",),
    "remit._plugins": ("PluginWarning",),
    "remit._process": ("open_process",),
    "remit._pump": ("Pumped", "open_pump"),
    "remit._session.fleet": ("Fleet", "connect_many"),
    "remit._session.hub": ("Hub", "connect", "open_hub", "start"),
    "remit._session.session": ("Session",),
    "remit._session.spread": ("Results", "TargetResult"),
    "remit._types": (
        "PIPE",
        "AnyRecord",
        "CommandResult",
        "Gap",
        "JobInfo",
        "JobState",
        "Lease",
        "LogoutWarning",
        "LogRecord",
        "Outcome",
        "Peer",
        "Progress",
        "Pruned",
        "Record",
        "SessionState",
        "Stream",
        "WarningRecord",
        "lease",
        "new_job_id",
        "progress",
    ),
    "remit._values.limits": ("Limits",),
    "remit._values.placeholders": ("EnumMember", "ExceptionRecord", "Struct"),
    "remit.abc": (
        "ByteStream",
        "Channel",
        "End",
        "Placement",
        "Position",
        "ResultStore",
        "Target",
        "Transport",
    ),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def load(name: str) -> object:
    """What is public as ``remit.NAME``. Raises AttributeError."""
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    if name in ("abc", "blocking"):  # they come with `import remit`
        return importlib.import_module(f"remit.{name}")
    raise AttributeError(f"module 'remit' has no attribute {name!r}")


def named_as_written(module: str) -> None:
    """Tracebacks, reprs and pickles name what is public in ``module`` as users write it:
    ``remit.Job``. Called at its end."""
    for name in _HOMES[module]:
        value = getattr(sys.modules[module], name)
        if getattr(value, "__module__", "").startswith("remit._"):
            value.__module__ = "remit"
