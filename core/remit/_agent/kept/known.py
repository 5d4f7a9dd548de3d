"""What the session knows of kept jobs beside their directories, which may be deleted as they run.

Standard library only, Python 3.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._jobdir import views

if TYPE_CHECKING:
    from typing import Any

_MOST = 4096
# How much of their commands.
_MOST_COMMAND = 1000

_jobs: dict[str, dict[str, Any]] = {}


def remember(view: dict[str, Any], process: dict[str, Any]) -> None:
    """``view`` is the job map, ``process`` what process.json says, empty where there is none."""
    if not process:
        return
    _jobs.pop(view["id"], None)
    if len(_jobs) >= _MOST:
        del _jobs[next(iter(_jobs))]
    if view["command"]:
        view = dict(view, command=dict(view["command"]))
        views.shorten(view, _MOST_COMMAND)
    _jobs[view["id"]] = {"view": view, "process": process}


def of(job_id: str) -> dict[str, Any] | None:
    """``{view, process}`` of those that were started or are watched in this session."""
    return _jobs.get(job_id)
