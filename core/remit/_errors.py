"""What can go wrong, as types. Facts are attributes; `str()` says them for people."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

from remit._public import named_as_written
from remit._wire.sanitize import harmless

if TYPE_CHECKING:
    from remit._types import CommandResult, JobInfo


def text_of(exc: BaseException) -> str:
    """What it says, else its type."""
    return _words(exc) or type(exc).__name__


def told(exc: BaseException) -> str:
    """Its type and what it says."""
    return ": ".join(filter(None, [type(exc).__name__, _words(exc)]))


def _words(exc: BaseException) -> str:
    try:
        return str(exc)
    except BaseException as another:  # whoever made it has a fault there, too
        return f"(its text raised {type(another).__name__})"


class RemitError(Exception):
    """The base of all errors of remit.

    ``evidence`` is what was seen (a line a fact), ``hint`` what to try. Both may be empty. All
    three may hold text that a target wrote; `str()` of the error is harmless for a terminal, and
    no line of it can pass for another.
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
        first, *more = self.message.splitlines() or [""]
        # Deeper than what else follows: a message of several lines is often a target's.
        lines = [first, *(f"    {line}" for line in more)]
        for line in self.evidence.splitlines():
            lines.append(f"{'    ' if line.startswith(_TRY) else '  '}{line}")
        if self.hint:
            lines.append(f"  {_TRY}     {' '.join(self.hint.splitlines())}")
        return "\n".join(map(harmless, lines))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not by its arguments, which may be keywords: they are all among the attributes.
        return _restored, (type(self), self.args, self.__dict__)


# How the line of a hint begins.
_TRY = "try"


def _restored(
    kind: type[RemitError], args: tuple[object, ...], attributes: dict[str, Any]
) -> RemitError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class TargetError(RemitError):
    """What was asked for cannot be; nothing was started."""


class ConnectError(RemitError):
    """The computer was not reached. ``exit_status`` is the transport program's, if it ended.

    ``lasting``: to try again is of no use, or does harm, until a person has done something (a host
    key that changed; a login that was refused, which may lock the account). Reconnecting ends.
    """

    lasting = False

    def __init__(
        self,
        message: str,
        *,
        evidence: str = "",
        hint: str = "",
        exit_status: int | None = None,
        stderr_tail: bytes = b"",
        lasting: bool | None = None,
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.exit_status = exit_status
        self.stderr_tail = stderr_tail
        if lasting is not None:
            self.lasting = lasting


class AuthenticationError(ConnectError):
    """The computer was reached and did not let us in."""

    lasting = True


class BootstrapError(ConnectError):
    """The computer was reached, but no agent came up within the connect timeout."""


class LinkLost(RemitError):
    """It worked, then the stream broke. A kept job may still run; ask again over a new session."""


class SessionClosed(RemitError):
    """The session had been closed here before the call."""


class JobFailedFacts(TypedDict, total=False):
    """What may be known of the end of a job that failed."""

    job: JobInfo | None
    location: str
    exit_status: int | None
    signal: str | None
    reason: str
    stderr_tail: bytes
    type: str | None
    traceback: str | None
    result: CommandResult | None


class JobFailed(RemitError):
    """The job is over and was no success, or its end cannot be known (``reason``).

    ``result`` is what a command had printed, as far as it is not used up; None of a function.
    ``job`` is what was known of it then, frozen: the error can be pickled.
    """

    job: JobInfo | None = None
    location: str = ""
    exit_status: int | None = None
    signal: str | None = None
    reason: str = ""
    stderr_tail: bytes = b""
    type: str | None = None
    traceback: str | None = None
    result: CommandResult | None = None

    def __init__(
        self,
        message: str,
        *,
        evidence: str = "",
        hint: str = "",
        **facts: Unpack[JobFailedFacts],
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        for name, fact in facts.items():
            if name not in JobFailedFacts.__annotations__:
                raise TypeError(f"JobFailed() got an unexpected keyword argument {name!r}")
            setattr(self, name, fact)


class GroupFailed(JobFailed):
    """At least one job of a group failed. ``results`` and ``failures`` are in target order."""

    def __init__(
        self, message: str, *, results: list[Any], failures: list[JobFailed], **facts: Any
    ) -> None:
        super().__init__(message, **facts)
        self.results = results
        self.failures = failures


class JobRefused(RemitError):
    """A plugin, named by ``plugin``, will not have the job started; nothing was sent."""

    def __init__(
        self, message: str, *, plugin: str = "", evidence: str = "", hint: str = ""
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.plugin = plugin


class JobNotFound(RemitError):
    """No job of that id, name or prefix is kept there.

    ``gone``: that it was removed is known there. Else the directory of the jobs may be away.
    """

    def __init__(
        self, message: str, *, evidence: str = "", hint: str = "", gone: bool = False
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.gone = gone


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


class PluginError(RemitError):
    """A plugin raised what it may not: ``plugin`` is its name, ``method`` which of its methods.
    What it raised is the cause."""

    def __init__(
        self,
        message: str,
        *,
        plugin: str = "",
        method: str = "",
        evidence: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(message, evidence=evidence, hint=hint)
        self.plugin = plugin
        self.method = method

    @classmethod
    def of(cls, plugin: str, method: str, exc: BaseException) -> Self:
        """The error for what ``method`` of ``plugin`` raised."""
        error = cls(f"plugin {plugin!r}: {method} raised {told(exc)}", plugin=plugin, method=method)
        error.__cause__ = exc
        return error


named_as_written(__name__)
