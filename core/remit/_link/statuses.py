"""What is told while a target is reached: to who asked for it, and to the log."""

from __future__ import annotations

import logging
from typing import Final

from remit._types import OnStatus
from remit._wire.sanitize import one_line

_log = logging.getLogger("remit.session")

STARTING: Final = "starting"  # the transport's program, with the words that it is to run
HEARD: Final = "heard"  # a line that was said before the agent speaks
PYTHON: Final = "python"  # an interpreter has answered: its version
OPEN: Final = "open"  # an agent is up: its account and host
WAITING: Final = "waiting"  # before another attempt: seconds


class Statuses:
    """Of one session. What ``on_status`` raises is logged, and it is not called again."""

    def __init__(self, target: str, on_status: OnStatus | None = None) -> None:
        self._target = target
        self._on_status = on_status

    def tell(self, stage: str, detail: str) -> None:
        """Says that it is at that stage now; ``detail`` may be what a target wrote."""
        detail = one_line(detail)
        _log.info("%s: %s: %s", self._target, stage, detail)
        if self._on_status is None:
            return
        try:
            self._on_status(stage, detail)
        except Exception as exc:
            self._on_status = None
            _log.error("on_status of %s raised %r", self._target, exc, exc_info=exc)


class Said:
    """What a program says on one stream, as lines: each is told once it is whole."""

    def __init__(self, statuses: Statuses) -> None:
        self._statuses = statuses
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            if line.strip():
                self._statuses.tell(HEARD, line.decode("utf-8", "replace").strip())

    def pause(self) -> None:
        """Nothing comes for a while: what there is of a line may be a question."""
        rest, self._rest = self._rest, b""
        if rest.strip():
            self._statuses.tell(HEARD, rest.decode("utf-8", "replace").strip())
