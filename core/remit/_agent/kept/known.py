"""What the session knows of kept jobs: where they are, and what is of use of each once its
directory is deleted as it runs.

Standard library only, Python 3.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._jobdir import statedir, views

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.services import Session

_MOST = 4096
# How much of their commands.
_MOST_COMMAND = 1000


def path_of(session: Session) -> bytes:
    """The state directory. Raises Refused where this session can have none."""
    if session.state is not None:
        return session.state.path
    asked = session.hello.get("state")
    path = statedir.choose(asked if isinstance(asked, bytes) else None)
    problem = statedir.State(path).problem()
    if problem is not None:
        raise statedir.refused(problem)
    return path


class Known:
    """Those that were started or are watched in a session."""

    def __init__(self, session: Session) -> None:
        self._jobs: dict[str, dict[str, Any]] = {}

    def remember(self, view: dict[str, Any], process: dict[str, Any]) -> None:
        """``view`` is the job map, ``process`` what process.json says, empty where there is
        none."""
        if not process:
            return
        self._jobs.pop(view["id"], None)
        if len(self._jobs) >= _MOST:
            del self._jobs[next(iter(self._jobs))]
        if view["command"]:
            view = dict(view, command=dict(view["command"]))
            views.shorten(view, _MOST_COMMAND)
        self._jobs[view["id"]] = {"view": view, "process": process}

    def of(self, job_id: str) -> dict[str, Any] | None:
        """``{view, process}`` of one of them."""
        return self._jobs.get(job_id)
