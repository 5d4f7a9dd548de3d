"""What can go wrong, as types. Facts are attributes; `str()` says them for people."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from remit._job import Job
    from remit._words import CommandResult


class RemitError(Exception):
    """The base of all errors of remit.

    ``evidence`` is what was seen (a line a fact), ``hint`` what to try. Both may be empty.
    """

    def __init__(self, message: str, *, evidence: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.evidence = evidence
        self.hint = hint

    def again(self) -> Self:
        """The same error, to be raised once more: an exception gathers its traceback and context
        wherever it is raised."""
        fresh = copy.copy(self)
        fresh.__cause__ = self.__cause__
        return fresh

    def __str__(self) -> str:
        lines = [self.message]
        if self.evidence:
            lines += [f"  {line}" for line in self.evidence.splitlines()]
        if self.hint:
            lines.append(f"  try     {self.hint}")
        return "\n".join(lines)


class TargetError(RemitError):
    """What was asked for cannot be; nothing was started."""


class ConnectError(RemitError):
    """The computer was not reached. ``exit_status`` is the transport program's, if it ended."""

    def __init__(
        self,
        message: str,
        *,
        evidence: str = "",
        hint: str = "",
        exit_status: int | None = None,
        stderr_tail: bytes = b"",
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.exit_status = exit_status
        self.stderr_tail = stderr_tail


class AuthenticationError(ConnectError):
    """The computer was reached and did not let us in."""


class BootstrapError(ConnectError):
    """The computer was reached, but no agent came up within the connect timeout."""


class LinkLost(RemitError):
    """It worked, then the stream broke. A kept job may still run; ask again over a new session."""


class SessionClosed(RemitError):
    """The session had been closed here before the call."""


class JobFailed(RemitError):
    """The job is over and was no success, or its end cannot be known (``reason``).

    ``result`` is what a command had printed, as far as it is not used up; None of a function.
    """

    def __init__(
        self,
        message: str,
        *,
        job: Job | None = None,
        location: str = "",
        exit_status: int | None = None,
        signal: str | None = None,
        reason: str = "",
        stderr_tail: bytes = b"",
        type: str | None = None,
        traceback: str | None = None,
        result: CommandResult | None = None,
        evidence: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.job = job
        self.location = location
        self.exit_status = exit_status
        self.signal = signal
        self.reason = reason
        self.stderr_tail = stderr_tail
        self.type = type
        self.traceback = traceback
        self.result = result


class GroupFailed(JobFailed):
    """At least one job of a group failed. ``results`` and ``failures`` are in target order."""

    def __init__(
        self, message: str, *, results: list[Any], failures: list[JobFailed], **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.results = results
        self.failures = failures


class JobNotFound(RemitError):
    """No job of that id, name or prefix is kept there."""


class JobStateError(RemitError):
    """The job is in no state for what was asked."""


class ShippingError(RemitError, TypeError):
    """A function or its arguments cannot be sent to that interpreter; nothing was run."""


class ResultError(RemitError):
    """A result cannot be taken as data."""


class RemoteProtocolError(RemitError):
    """The peer said what no sound agent says: it is broken, or hostile. The session is over."""


class LocalProtocolError(RemitError):
    """A bug of remit on this side."""
