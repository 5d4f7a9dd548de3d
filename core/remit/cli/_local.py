"""The jobs in this computer's own state directory, read as they stand, without a session."""

from __future__ import annotations

import msgspec

from remit import JobInfo
from remit._jobdir import views
from remit._link.messages import JobMap
from remit._wire.names import is_job_id
from remit.cli import _state

TARGET = "local:"


def jobs() -> list[JobInfo]:
    """All of them, the oldest first; one that makes no sense has a ``problem``."""
    found = [info for job_id in ids() if (info := _look(job_id)) is not None]
    return sorted(found, key=lambda info: info.created is not None and info.created.timestamp())


def ids() -> list[str]:
    """Nothing is opened but the directory that holds them."""
    return [name for name in _state.names("jobs") if is_job_id(name)]


def _look(job_id: str) -> JobInfo | None:
    try:
        with _state.opened("jobs") as directory:
            found = msgspec.convert(views.look(directory, job_id), JobMap)
            return found.info("localhost", here=True)
    except FileNotFoundError:
        return None  # removed meanwhile
