"""``-v``: what remit's loggers say, on stderr."""

from __future__ import annotations

import logging

from remit.cli._report import say

_given = 0


class _Talk(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"remit: {record.name.removeprefix('remit.')}: {record.getMessage()}")


def show(times: int) -> None:
    """``times``: how many ``-v`` were given; they add up."""
    global _given
    logger = logging.getLogger("remit")
    if not _given:
        logger.addHandler(_Talk())
        logger.propagate = False
    _given += times
    logger.setLevel(logging.INFO if _given == 1 else logging.DEBUG)
