"""Following kept jobs: their output as it is written (`read`), and their states (`watch`).

inotify tells of changes where it can, and once a second everything is looked at anyway: no inotify
sees a supervisor die, or another computer write. Nothing of a job's directory is touched here:
`remit._agent.kept.looks` does that, a turn at a time, in a process of `remit._agent.kept.turns`.
Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

from remit._agent.base import arguments
from remit._agent.base.helpers import EndedEarly, help_twice
from remit._agent.base.inotify import Inotify
from remit._agent.kept import known, looks, lookup
from remit._agent.kept.turns import Turns
from remit._jobdir import files, views
from remit._wire import states
from remit._wire.conversation import PIECE, Piece
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from remit._agent.base.link import Link
    from remit._agent.base.loop import Timer
    from remit._agent.base.services import Place

# Seconds between two looks, with inotify beside them and without.
_POLL = 1.0
_POLL_ALONE = 0.05
# Seconds without an answer after which a watched job's directory counts as out of reach.
_SILENCE = 5.0
# Bytes read in one turn.
_MOST = 1 << 19
# Seconds that news of what is used up are gathered before they are written, and between two tries
# where somebody else writes the marks just then.
_MARKS_DELAY = 0.1
_MARKS_AGAIN = 0.02
_MARKS_TRIES = 100


def read(link: Link, channel: int, path: bytes, args: dict[str, Any]) -> None:
    """The verb: output from a position on, in order, to the end of the job if ``follow``."""
    job_id = arguments.job_id(args, "job")
    position = _position(args, "position")
    follow = arguments.take(args, "follow", bool, default=True)
    token = None
    if arguments.take(args, "consume", bool, default=False):
        token = os.urandom(8).hex()

    def ask() -> None:
        leaving = next((each for each in _leaving if each.job_id == job_id), None)
        if opening.closed:
            return
        if leaving is not None:
            # What it used up is written down before the marks are read: else it would come again.
            leaving.followers.append(link.loop.bound(ask))
        else:
            help_twice(link.session, lookup.begin_reading, (path, job_id, position, token), done)

    def done(begin: Any, refused: Refused | None) -> None:
        if opening.closed:
            return
        if refused is not None:
            link.fail(channel, refused)
            return
        reader = _Reader(link, channel, path, job_id, begin, follow, token)
        link.handlers[channel] = reader
        reader.look()

    opening = _Opening()
    link.handlers[channel] = opening
    ask()


def watch(link: Link, channel: int, path: bytes, job_id: str) -> None:
    """The verb: each new state of the job, until it is finished and nothing of it runs."""
    watcher = _Watcher(link, channel, path, job_id, None)
    link.handlers[channel] = watcher
    watcher.look()


def watch_started(link: Link, channel: int, path: bytes, view: dict[str, Any]) -> None:
    """The same on the channel of an accepted start, until the job is finished."""
    watcher = _Watcher(link, channel, path, view["id"], view)
    link.handlers[channel] = watcher
    watcher.look()


def nudge(link: Link, job_id: str) -> None:
    """Has all who follow the job here look at it now."""
    for handler in list(link.handlers.values()):
        if isinstance(handler, _Following) and handler.job_id == job_id:
            link.loop.call_for(link.owner(handler.channel), handler.look)


def expect_removal(link: Link, job_id: str) -> None:
    """A removal by force is asked for here: a job that goes without a word was stopped by it."""
    for handler in list(link.handlers.values()):
        if isinstance(handler, _Watcher) and handler.job_id == job_id:
            handler.gone_by = "stopped"


def _position(args: dict[str, Any], name: str) -> dict[str, int] | None:
    """Offsets of both streams; a stream that is not named is read from its start."""
    value = arguments.take(args, name, dict, default=None)
    if value is None:
        return None
    position = {stream: value.get(stream, 0) for stream in files.STREAMS}
    if not all(type(at) is int and 0 <= at <= files.MAX_SIZE for at in position.values()):
        raise Refused("bad-request", "the argument %s is no position" % name)
    return position


class _Opening:
    """The handler of a channel whose reader is not there yet."""

    closed = False

    def on_close(self) -> None:
        self.closed = True


_shared: list[tuple[Inotify, Turns]] = []


def _shared_of(place: Place) -> tuple[Inotify, Turns]:
    """The agent's one instance of each, made at first use."""
    if not _shared:
        loop = place.loop
        before, loop.owner = loop.owner, None  # they are nobody's own
        try:
            inotify = Inotify(loop)
            keep = (inotify.fd,) if inotify.works else ()
            _shared.append((inotify, Turns(place, keep)))
        finally:
            loop.owner = before
    return _shared[0]


class _Following:
    """What a reader and a watcher have in common: one turn at a time, and when the next is due."""

    def __init__(self, link: Link, channel: int, path: bytes, job_id: str) -> None:
        self.link = link
        self.channel = channel
        self.job_id = job_id
        self.closed = False
        self._path = path
        self._inotify, self._turns = _shared_of(link.session)
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
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
        for number in self._claimed:
            self._inotify.unwatch(number, self._wake)
        self._claimed = []


class _Watcher(_Following):
    """Tells of the job's states on a channel."""

    def __init__(
        self, link: Link, channel: int, path: bytes, job_id: str, started: dict[str, Any] | None
    ) -> None:
        """``started``: what the caller was told in the answer to its start."""
        super().__init__(link, channel, path, job_id)
        self._linger = started is None
        self._first = True
        self.gone_by = "removed"  # why, should the directory vanish before an end was seen
        self._view = started
        self._hold: int | None = None  # of a job with a lease, one of whose callers this is
        self._silent: Timer | None = None

    def _begin(self) -> None:
        self._silent = self.link.loop.call_later(_SILENCE, self._hangs)
        self._ask("look", self._inotify.fd, self._first)

    def _answered(self, answer: Any, refused: Refused | None) -> None:
        if self._silent is not None:
            self._silent.cancel()
        if refused is not None:
            self._refused(refused)
            return
        if self._first:
            self._first = False
            self._hold = answer.get("fd")
            known.remember(answer["view"], answer.get("process", {}))
            self._claim(answer["watch"])
        view = answer["view"]
        self._tell(view)
        if view["state"] in states.FINISHED and not (self._linger and answer["runs_on"]):
            self._end(view)
        else:
            self.look_later()

    def _refused(self, refused: Refused) -> None:
        """It is gone, or cannot be reached just now."""
        if self._view is None and not isinstance(refused, EndedEarly):
            self.link.fail(self.channel, refused)
            self.close()
        elif self._view is None:
            self.look_later()
        elif refused.code == "not-found":
            self._end(_removed(self._view, self.gone_by))
        else:
            self._tell(views.out_of_reach(self._view, refused.message))
            self.look_later()

    def _hangs(self) -> None:
        words = "its directory has not answered for %d seconds" % _SILENCE
        self._tell(views.out_of_reach(self._view or views.unknown(self.job_id), words))

    def _tell(self, view: dict[str, Any]) -> None:
        if self._view is None:
            self.link.accept(self.channel, view)
        elif _essence(view) != _essence(self._view):
            self.link.event(self.channel, "job", **view)
        self._view = view

    def _end(self, view: dict[str, Any]) -> None:
        self.link.end(self.channel, {"job": view})
        self.close()

    def on_close(self) -> None:
        if not self._linger:
            self._hold = None  # the session that started it is its caller to the end
        self.close()

    def _came_late(self, answer: dict[str, Any]) -> None:
        if self._linger and "fd" in answer:
            os.close(answer["fd"])

    def close(self) -> None:
        if self._silent is not None:
            self._silent.cancel()
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None
        super().close()


def _removed(view: dict[str, Any], reason: str) -> dict[str, Any]:
    """The last view of a job whose directory is gone: how it ended was not seen any more."""
    if view["state"] in states.FINISHED:
        return view
    state = states.STOPPED if reason == "stopped" else states.LOST
    return dict(view, state=state, outcome={"reason": reason, "error": "it was removed"})


def _essence(view: dict[str, Any]) -> tuple[object, ...]:
    """What of a job map is news: sizes alone are not."""
    return view["state"], view["outcome"], view["problem"], view["started"]


_readers: Iterator[int] = count(1)
# Whose channels are over, and what was used up by them is still to be written down.
_leaving: list[_Reader] = []


class _Reader(_Following):
    """Sends a job's output on a channel; a consuming one also keeps the job's marks."""

    def __init__(
        self,
        link: Link,
        channel: int,
        path: bytes,
        job_id: str,
        begin: dict[str, Any],
        follow: bool,
        token: str | None,
    ) -> None:
        super().__init__(link, channel, path, job_id)
        self._number = next(_readers)
        self._begin_at: dict[str, int] = begin["position"]
        self._place: list[Any] = [self._begin_at, None]
        self._follow = follow
        self._token = token
        self._first = True
        self._more = True  # there is something to read
        self._told_freed = dict.fromkeys(files.STREAMS, 0)  # where streams begin
        self._used: dict[str, int] = dict(begin["used"])  # as the caller says
        self._marked = dict(self._used)  # as the marks say
        self._marks_timer: Timer | None = None
        self._marking = False  # the marks are being written
        self._tries = 0  # to write the marks, one after another
        self._over = False  # nothing more will be written
        self._sent = False  # all there is was queued
        self._view: dict[str, Any] | None = None
        self._closing = False
        self._finished: Callable[..., object] | None = None  # for the end of the session
        self.followers: list[Callable[[], object]] = []  # called once it has left
        if token is not None:
            link.session.on_session_end.append(self._session_over)

    # -- output

    def on_credit(self) -> None:
        self.look()

    on_room = on_credit

    def _begin(self) -> None:
        """Where there is room for what comes, and something may come."""
        if self._closing:
            return
        credit = 0 if self._sent else self._may_send()
        if not credit and self._token is not None:
            self.look_later()  # somebody else may take over meanwhile
        elif not credit and self._more and not self._first:
            return
        self._ask(
            "read",
            self._number,
            self._place,
            credit,
            self._token,
            self._follow,
            self._inotify.fd,
            self._first,
        )

    def _answered(self, answer: Any, refused: Refused | None) -> None:
        if self._closing:
            return
        if refused is not None:
            self._refused(refused)
            return
        if self._first:
            self._first = False
            self.link.accept(self.channel, {"position": self._begin_at})
            if not answer["superseded"]:
                self._claim(*answer["watches"])
        if answer["superseded"]:
            self._superseded(answer["view"])
            return
        if answer["freed"] != self._told_freed:
            # It may overtake data, but comes before the piece that goes on behind a gap.
            self._told_freed = answer["freed"]
            self.link.event(self.channel, "freed", position=self._told_freed)
        self._place = answer["place"]
        for piece in _unpacked(answer["data"]):
            self.link.conversation.data(self.channel, piece)
        self._more, self._over = answer["more"], answer["over"]
        if answer["view"] is not None and not self._sent:
            self._all_sent(answer["view"])
        elif self._more and self._may_send():
            self.look()
        else:
            self.look_later()

    def _may_send(self) -> int:
        """How many bytes now; more may be sent from the next `on_credit` or `on_room` on."""
        room = self.link.has_room()
        return min(_MOST, self.link.conversation.credit(self.channel)) if room else 0

    def _refused(self, refused: Refused) -> None:
        if _passes(refused):
            self.look_later()
        else:
            # The index makes no sense from here on, or the job was removed: the caller gets what
            # there was before, and is told that this is not the end.
            self.link.failed(self.channel, refused)

    def _all_sent(self, view: dict[str, Any]) -> None:
        self._sent = True
        self._view = view
        if self._token is not None:
            # The end of a consuming read comes once all is used up: the caller knows then that
            # the marks say so. It may overtake the data, so it says how far that goes.
            cut = {} if self._is_complete(view) else {"complete": False}
            self.link.event(self.channel, "all-sent", position=self._place[0], **cut)
        self._end_if_used()

    def _is_complete(self, view: dict[str, Any]) -> bool:
        """Whether what was sent goes to the end of what the job produced."""
        position = self._place[0]
        return self._over and all(position[each] >= size for each, size in view["sizes"].items())

    def _end_if_used(self) -> None:
        if self._token is not None:
            if any(self._used[stream] < at for stream, at in self._place[0].items()):
                return
            if not self._write_marks():
                return  # it comes here again once they are written
        assert self._view is not None
        self._end(self._is_complete(self._view), self._view)

    def _end(self, complete: bool, view: dict[str, Any]) -> None:
        self.link.end(self.channel, {"complete": complete, "job": view})
        self.on_close()

    def _superseded(self, view: dict[str, Any] | None) -> None:
        self._marked = dict(self._used)  # the marks are somebody else's now
        self.link.event(self.channel, "superseded")
        self._end(False, view or self._view or views.unknown(self.job_id))

    # -- what is used up

    def on_event(self, name: str, args: dict[str, Any]) -> None:
        if name != "used" or self._token is None or self._closing:
            return
        for stream, offset in (_position(args, "position") or {}).items():
            # Never beyond what was sent, and never back.
            offset = min(offset, self._place[0][stream])
            self._used[stream] = max(self._used[stream], offset)
        if self._sent:
            self._end_if_used()
        if not self._closing and self._marks_timer is None:
            self._marks_timer = self.link.loop.call_later(_MARKS_DELAY, self._marks_due)

    def on_close(self) -> None:
        self._closing = True
        if self._write_marks():
            self.close()
        elif self not in _leaving:
            _leaving.append(self)

    def _session_over(self, finished: Callable[..., object]) -> None:
        self._finished = finished
        self.on_close()

    def _marks_due(self) -> None:
        self._marks_timer = None
        if self._write_marks():
            if self._closing:
                self.close()
            elif self._sent:
                self._end_if_used()

    def _write_marks(self) -> bool:
        """Whether the marks say what is used up; where not, they are written, and then it goes on
        with `_marks_due`."""
        if self._token is None or self._used == self._marked:
            return True
        if not self._marking:
            self._marking = True
            used = dict(self._used)

            def done(answer: Any, refused: Refused | None) -> None:
                self._marking = False
                self._wrote(used, answer, refused)

            args = (self._path, self.job_id, self._number, self._token, used)
            self._turns.ask(self.job_id, "mark", args, done)
        return False

    def _wrote(self, used: dict[str, int], answer: Any, refused: Refused | None) -> None:
        if self.closed:
            return
        if _passes(refused) if refused is not None else not answer["written"]:
            self._tries += 1
            if self._tries < _MARKS_TRIES:
                if self._marks_timer is not None:
                    self._marks_timer.cancel()
                self._marks_timer = self.link.loop.call_later(_MARKS_AGAIN, self._marks_due)
                return
        # Or given up: records come twice then, or nobody asks.
        self._tries = 0
        self._marked = used
        if refused is None and answer["written"]:
            if not self._over or answer["view"]["state"] in states.FINISHED:
                self._view = answer["view"]  # else it could not be read just then
            if not answer["ours"] and not self._closing:
                self._superseded(answer["view"])
                return
        if self._marks_timer is None:
            self._marks_due()

    def close(self) -> None:
        if self.closed:
            return
        self._closing = True
        if self._marks_timer is not None:
            self._marks_timer.cancel()
        if self._finished is None and self._session_over in self.link.session.on_session_end:
            self.link.session.on_session_end.remove(self._session_over)
        super().close()
        if self in _leaving:
            _leaving.remove(self)
        for follower in self.followers:
            follower()
        if self._finished is not None:
            self._finished()
        else:
            args = (self._path, self.job_id, self._number)
            self._turns.ask(self.job_id, "forget", args, _ignored)


def _passes(refused: Refused) -> bool:
    """Whether the same may be answered a moment later."""
    early = isinstance(refused, EndedEarly)
    return early or refused.code == "no-state" or bool(refused.facts.get("passing"))


def _ignored(answer: Any, refused: Refused | None) -> None:
    """Nobody waits for it."""


def _unpacked(pieces: memoryview) -> Iterator[Piece]:
    at = 0
    while at < len(pieces):
        place = PIECE.unpack_from(pieces, at)
        size = looks.SIZE.unpack_from(pieces, at + PIECE.size)[0]
        at += PIECE.size + looks.SIZE.size
        yield Piece._make((*place, pieces[at : at + size]))
        at += size
