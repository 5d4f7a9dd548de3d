"""Whole lines of one stream of a job, as text."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator

from remit._jobs.receiver import Receiver

# A longer line comes in parts: a job may print for ever and end none.
MOST = 1 << 20


class Cutter:
    """Bytes in, lines out. No I/O."""

    def __init__(self) -> None:
        self._begun = bytearray()
        self._searched = 0  # no line ends before

    def feed(self, data: bytes) -> list[str]:
        """The lines that end in it, without their ends."""
        self._begun += data
        lines = []
        begin = 0
        while (end := self._begun.find(b"\n", max(begin, self._searched))) >= 0:
            lines.append(_text(self._begun[begin:end]))
            begin = end + 1
        while len(self._begun) - begin > MOST:
            end = _before(self._begun, begin + MOST)
            lines.append(_text(self._begun[begin:end]))
            begin = end
        del self._begun[:begin]
        self._searched = len(self._begun)
        return lines

    def end(self) -> list[str]:
        """What is left and ends nowhere."""
        rest, self._begun, self._searched = self._begun, bytearray(), 0
        return [_text(rest)] if rest else []


def _before(text: bytearray, at: int) -> int:
    """Where the character of UTF-8 begins that ``at`` may be in the middle of."""
    for begin in range(at, at - 4, -1):
        if text[begin] & 0xC0 != 0x80:
            return begin
    return at  # it is no UTF-8


def _text(line: bytearray) -> str:
    return line.decode("utf-8", "replace")


class Lines(AsyncIterator[str]):
    """The lines of one stream. Holds no task; see `Job.lines`."""

    def __init__(self, receiver: Receiver, stream: str) -> None:
        self._receiver = receiver
        self._stream = stream
        self._cutter = Cutter()
        self._lines: deque[str] = deque()
        self._is_over = False

    def __aiter__(self) -> Lines:
        return self

    async def aclose(self) -> None:
        """Gives the reading up. Twice is quiet."""
        self._lines.clear()
        self._is_over = True
        await self._receiver.aclose()

    async def __anext__(self) -> str:
        while not self._lines:
            if self._is_over:
                raise StopAsyncIteration
            try:
                record = await anext(self._receiver)
            except StopAsyncIteration:
                self._is_over = True
                self._lines += self._cutter.end()
                continue
            if record.stream != self._stream:
                continue
            if isinstance(record.data, bytes):
                self._lines += self._cutter.feed(record.data)
            else:  # a gap
                self._lines += self._cutter.end()
        return self._lines.popleft()
