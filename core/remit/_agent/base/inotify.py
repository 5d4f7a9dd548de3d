"""Being told when files change: one inotify instance for the whole agent.

Watches are added by the processes that open files (`remit._agent.kept.turns`), which share it; what
it says is read here. Through ctypes, which Debian's python3-minimal lacks; there is no telling
then, and who follows a file looks at it often. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import struct
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.loop import Loop

MODIFIED = 0x2
MOVED_IN = 0x80
_IN_CLOEXEC = os.O_CLOEXEC
_IN_NONBLOCK = os.O_NONBLOCK
# struct inotify_event: wd, mask, cookie, len; then the name
_EVENT = struct.Struct("@iIII")
# Changes remembered of files whose watch nobody has claimed yet.
_REMEMBERED = 1024


@lru_cache(None)
def _libc() -> Any:
    import ctypes

    return ctypes.CDLL(None)


def _make() -> int:
    """A descriptor, -1 where there can be none."""
    try:
        return int(_libc().inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC))
    except (ImportError, OSError, AttributeError):
        return -1


def add(inotify_fd: int, fd: int, mask: int) -> int | None:
    """Watches what ``fd`` is open on; the number that `Inotify.claim` wants, None where that cannot
    be. All watches of one file have to be for the same ``mask``."""
    if inotify_fd < 0:
        return None
    number = int(_libc().inotify_add_watch(inotify_fd, b"/proc/self/fd/%d" % fd, mask))
    return number if number >= 0 else None


class Inotify:
    """Calls back when a watched file or directory changes; the callback says nothing more."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._callbacks: dict[int, list[Callable[[], object]]] = {}
        self._early: set[int] = set()
        self.fd = _make()
        if self.fd >= 0:
            loop.watch_fd(self.fd, self._read)

    @property
    def works(self) -> bool:
        return bool(self.fd >= 0)

    def claim(self, number: int, callback: Callable[[], object]) -> None:
        """Has ``callback`` called from now on, also for what happened since the watch was added."""
        self._callbacks.setdefault(number, []).append(callback)
        if number in self._early:
            self._early.discard(number)
            # Not at once: whoever claims it is in the middle of something.
            self._loop.call_later(0, callback)

    def unwatch(self, number: int, callback: Callable[[], object]) -> None:
        callbacks = self._callbacks.get(number, [])
        if callback in callbacks:
            callbacks.remove(callback)
            if not callbacks:
                del self._callbacks[number]
                _libc().inotify_rm_watch(self.fd, number)

    def _read(self) -> None:
        try:
            data = os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return
        told = set()
        at = 0
        while at < len(data):
            number, _, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + size
            told.add(number)
        for number in told:
            callbacks = self._callbacks.get(number)
            if callbacks is None and len(self._early) < _REMEMBERED:
                self._early.add(number)
            for callback in list(callbacks or ()):
                callback()
