"""A line for each frame of a link, for who looks into what both ends say: ``REMIT_TRACE=FILE``.

What a frame holds is never written: time, end, direction, kind, channel, and how many bytes it
holds. Standard library only, Python 3.6: the agent carries it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._wire import frames

if TYPE_CHECKING:
    from typing import Callable

_KINDS = {
    value: name
    for name, value in vars(frames).items()
    if name.isupper() and isinstance(value, int) and name != "MAX_PAYLOAD"
}


class Trace:
    """``write`` is given whole lines, all of one batch at once. ``now`` gives Unix seconds, ``end``
    is ``caller`` or ``agent`` and its process."""

    def __init__(
        self, write: Callable[[bytes], object], now: Callable[[], float], end: str
    ) -> None:
        self._write = write
        self._now = now
        self._end = end

    def received(self, frame: frames.Frame) -> None:
        self._lines("<", [(frame.kind, frame.channel, len(frame.payload))])

    def sent(self, encoded: list[bytes]) -> None:
        self._lines(">", [frames.HEADER.unpack_from(frame) for frame in encoded])

    def _lines(self, direction: str, heads: list[tuple[int, int, int]]) -> None:
        begin = "%.6f %s %s" % (self._now(), self._end, direction)
        lines = [
            "%s %s %d %d\n" % (begin, _KINDS.get(kind, str(kind)), channel, size)
            for kind, channel, size in heads
        ]
        self._write("".join(lines).encode())
