"""The turns of a supervisor: what it waits for, and a barrier round everything that it then does.

Whatever goes wrong in a turn is noted and costs that one thing a rest: what failed is tried again
later, and everything else goes on. The agent's loop is another (`remit._agent.base.loop`): it gives
up a callback that fails, which a supervisor must not do. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import select
import signal
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    # Called with its descriptor.
    Handler = Callable[[int], object]
    # Gives the time, by the monotonic clock, when it is to be called again though nothing happens.
    Step = Callable[[], "float | None"]


# poll(2) counts milliseconds in a C int: no wait may be longer than 24 days.
_LONGEST_WAIT = 3600.0
# Seconds that something rests after it failed: at first, doubled each time, and at most.
_FIRST_REST = 0.05
_LONGEST_REST = 5.0


class Turns:
    def __init__(self, note: Callable[[Exception], object]) -> None:
        """``note`` is told of each exception, and raises none itself."""
        self._note = note
        self._poll = select.poll()
        self._watched: dict[int, tuple[int, Handler]] = {}
        # A descriptor or a step that failed: until when it rests, and how long that is.
        self._failed: dict[Any, tuple[float, float]] = {}
        self._due: dict[Step, float | None] = {}

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Calls the handler in each turn in which one of the events of poll(2) is there."""
        self._watched[fd] = (events, handler)
        self._poll.register(fd, events)

    def unwatch(self, fd: int) -> None:
        """To be called before ``fd`` is closed. Quiet where it is not watched."""
        self._failed.pop(fd, None)
        if self._watched.pop(fd, None) is not None:
            try:
                self._poll.unregister(fd)
            except KeyError:
                pass  # it rests

    def run(self, steps: Iterable[Step], first: float | None, is_over: Callable[[], bool]) -> None:
        """Takes turns until it is over. In each, the steps follow the handlers, in their order.

        ``first`` is when they are due though nothing happens: until then nothing is touched, since
        what is written to takes memory from each of many supervisors.
        """
        self._due = dict.fromkeys(steps, first)
        while not is_over():
            try:
                self._turn()
            except Exception as exc:
                self._note(exc)
                time.sleep(_FIRST_REST)

    def _turn(self) -> None:
        # An earlier handler of this turn may end a watch, and begin one of another file by the same
        # number, to which nothing has happened.
        happened = self._poll.poll(self._patience())
        for fd, watch in [(fd, self._watched.get(fd)) for fd, _ in happened]:
            if watch is not None and self._watched.get(fd) is watch:
                self._call(fd, watch[1], fd)
        for step in self._due:
            if not self._rests(step):
                self._due[step] = self._call(step, step)

    def _patience(self) -> int:
        """Milliseconds until something is due that no descriptor tells of."""
        now = time.monotonic()
        due = now + _LONGEST_WAIT
        for step, at in self._due.items():
            if at is not None and at < due and step not in self._failed:
                due = at
        if self._failed:
            due = min(due, self._look_at_failed(now))
        return max(0, int((due - now) * 1000) + 1)

    def _look_at_failed(self, now: float) -> float:
        """When the next one of them has rested; those that have are waited for again."""
        due = now + _LONGEST_WAIT
        for failed, (until, _) in list(self._failed.items()):
            if until > now or failed in self._due:
                due = min(due, until)
            elif failed in self._watched:
                self._poll.register(failed, self._watched[failed][0])
        return due

    def _rests(self, failed: object) -> bool:
        return failed in self._failed and time.monotonic() < self._failed[failed][0]

    def _call(self, failing: Any, function: Callable[..., Any], *args: object) -> Any:
        try:
            result = function(*args)
        except Exception as exc:
            self._let_rest(failing)
            self._note(exc)
            return None
        if self._failed:
            self._failed.pop(failing, None)
        return result

    def _let_rest(self, failing: Any) -> None:
        _, before = self._failed.get(failing, (0.0, _FIRST_REST / 2))
        rest = min(2 * before, _LONGEST_REST)
        self._failed[failing] = (time.monotonic() + rest, rest)
        if failing in self._watched:
            self._poll.unregister(failing)


# What would end or stop the supervisor unless it said otherwise, and that anybody may send by
# mistake to a whole process group.
_IGNORED = (
    *("SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGIO", "SIGPWR"),
    *("SIGTSTP", "SIGTTIN", "SIGTTOU", "SIGVTALRM", "SIGPROF", "SIGXCPU", "SIGXFSZ", "SIGSTKFLT"),
)


def note_signals() -> None:
    """What makes the numbers of two signals appear in the pipe: a handler in Python. Others are
    ignored where that is possible."""
    for name in _IGNORED:
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _noted)


def open_pipe() -> int:
    """A descriptor on which the numbers of the signals that come can be read."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    return reader


def _noted(number: int, frame: object) -> None:
    pass
