"""Following kept jobs: `remit._agent.kept.reading` their output, `remit._agent.kept.watching` their
states.

inotify tells of changes where it can, and once a second everything is looked at anyway: no inotify
sees a supervisor die, or another computer write. Nothing of a job's directory is touched here:
`remit._agent.kept.looks` does that, a turn at a time, in a process of `remit._agent.kept.turns`.
Standard library only, Python 3.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._agent.base.channel import Channel, Handler
from remit._agent.base.inotify import Inotify
from remit._agent.kept.turns import Turns

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.link import Link
    from remit._agent.base.loop import Timer
    from remit._agent.base.services import Session
    from remit._wire.refusal import Refused

# Seconds between two looks, with inotify beside them and without.
_POLL = 1.0
_POLL_ALONE = 0.05


def nudge(link: Link, job_id: str) -> None:
    """Has all who follow the job here look at it now."""
    for each in link.session.only(Followers).of(link, job_id):
        link.loop.call_for(Channel(link, each.channel).failed, each.look)


class Tools:
    """What all who follow share in a session; made at first use."""

    def __init__(self, session: Session) -> None:
        loop = session.loop
        before, loop.owner = loop.owner, None  # they are nobody's own
        try:
            self.inotify = Inotify(loop)
            keep = (self.inotify.fd,) if self.inotify.works else ()
            self.turns = Turns(session, keep)
        finally:
            loop.owner = before


class Followers:
    """Those of a session."""

    def __init__(self, session: Session) -> None:
        self.all: list[Following] = []

    def of(self, link: Link, job_id: str) -> list[Following]:
        """Those who follow that job for a caller."""
        return [each for each in self.all if each.link is link and each.job_id == job_id]


class Following(Handler):
    """What a reader and a watcher have in common: one turn at a time, and when the next is due."""

    def __init__(self, link: Link, channel: int, path: bytes, job_id: str) -> None:
        self.link = link
        self.channel = channel
        self.job_id = job_id
        self.closed = False
        self.gone_by = "removed"  # why, should the directory vanish before an end was seen
        self._path = path
        tools = link.session.only(Tools)
        self._inotify, self._turns = tools.inotify, tools.turns
        self._followers = link.session.only(Followers)
        self._followers.all.append(self)
        self._claimed: list[int] = []  # watches
        self._wake = link.loop.bound(self.look)
        self._asked = False  # a turn is on its way
        self._again = False  # and another one is due after it
        self._timer: Timer | None = None

    def look(self) -> None:
        """Has a turn done now, or after the one that is on its way."""
        self._again = self._asked
        if not self._asked and not self.closed:
            self._begin()

    def _begin(self) -> None:
        raise NotImplementedError

    def _answered(self, answer: Any, refused: Refused | None) -> None:
        raise NotImplementedError

    def _ask(self, name: str, *args: object) -> None:
        def done(answer: Any, refused: Refused | None) -> None:
            self._asked = False
            if self.closed:
                self._came_late(answer or {})
                return
            self._answered(answer, refused)
            if self._again:
                self.look()

        self._asked = True
        try:
            self._turns.ask(self.job_id, name, (self._path, self.job_id, *args), done)
        except OSError:
            self._asked = False
            raise

    def _claim(self, *numbers: int | None) -> None:
        for number in numbers:
            if number is not None:
                self._claimed.append(number)
                self._inotify.claim(number, self._wake)

    def _came_late(self, answer: dict[str, Any]) -> None:
        """A turn's answer after the close."""

    def look_later(self) -> None:
        if self._timer is None and not self.closed:
            seconds = _POLL if self._inotify.works else _POLL_ALONE
            self._timer = self.link.loop.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.look()

    def close(self) -> None:
        """Twice is quiet."""
        if not self.closed:
            self.closed = True
            self._followers.all.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        for number in self._claimed:
            self._inotify.unwatch(number, self._wake)
        self._claimed = []
