"""Children that end: each is reaped at once, and whoever waits for it is called."""

from __future__ import annotations

import os
import signal
from collections import deque
from typing import TYPE_CHECKING

from remit._jobdir import proc

if TYPE_CHECKING:
    from typing import Callable

    from remit._agent.base.loop import Loop

# How many are remembered that ended while nobody waited for them.
_REMEMBERED = 256


class Children:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._callbacks: dict[int, Callable[[int], object]] = {}
        self._ended: deque[tuple[int, int]] = deque()  # reaped, not yet told
        self._unclaimed: dict[int, int] = {}  # statuses of the last that nobody waited for
        self._woken, wake = os.pipe()
        os.set_blocking(self._woken, False)
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # the pipe has the byte already
        loop.watch_fd(self._woken, self._wake)

    def watch(self, pid: int, callback: Callable[[int], object]) -> None:
        """Calls ``callback(status)`` once, when that child has ended.

        To be called before the loop goes on, else the child may have come and gone.
        """
        self._callbacks[pid] = self._loop.bound(callback)

    def watch_adopted(self, pid: int, callback: Callable[[int], object]) -> None:
        """As `watch`, for one that becomes our child when its parent ends, if it has not yet; it
        may even have come and gone."""
        status = self._unclaimed.pop(pid, None)
        self.watch(pid, callback)
        if status is not None and proc.look(pid) is None:
            self._tell(pid, status)

    def forget(self, pid: int) -> None:
        """Calls nobody at that one's end. Quiet where nobody waits."""
        self._callbacks.pop(pid, None)

    @property
    def known(self) -> set[int]:
        """The pids of those that somebody waits for."""
        return set(self._callbacks)

    def _wake(self) -> None:
        try:
            os.read(self._woken, 4096)
        except BlockingIOError:
            pass
        self.reap()

    def reap(self) -> None:
        """Takes the status of all that have ended. Adopted orphans have nobody who waits."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            self._ended.append((pid, status))
        # A callback may come back here: it too then finds what has not been told yet.
        while self._ended:
            self._tell(*self._ended.popleft())

    def _tell(self, pid: int, status: int) -> None:
        callback = self._callbacks.pop(pid, None)
        if callback is not None:
            callback(status)
            return
        self._unclaimed[pid] = status
        if len(self._unclaimed) > _REMEMBERED:
            del self._unclaimed[next(iter(self._unclaimed))]
