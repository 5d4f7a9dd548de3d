"""Where a function's values, log records, warnings and progress go: the pipe of its records."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from typing import TYPE_CHECKING

from remit._values import codec
from remit._values.limits import ValueRefused
from remit._wire.msgpack import pack
from remit._wire.records import (
    HEAD,
    ITEM,
    LAST,
    LOG,
    MAX_SUMMARY,
    PICKLED,
    PROGRESS,
    RESULT,
    STREAMS,
    WARNING,
)

if TYPE_CHECKING:
    import logging
    from typing import Any, Sequence

# Of a message, a category or a name: text that is told beside the results.
_MAX_TEXT = 1 << 16
# Written at once where it is so small: one write(2) for head and body.
_SMALL = 1 << 16


class Outlet:
    """Each method writes one record, and waits while the pipe is full. Safe in threads.

    After the last record nothing is said any more: what atexit handlers and threads left behind
    still log is let be.
    """

    def __init__(self, fd: int, trust: bool) -> None:
        self._fd = fd
        self._trust = trust
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._numbers: dict[str | None, int] = {}
        self._closed = False
        self._over = False

    @property
    def is_ours(self) -> bool:
        """Whether this process is the job's own, rather than a child of the function."""
        return os.getpid() == self._pid

    def item(self, value: object) -> None:
        """Raises `ValueRefused` where the value cannot be told as data."""
        self._value(ITEM, value)

    def result(self, value: object) -> None:
        self._value(RESULT, value)

    def _value(self, kind: int, value: object) -> None:
        try:
            buffers: Sequence[Any] = codec.encode(value)
        except ValueRefused:
            if not self._trust:
                raise
            buffers = [pickled(value)]
            kind |= PICKLED
        self.say(kind, buffers)

    def progress(self, done: float, total: float | None, text: str) -> None:
        self.say(PROGRESS, [pack([float(done), _number(total), str(text)[:_MAX_TEXT]])])

    def log(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception as exc:
            message = "%r %% %r: %s" % (record.msg, record.args, exc)
        if record.exc_info:
            import logging

            message += "\n" + logging.Formatter().formatException(record.exc_info)
        body = [record.levelno, record.name, message[:_MAX_TEXT], record.created]
        self.say(LOG, [pack(body)])

    def warning(
        self,
        message: object,
        category: type,
        filename: str,
        lineno: int,
        file: object = None,
        line: object = None,
    ) -> None:
        """As `warnings.showwarning`."""
        words = str(message)[:_MAX_TEXT]
        self.say(WARNING, [pack([category.__name__, words, str(filename), int(lineno)])])

    def failure(self, summary: str, buffers: Sequence[Any]) -> None:
        from remit._wire.records import FAILURE

        first = summary.replace("\0", "?")[:MAX_SUMMARY].encode("utf-8", "replace")
        self.say(FAILURE, [first[:MAX_SUMMARY] + b"\0"] + list(buffers))

    def say(self, kind: int, buffers: Sequence[Any]) -> None:
        """One record, with those buffers one after another as its body."""
        if not self.is_ours:
            return  # what it says would get mixed up with what we say
        # What was printed before is in its pipe before.
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                pass  # closed or replaced by the function
        size = sum(memoryview(buffer).nbytes for buffer in buffers)
        stream_name = STREAMS.get(kind & ~PICKLED)
        with self._lock:
            if self._over:
                return
            self._over = kind & ~PICKLED in LAST
            number = self._numbers.get(stream_name, 0)
            self._numbers[stream_name] = number + 1
            head = HEAD.pack(kind, number, time.time(), size)
            try:
                if size <= _SMALL:
                    self._write(memoryview(head + b"".join(map(bytes, buffers))))
                    return
                self._write(memoryview(head))
                for buffer in buffers:
                    self._write(memoryview(buffer).cast("B"))
            except BaseException:
                # A stop, most likely while the pipe was full. What more we said would stand in the
                # middle of this record, unless that was to be written whole or not at all: pipe(7)
                self._closed = self._closed or len(head) + size > select.PIPE_BUF
                raise

    def _write(self, data: memoryview) -> None:
        if self._closed:
            return
        try:
            while len(data):
                data = data[os.write(self._fd, data) :]
        except BrokenPipeError:
            self._closed = True  # nobody wants it any more; the function need not know


def pickled(value: object) -> bytes:
    """For a caller that trusts us. Raises what pickling raises."""
    try:
        from cloudpickle import dumps
    except ImportError:
        from pickle import dumps
    data: bytes = dumps(value, 4)  # the highest that all Pythons from 3.6 on know
    return data


def _number(value: float | None) -> float | None:
    return None if value is None else float(value)


# Of the job that this process is, where it is one.
current: Outlet | None = None
