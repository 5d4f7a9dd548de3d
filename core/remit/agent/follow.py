"""Following kept jobs: their output as it is written (`read`), and their states (`watch`).

inotify tells of changes where it can, and once a second everything is looked at anyway: no
inotify sees a supervisor die, or another computer write. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from remit import _jobstate
from remit._msgpack import pack
from remit.agent import arguments, jobdir, jobview, keeper, lease, liveness, statedir
from remit.agent.cursor import Cursor
from remit.agent.helpers import Refused
from remit.agent.inotify import MODIFIED, MOVED_IN, Inotify

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._conversation import Piece
    from remit.agent.loop import Timer
    from remit.agent.main import Agent

# Seconds between two looks, with inotify beside them and without.
_POLL = 1.0
_POLL_ALONE = 0.05
# Pieces sent in one turn of the loop: others have something to do too.
_PIECES_PER_TURN = 256
# Seconds that news of what is used up are gathered before they are written, and between two tries
# where somebody else writes the marks just then.
_MARKS_DELAY = 0.1
_MARKS_AGAIN = 0.02
_MARKS_PATIENCE = 2.0


def read(agent: Agent, channel: int, path: bytes, args: dict[str, Any]) -> None:
    """The verb: output from a position on, in order, to the end of the job if ``follow``."""
    job_id = arguments.job_id(args, "job")
    position = _position(args, "position")
    follow = arguments.take(args, "follow", bool, default=True)
    token = None
    if arguments.take(args, "consume", bool, default=False):
        token = os.urandom(8).hex()

    def done(begin: Any, refused: Refused | None) -> None:
        if opening.closed:
            return
        if refused is not None:
            agent.fail(channel, refused)
            return
        try:
            reader = _Reader(agent, channel, path, job_id, begin, follow, token)
        except (OSError, Refused, jobdir.Unreadable) as exc:
            agent.fail(channel, _unreadable(job_id, exc))
            return
        agent.handlers[channel] = reader
        agent.accept(channel, {"position": begin["position"]})
        reader.look()

    opening = _Opening()
    agent.handlers[channel] = opening
    agent.helper(keeper.begin_reading, (path, job_id, position, token), done)


def watch(agent: Agent, channel: int, path: bytes, job_id: str) -> None:
    """The verb: each new state of the job, until it is finished and nothing of it runs."""
    watcher = _Watcher(agent, channel, path, job_id, linger=True)
    agent.handlers[channel] = watcher
    agent.accept(channel, watcher.view)
    watcher.look()


def watch_started(agent: Agent, channel: int, path: bytes, view: dict[str, Any]) -> None:
    """The same on the channel of an accepted start, until the job is finished."""
    try:
        watcher = _Watcher(agent, channel, path, view["id"], linger=False)
    except (OSError, Refused):
        agent.end(channel, {"job": view})  # removed already
        return
    watcher.view = view
    agent.handlers[channel] = watcher
    watcher.look()


def nudge(agent: Agent, job_id: str) -> None:
    """Has all who follow the job here look at it now."""
    for handler in list(agent.handlers.values()):
        if isinstance(handler, _Following) and handler.job_id == job_id:
            agent.loop.call_for(agent.owner(handler.channel), handler.look)


def expect_removal(agent: Agent, job_id: str) -> None:
    """A removal by force is asked for here: a job that goes without a word was stopped by it."""
    for handler in list(agent.handlers.values()):
        if isinstance(handler, _Watcher) and handler.job_id == job_id:
            handler.gone_by = "stopped"


def _position(args: dict[str, Any], name: str) -> dict[str, int] | None:
    """Offsets of both streams; a stream that is not named is read from its start."""
    value = arguments.take(args, name, dict, default=None)
    if value is None:
        return None
    position = {stream: value.get(stream, 0) for stream in jobdir.STREAMS}
    if not all(type(offset) is int and offset >= 0 for offset in position.values()):
        raise Refused("bad-request", "the argument %s is no position" % name)
    return position


def _unreadable(job_id: str, exc: Exception) -> Exception:
    if isinstance(exc, Refused):
        return exc
    if isinstance(exc, FileNotFoundError):
        return keeper.not_found(job_id)
    return Refused("state", "the output of job %s cannot be read: %s" % (job_id, exc))


class _Opening:
    """The handler of a channel whose reader is not there yet."""

    closed = False

    def on_close(self) -> None:
        self.closed = True


class _Following:
    """What a reader and a watcher have in common: the directory, and when to look at it."""

    def __init__(self, agent: Agent, channel: int, path: bytes, job_id: str) -> None:
        self.agent = agent
        self.channel = channel
        self.job_id = job_id
        self._inotify = _inotify_of(agent)
        self._watches: list[tuple[int | None, Callable[[], object]]] = []
        self._timer: Timer | None = None
        self.dir_fd = _open(path, job_id)

    def look(self) -> None:
        raise NotImplementedError

    def tell_of(self, fd: int, mask: int, callback: Callable[[], object]) -> None:
        self._watches.append((self._inotify.watch(fd, mask, callback), callback))

    def look_later(self) -> None:
        if self._timer is None:
            seconds = _POLL if self._inotify.works else _POLL_ALONE
            self._timer = self.agent.call_later(seconds, self._tick)

    def _tick(self) -> None:
        self._timer = None
        self.look()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, callback in self._watches:
            self._inotify.unwatch(number, callback)
        self._watches = []
        os.close(self.dir_fd)


def _open(path: bytes, job_id: str) -> int:
    """Raises Refused and FileNotFoundError."""
    jobs_fd = statedir.State(path).open_jobs()
    try:
        return statedir.open_directory(job_id.encode(), jobs_fd, job_id.encode())
    finally:
        os.close(jobs_fd)


_inotify: list[Inotify] = []


def _inotify_of(agent: Agent) -> Inotify:
    """The agent's one instance, made at first use."""
    if not _inotify:
        _inotify.append(Inotify(agent))
    return _inotify[0]


class _Watcher(_Following):
    """Tells of the job's states on a channel."""

    def __init__(self, agent: Agent, channel: int, path: bytes, job_id: str, linger: bool) -> None:
        try:
            super().__init__(agent, channel, path, job_id)
        except FileNotFoundError:
            raise keeper.not_found(job_id) from None
        self._linger = linger
        self.gone_by = "removed"  # why, should the directory vanish before an end was seen
        self.view = jobview.job_map(self.dir_fd, job_id)
        # Whoever watches a job with a lease is one of its callers.
        self._hold = lease.hold(self.dir_fd) if self.view["lifetime"] == "lease" else None
        self.tell_of(self.dir_fd, MOVED_IN, self.look)

    def look(self) -> None:
        if self.channel not in self.agent.handlers:
            return
        view = jobview.job_map(self.dir_fd, self.job_id)
        if view["problem"] is not None and not os.fstat(self.dir_fd).st_nlink:
            self._end(_removed(self.view, self.gone_by))
            return
        if _essence(view) != _essence(self.view):
            self.agent.conversation.event(self.channel, pack(["job", view]))
        self.view = view
        if view["state"] in _jobstate.FINISHED and not (self._linger and self._runs_on(view)):
            self._end(view)
        else:
            self.look_later()

    def _runs_on(self, view: dict[str, Any]) -> bool:
        """Whether the supervisor still looks after what a finished job left behind."""
        try:
            return view["state"] != _jobstate.LOST and liveness.alive(self.dir_fd)
        except OSError:
            return False

    def _end(self, view: dict[str, Any]) -> None:
        self.agent.end(self.channel, {"job": view})
        self.close()

    def on_close(self) -> None:
        if not self._linger:
            self._hold = None  # the session that started it is its caller to the end
        self.close()

    def close(self) -> None:
        if self._hold is not None:
            os.close(self._hold)
            self._hold = None
        super().close()


def _removed(view: dict[str, Any], reason: str) -> dict[str, Any]:
    """The last view of a job whose directory is gone: how it ended was not seen any more."""
    if view["state"] in _jobstate.FINISHED:
        return view
    state = _jobstate.STOPPED if reason == "stopped" else _jobstate.LOST
    return dict(view, state=state, outcome={"reason": reason, "error": "it was removed"})


def _essence(view: dict[str, Any]) -> tuple[object, ...]:
    """What of a job map is news: sizes alone are not."""
    return view["state"], view["outcome"], view["problem"], view["started"]


class _Reader(_Following):
    """Sends a job's output on a channel; a consuming one also keeps the job's marks."""

    def __init__(
        self,
        agent: Agent,
        channel: int,
        path: bytes,
        job_id: str,
        begin: dict[str, Any],
        follow: bool,
        token: str | None,
    ) -> None:
        super().__init__(agent, channel, path, job_id)
        try:
            self._cursor = Cursor(self.dir_fd, begin["position"])
        except (OSError, jobdir.Unreadable):
            super().close()
            raise
        self.tell_of(self._cursor.index_fd, MODIFIED, self._pump)
        self.tell_of(self.dir_fd, MOVED_IN, self.look)
        self._follow = follow
        self._token = token
        self._told_freed = dict.fromkeys(jobdir.STREAMS, 0)  # where streams begin
        self._used: dict[str, int] = dict(begin["used"])  # as the caller says
        self._marked = dict(self._used)  # as the marks say
        self._marks_timer: Timer | None = None
        self._tries = 0  # to write the marks, one after another
        self._over = False  # nothing more will be written
        self._asked: float | None = None  # when we last looked whether that is so
        self._sent = False  # all there is was queued
        self._turn: Timer | None = None
        self._closing = False
        self._finished: Callable[..., object] | None = None  # for the end of the session
        if token is not None:
            agent.on_session_end.append(self._session_over)

    # -- output

    def look(self) -> None:
        if self._token is not None and not self._closing and not self._is_ours():
            self._superseded()
        elif not self._closing:
            self.look_later()
            self._pump()

    def on_credit(self) -> None:
        self._pump()

    def on_room(self) -> None:
        self._pump()

    def _pump(self) -> None:
        if self._closing or self._sent or self._turn is not None:
            return
        for _ in range(_PIECES_PER_TURN):
            if not self.agent.has_room():
                return
            try:
                piece = self._next(self.agent.conversation.credit(self.channel))
            except (OSError, jobdir.Unreadable) as exc:
                self._fail(exc)
                return
            if self._cursor.freed != self._told_freed:
                # It may overtake data, but comes before the piece that goes on behind a gap.
                self._told_freed = dict(self._cursor.freed)
                self.agent.event(self.channel, "freed", position=self._told_freed)
            if piece is None:
                return
            self.agent.conversation.data(self.channel, piece)
        self._turn = self.agent.call_later(0, self._another_turn)

    def _another_turn(self) -> None:
        self._turn = None
        self._pump()

    def _next(self, credit: int) -> Piece | None:
        """What to send now. At the end of what there is, says so where there will be no more."""
        piece = self._cursor.next(credit) if credit else None
        if piece is not None or (not credit and not self._cursor.exhausted()):
            return piece
        if not self._over:
            self._over = self._is_over()
            if not self._over:
                if not self._follow:
                    self._all_sent()
                return None
            # What was written between the look at the index and the outcome.
            return self._next(credit)
        if credit:
            piece = self._cursor.rest(credit, time.time())
        if piece is None:
            self._all_sent()
        return piece

    def _is_over(self) -> bool:
        """Whether nothing more will be written. The outcome shows at once, its lack in a second."""
        if jobview.has_outcome(self.dir_fd):
            return True
        now = time.monotonic()
        if self._asked is not None and now - self._asked < _POLL:
            return False
        self._asked = now
        return jobview.job_map(self.dir_fd, self.job_id)["state"] in _jobstate.FINISHED

    def _all_sent(self) -> None:
        self._sent = True
        if self._token is not None:
            # The end of a consuming read comes once all is used up: the caller knows then that
            # the marks say so.
            # It may overtake the data, so it says how far that goes.
            self.agent.event(self.channel, "all-sent", position=dict(self._cursor.position))
        self._end_if_used()

    def _end_if_used(self) -> None:
        if self._token is not None:
            if any(self._used[stream] < at for stream, at in self._cursor.position.items()):
                return
            if not self._write_marks():
                return  # it comes here again once they are written
        view = jobview.job_map(self.dir_fd, self.job_id)
        position = self._cursor.position
        whole = all(position[stream] >= size for stream, size in view["sizes"].items())
        self.agent.end(self.channel, {"complete": self._over and whole, "job": view})
        self.close()

    def _fail(self, exc: Exception) -> None:
        """The index makes no sense from here on: the caller gets what there was before."""
        view = jobview.job_map(self.dir_fd, self.job_id)
        view["problem"] = str(exc)
        self._write_marks()
        self.agent.end(self.channel, {"complete": False, "job": view})
        self.close()

    # -- what is used up

    def on_event(self, name: str, args: dict[str, Any]) -> None:
        if name != "used" or self._token is None or self._closing:
            return
        for stream, offset in (_position(args, "position") or {}).items():
            # Never beyond what was sent, and never back.
            offset = min(offset, self._cursor.position[stream])
            self._used[stream] = max(self._used[stream], offset)
        if self._sent:
            self._end_if_used()
        if not self._closing and self._marks_timer is None:
            self._marks_timer = self.agent.call_later(_MARKS_DELAY, self._marks_due)

    def on_close(self) -> None:
        self._closing = True
        if self._write_marks():
            self.close()

    def _session_over(self, finished: Callable[..., object]) -> None:
        self._closing = True
        self._finished = finished
        if self._write_marks():
            self.close()

    def _marks_due(self) -> None:
        self._marks_timer = None
        if self._write_marks():
            if self._closing:
                self.close()
            elif self._sent:
                self._end_if_used()

    def _write_marks(self) -> bool:
        """Whether the marks say what is used up; where not, it is tried again soon.

        They are written without waiting for the disk, so this does not hold up the loop.
        """
        if self._token is None or self._used == self._marked:
            return True
        try:
            claimed = jobdir.claim(self.dir_fd)
        except OSError:
            claimed = True  # no such locks here: the last writer wins
        if not claimed:
            self._tries += 1
            if self._tries * _MARKS_AGAIN < _MARKS_PATIENCE:
                if self._marks_timer is None:
                    self._marks_timer = self.agent.call_later(_MARKS_AGAIN, self._marks_due)
                return False
            return True
        try:
            ours = self._is_ours()
            if ours:
                jobdir.write_marks(self.dir_fd, jobdir.Marks(self._used, self._token))
        except OSError:
            pass  # a full disk, or the job was removed: records come twice then, or nobody asks
        finally:
            jobdir.unclaim(self.dir_fd)
        self._tries = 0
        self._marked = dict(self._used)
        if not ours and not self._closing:
            self._superseded()
            return False
        return True

    def _is_ours(self) -> bool:
        """Whether no other consuming reader took over; marks that are gone are nobody's."""
        reader = jobdir.read_marks(self.dir_fd).reader
        return reader is None or reader == self._token

    def _superseded(self) -> None:
        self._marked = dict(self._used)  # the marks are somebody else's now
        self.agent.event(self.channel, "superseded")
        view = jobview.job_map(self.dir_fd, self.job_id)
        self.agent.end(self.channel, {"complete": False, "job": view})
        self.close()

    def close(self) -> None:
        self._closing = True
        for timer in (self._marks_timer, self._turn):
            if timer is not None:
                timer.cancel()
        if self._finished is None and self._session_over in self.agent.on_session_end:
            self.agent.on_session_end.remove(self._session_over)
        self._cursor.close()
        super().close()
        if self._finished is not None:
            self._finished()
