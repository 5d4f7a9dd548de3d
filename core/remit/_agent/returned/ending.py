"""How a return job ended: what of that is known, and the outcome that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._agent.base import oom
from remit._wire.ended import of_status

if TYPE_CHECKING:
    from typing import Any

    from remit._wire.refusal import Refused


class Ending:
    """Gathers it until the job is over."""

    def __init__(self, leftovers_stop: bool) -> None:
        self._leftovers_stop = leftovers_stop
        self.status: int | None = None  # the first process's, as waitpid tells it
        self.reason: str | None = None  # why we end it, where we do
        self.note: str | None = None
        self.left: list[str] = []

    @property
    def takes_all(self) -> bool:
        """Whether what it left behind ends with it: not where it ended by itself, unless asked."""
        return self.reason is not None or self._leftovers_stop

    def found_holders(self, names: list[str] | None, error: Refused | None) -> None:
        """Of pipes that were not waited for."""
        who = ", ".join(names) if names else "a process that cannot be seen from here"
        self.note = self.note or "output held open by " + who

    def outcome(self) -> dict[str, Any]:
        exit_status, killed_by, _ = of_status(self.status)
        if killed_by == "SIGKILL" and self.reason is None and oom.look():
            self.note = self.note or oom.NOTE
        if self.left and self.note is None and not self.takes_all:
            self.note = "left running: " + ", ".join(self.left)
        reason = self.reason or ("exited" if killed_by is None else "signalled")
        return outcome_map(reason, exit_status, killed_by, self.note, self.left)


def outcome_map(
    reason: str,
    exit_status: int | None = None,
    signal: str | None = None,
    note: str | None = None,
    left: list[str] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """An outcome map of docs/wire.md."""
    return {
        "exit_status": exit_status,
        "signal": signal,
        "reason": reason,
        "error": error,
        "note": note,
        "left_behind": left or [],
    }
