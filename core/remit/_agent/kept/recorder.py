"""Writing down how a job ended, now or later: until that stands there the job is not over.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

from remit._jobdir import files

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.kept.trouble import Log

# Seconds between two tries: at first, doubled each time, and at most.
_RETRY = 0.1
_LONGEST_RETRY = 5.0
# What is said of a directory that is not there any more, by a server of files or by a mount whose
# server is dead, and the seconds for which it may come back all the same.
_GONE = (errno.ESTALE, errno.ENOENT, errno.ENOTCONN)
_GONE_PATIENCE = 300.0


class Recorder:
    def __init__(self, log: Log) -> None:
        self.due = 0.0  # when the next try may be, by the monotonic clock
        self._log = log
        self._retry = _RETRY
        self._gone_since: float | None = None  # when the directory was first said to be gone

    def write(self, dir_fd: int, outcome: dict[str, Any]) -> bool:
        """Tries it; whether no other try is of use, since it stands there, or nobody is left who
        could read it."""
        try:
            files.write_outcome(dir_fd, outcome)
        except Exception as exc:
            self._log.note(exc)
            self.due = time.monotonic() + self._retry
            self._retry = min(2 * self._retry, _LONGEST_RETRY)
            return self._is_gone(dir_fd, exc)
        return True

    def _is_gone(self, dir_fd: int, exc: Exception) -> bool:
        """Whether the directory in which nothing can be written is gone for good."""
        try:
            if not os.fstat(dir_fd).st_nlink:
                return True
        except OSError as why:
            exc = why
        if not isinstance(exc, OSError) or exc.errno not in _GONE:
            self._gone_since = None
            return False
        now = time.monotonic()
        if self._gone_since is None:
            self._gone_since = now
        return now - self._gone_since >= _GONE_PATIENCE
