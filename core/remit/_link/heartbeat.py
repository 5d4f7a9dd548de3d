"""Signs of life from a thread, while the event loop is busy with something else.

One thread for all links of the process. It writes a ping only between whole frames, straight to
the descriptor, and only on links that have said nothing for a while; it never waits.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import weakref

from remit._wire.frames import PING, encode

_PING = encode(PING, 0)


class PingWriter:
    """The sending side of one link, as its writer and the heartbeat thread share it."""

    def __init__(self, fileno: int, interval: float) -> None:
        self.interval = interval  # seconds of silence after which the thread speaks
        self._fileno: int | None = fileno
        self._lock = threading.Lock()
        self._in_frame = False
        self._said = time.monotonic()

    def begin(self) -> None:
        """The writer starts to send whole frames; the thread keeps still until `done`."""
        with self._lock:
            self._in_frame = True

    def say(self, data: bytes) -> int:
        """Writes whole frames, as far as there is room now; how many bytes went out. After a part
        it is as after `begin`."""
        with self._lock:
            if self._fileno is None or self._in_frame:
                return 0
            try:
                sent = os.write(self._fileno, data)
            except OSError:
                sent = 0  # a full pipe, or a broken one: for the writer to see
            self._in_frame = 0 < sent < len(data)
            self._said = time.monotonic()
            return sent

    def done(self) -> None:
        with self._lock:
            self._in_frame = False
            self._said = time.monotonic()

    def announce(self, frame: bytes) -> None:
        """Says it now or not at all. For a signal's handler: it may have come in the middle of
        anything, so nothing is waited for."""
        if self._lock.acquire(blocking=False):
            try:
                if self._fileno is not None and not self._in_frame:
                    with contextlib.suppress(OSError):
                        os.write(self._fileno, frame)
            finally:
                self._lock.release()

    def close(self) -> None:
        """The descriptor is about to be closed, and its number may become another's."""
        with self._lock:
            self._fileno = None

    def beat(self, now: float) -> None:
        with self._lock:
            if self._fileno is None or self._in_frame or now - self._said < self.interval:
                return
            # A full pipe (BlockingIOError) means that the peer has bytes to read anyway; a
            # broken one is the writer's to notice. A pipe takes 9 bytes whole or not at all.
            with contextlib.suppress(OSError):
                os.write(self._fileno, _PING)
                self._said = now


_ping_writers: weakref.WeakSet[PingWriter] = weakref.WeakSet()
_guard = threading.Lock()
_attended = threading.Event()  # there is a ping writer that the thread has not seen
_thread: threading.Thread | None = None


def attend(ping_writer: PingWriter) -> None:
    """Has the thread look after ``ping_writer`` until it is closed or dropped."""
    global _thread
    with _guard:
        _ping_writers.add(ping_writer)
        if _thread is None or not _thread.is_alive():
            _thread = threading.Thread(target=_run, name="remit heartbeat", daemon=True)
            _thread.start()
        # Its own interval may be shorter than what the thread sleeps by.
        _attended.set()


def leave(ping_writer: PingWriter) -> None:
    ping_writer.close()
    with _guard:
        _ping_writers.discard(ping_writer)


def announce(frame: bytes) -> None:
    """Has all links say it that can do so at once."""
    for ping_writer in list(_ping_writers):
        ping_writer.announce(frame)


def _run() -> None:
    global _thread
    while True:
        with _guard:
            _attended.clear()
            ping_writers = list(_ping_writers)
            if not ping_writers:
                _thread = None
                return
        now = time.monotonic()
        for ping_writer in ping_writers:
            ping_writer.beat(now)
        pause = min(ping_writer.interval for ping_writer in ping_writers) / 4
        del ping_writers
        _attended.wait(pause)
