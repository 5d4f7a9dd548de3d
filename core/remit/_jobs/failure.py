"""How a job failed, in words. Pure."""

from __future__ import annotations

from typing import Any

from remit._errors import JobFailed
from remit._types import CommandResult, JobInfo, Outcome
from remit._wire.streams import STDERR_TAIL


def job_failed(info: JobInfo, stderr: bytes, result: CommandResult | None = None) -> JobFailed:
    """The error for a job that is over and no success, by what is known of it. ``stderr`` is the
    end of what it said there, ``result`` what it left."""
    tail = stderr[-STDERR_TAIL:]
    lines = tail.decode("utf-8", "replace").strip().splitlines()[-5:]
    outcome = info.outcome or Outcome()
    return JobFailed(
        f"job {info.id} on {info.location} {_how(info, outcome, result)}",
        job=info,
        location=info.location,
        **ended_as(outcome),
        stderr_tail=tail,
        result=result,
        evidence="\n".join(f"stderr  {line}" for line in lines),
    )


def ended_as(outcome: Outcome) -> dict[str, Any]:
    """The facts of how it ended, as JobFailed has them."""
    return {
        "exit_status": outcome.exit_status,
        "signal": outcome.signal,
        "reason": outcome.reason,
    }


def _how(info: JobInfo, outcome: Outcome, result: CommandResult | None) -> str:
    if outcome.signal is not None:
        how = f"was ended by {outcome.signal}"
    elif outcome.exit_status is not None:
        how = f"exited with status {outcome.exit_status}"
    else:
        how = f"is {info.state}"
    if outcome.reason and outcome.reason not in ("exited", "signalled"):
        how += f" ({outcome.reason})"
    if outcome.error:
        how += f": {outcome.error}"
    if outcome.note:
        how += f"; {outcome.note}"
    for stream, missing in (result.dropped if result else {}).items():
        how += f"; {missing} bytes of its {stream} were dropped before they were read"
    return how
