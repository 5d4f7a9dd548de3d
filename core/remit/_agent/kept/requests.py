"""What a supervisor is asked by files: `remit._jobdir.mailbox`. Python 3.6."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.kept import ending
from remit._jobdir import mailbox
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.kept.processes import Processes
    from remit._agent.kept.trouble import Log

GRACE = 5.0
# Seconds until requests are looked at again that could not be read.
_LOOK_AGAIN = 0.5
# Longer than anybody waits; what is asked for beyond it is this.
_LONGEST = 1e9
_STOP_REASONS = ("stopped", "session-ended", "lease")


class Requests:
    def __init__(
        self, log: Log, processes: Processes, stop: Callable[[str, float], object]
    ) -> None:
        """``stop`` is called with a reason and a grace."""
        self._log = log
        self._processes = processes
        self._stop = stop
        self._to_answer: list[bytes] = []  # those that wait until the job is stopped
        self._look_at: float | None = None

    def open(self, dir_fd: int) -> int:
        """The descriptor that is ready when there are any to `read`."""
        self._inbox = mailbox.Mailbox(dir_fd)
        return self._inbox.fd

    def read(self, fd: int) -> None:
        requests, rung = self._inbox.read(set(self._to_answer))
        self._look_at = time.monotonic() + _LOOK_AGAIN if self._inbox.look_again else None
        if rung:
            self._stop("stopped", GRACE)
        for name, request in requests:
            try:
                self._serve(name, request)
            except Exception as exc:
                self._log.note(exc)
                self._inbox.answer(name, {"error": ending.words_of(exc)})

    def look_again(self) -> float | None:
        """For requests that could not be read before."""
        if self._look_at is not None and time.monotonic() >= self._look_at:
            self.read(self._inbox.fd)
        return self._look_at

    def _serve(self, name: bytes, request: dict[str, Any]) -> None:
        what = name.split(b"-")[0]
        if what == b"stop":
            self._stop(_reason(request), _grace(request))
            self._to_answer.append(name)
        elif what in (b"suspend", b"resume"):
            act = process_tree.pause if what == b"suspend" else process_tree.unpause
            act(self._processes.search())
            self._inbox.answer(name, {})
        elif what == b"signal":
            self._inbox.answer(name, self._signalled(request))
        else:
            shown = what[:100].decode("ascii", "replace")
            self._inbox.answer(
                name, {"error": "%s is no request that this supervisor knows" % shown}
            )

    def _signalled(self, request: dict[str, Any]) -> dict[str, Any]:
        """The code tells that it is a supervisor which knows of signals."""
        try:
            process_tree.signal_group(self._processes.roots()[0], request.get("signal"))
        except Refused as exc:
            return {"error": exc.message, "code": exc.code}
        return {}

    def answer_stops(self, survivors: list[str]) -> None:
        names, self._to_answer = self._to_answer, []
        for name in names:
            self._inbox.answer(name, {"survivors": survivors[:64]})


def _reason(request: dict[str, Any]) -> str:
    reason = request.get("reason")
    return reason if reason in _STOP_REASONS else "stopped"


def _grace(request: dict[str, Any]) -> float:
    grace = request.get("grace")
    if not isinstance(grace, (int, float)) or not grace >= 0:
        return GRACE
    return float(min(grace, _LONGEST))
