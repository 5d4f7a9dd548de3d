"""A supervisor's log: what went wrong without ending it. ``supervisor.log`` of the job's directory.

It is there only where something went wrong, and never larger than MOST. Standard library only,
Python 3.6.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Callable

NAME = b"supervisor.log"
MOST = 1 << 16

_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_WORDS = 1000
_MAX_PLACES = 10
# Different troubles that are counted each for itself.
_MAX_KINDS = 64


class Log:
    dir_fd = -1  # the job's directory, once that is known

    def __init__(self) -> None:
        self._size = 0
        self._counts: dict[str, int] = {}

    def note(self, exc: Exception) -> None:
        """Writes down the exception and where it came from. Never raises.

        What comes again and again is written the first, the tenth, the hundredth … time.
        """
        try:
            words = _words(exc)
            if len(self._counts) >= _MAX_KINDS and words not in self._counts:
                self._counts.clear()
            count = self._counts[words] = self._counts.get(words, 0) + 1
            if str(count).strip("0") == "1":
                self._write("%s%s" % (words, " (%d times)" % count if count > 1 else ""))
        except Exception:
            pass  # no room, no memory, no directory: what it is about matters more

    def attempt(self, function: Callable[[], Any], otherwise: Any) -> Any:
        """What the function returns, and ``otherwise`` where it fails, which is written down."""
        try:
            return function()
        except Exception as exc:
            self.note(exc)
            return otherwise

    def _write(self, words: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = ("%s %s\n" % (now, words)).encode("utf-8", "backslashreplace")
        if self._size + len(line) > MOST:
            return
        fd = os.open(NAME, _APPEND, 0o600, dir_fd=self.dir_fd)
        try:
            self._size += os.write(fd, line)
        finally:
            os.close(fd)


def _words(exc: Exception) -> str:
    """One line, without the module traceback: that is large, and supervisors are many."""
    places = []
    at: TracebackType | None = exc.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        places.append("%s:%d" % (code.co_name, at.tb_lineno))
        at = at.tb_next
    said = " ".join(str(exc).split())[:_MAX_WORDS]
    return "%s: %s [%s]" % (type(exc).__name__, said, " ".join(places[-_MAX_PLACES:]))
