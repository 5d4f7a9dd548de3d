"""Being told when files change: one inotify instance for the whole agent.

Through ctypes, which Debian's python3-minimal lacks; there is no telling then, and who follows a
file looks at it often. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit.agent.main import Agent

MODIFIED = 0x2
MOVED_IN = 0x80
_IN_CLOEXEC = os.O_CLOEXEC
_IN_NONBLOCK = os.O_NONBLOCK
# struct inotify_event: wd, mask, cookie, len; then the name
_EVENT = struct.Struct("@iIII")


class Inotify:
    """Calls back when a watched file or directory changes; the callback says nothing more."""

    def __init__(self, agent: Agent) -> None:
        self._callbacks: dict[int, list[Callable[[], object]]] = {}
        self._libc: Any = None
        try:
            import ctypes

            self._libc = ctypes.CDLL(None)
            self._fd = self._libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        except (ImportError, OSError, AttributeError):
            self._fd = -1
        if self._fd >= 0:
            agent.watch_fd(self._fd, self._read)

    @property
    def works(self) -> bool:
        return bool(self._fd >= 0)

    def watch(self, fd: int, mask: int, callback: Callable[[], object]) -> int | None:
        """A watch on what ``fd`` is open on, or None where there can be none.

        All watches of one file have to be for the same ``mask``.
        """
        if not self.works:
            return None
        number = self._libc.inotify_add_watch(self._fd, b"/proc/self/fd/%d" % fd, mask)
        if number < 0:
            return None
        self._callbacks.setdefault(number, []).append(callback)
        return int(number)

    def unwatch(self, number: int | None, callback: Callable[[], object]) -> None:
        callbacks = self._callbacks.get(number) if number is not None else None
        if callbacks is None:
            return
        callbacks.remove(callback)
        if not callbacks:
            del self._callbacks[number]  # type: ignore[arg-type]
            self._libc.inotify_rm_watch(self._fd, number)

    def _read(self) -> None:
        try:
            data = os.read(self._fd, 1 << 16)
        except BlockingIOError:
            return
        told = set()
        at = 0
        while at < len(data):
            number, _, _, size = _EVENT.unpack_from(data, at)
            at += _EVENT.size + size
            told.add(number)
        for number in told:
            for callback in list(self._callbacks.get(number, ())):
                callback()
