"""Reading kept jobs: their output as it is written, and the marks of what is used. Python 3.6."""

from __future__ import annotations

import os
from itertools import count
from typing import TYPE_CHECKING

from remit._agent.base.channel import Channel, Handler
from remit._agent.base.helpers import EndedEarly, help_twice
from remit._agent.base.loop import nothing
from remit._agent.kept import looks, lookup
from remit._agent.kept.follow import Following
from remit._jobdir import files, views
from remit._wire import states
from remit._wire.conversation import PIECE, Piece
from remit._wire.refusal import Refused
from remit._wire.requests import EVENTS, take_all

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from remit._agent.base.link import Link
    from remit._agent.base.loop import Timer
    from remit._agent.base.services import Session

# Bytes read in one turn.
_MOST = 1 << 19
# Seconds that news of what is used up are gathered before they are written, and between two tries
# where somebody else writes the marks just then.
_MARKS_DELAY = 0.1
_MARKS_AGAIN = 0.02
_MARKS_TRIES = 100


class Readers:
    """Those of a session: each has a number, by which it is known in turns."""

    def __init__(self, session: Session) -> None:
        self.numbers = count(1)
        # Whose channels are over, and what was used up by them is still to be written down.
        self.leaving: list[_Reader] = []

    def leaving_from(self, job_id: str) -> _Reader | None:
        return next((each for each in self.leaving if each.job_id == job_id), None)


def read(link: Link, channel: int, path: bytes, args: dict[str, Any]) -> None:
    """The verb: output from a position on, in order, to the end of the job if ``follow``."""
    job_id, position, follow = args["job"], args["position"], args["follow"]
    token = os.urandom(8).hex() if args["consume"] else None

    def ask() -> None:
        leaving = link.session.only(Readers).leaving_from(job_id)
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


class _Opening(Handler):
    """The handler of a channel whose reader is not there yet."""

    closed = False

    def on_close(self) -> None:
        self.closed = True


class _Reader(Following):
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
        self._readers = link.session.only(Readers)
        self._number = next(self._readers.numbers)
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
            self._inotify.fd if self._first else None,
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
            Channel(self.link, self.channel).failed(refused)

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
        used = take_all(EVENTS[name], args)["position"]
        for stream, offset in (used or {}).items():
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
        elif self not in self._readers.leaving:
            self._readers.leaving.append(self)

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
        if self in self._readers.leaving:
            self._readers.leaving.remove(self)
        for follower in self.followers:
            follower()
        if self._finished is not None:
            self._finished()
        else:
            args = (self._path, self.job_id, self._number)
            self._turns.ask(self.job_id, "forget", args, nothing)


def _passes(refused: Refused) -> bool:
    """Whether the same may be answered a moment later."""
    early = isinstance(refused, EndedEarly)
    return early or refused.code == "no-state" or bool(refused.facts.get("passing"))


def _unpacked(pieces: memoryview) -> Iterator[Piece]:
    at = 0
    while at < len(pieces):
        place = PIECE.unpack_from(pieces, at)
        size = looks.SIZE.unpack_from(pieces, at + PIECE.size)[0]
        at += PIECE.size + looks.SIZE.size
        yield Piece._make((*place, pieces[at : at + size]))
        at += size
