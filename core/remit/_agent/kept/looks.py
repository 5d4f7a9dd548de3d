"""The turns of those who follow kept jobs: what reads and writes a job's directory, a little at a
time. They run in the processes of `remit._agent.kept.turns`. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import struct
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from remit._agent.base import inotify
from remit._agent.kept import lookup
from remit._jobdir import files, lease, liveness, statedir, views
from remit._jobdir.cursor import Cursor
from remit._wire import states
from remit._wire.conversation import PIECE
from remit._wire.credit import charge
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._wire.conversation import Piece

# In front of each piece in the data of `read`: how it stands in a DATA frame, and its size.
SIZE = struct.Struct(">I")
_MOST_PIECES = 256
# Seconds that one turn may take where there is much to read and little to find.
_TURN = 0.1
# Readers whose files stay open from one turn to the next.
_MOST_OPEN = 32

# reader: its cursor, and the directory's descriptor
_open: OrderedDict[int, tuple[Cursor, int]] = OrderedDict()


def look(path: bytes, job_id: str, inotify_fd: int, first: bool) -> dict[str, Any]:
    """``{view, runs_on, watch}``: the job map, and whether the supervisor still looks after what a
    finished job left behind.

    ``first``: a watch on the directory is added, ``process`` is what process.json says, and of a
    job with a lease ``fd`` holds that. Raises Refused.
    """
    jobs_fd = _open_jobs(path)
    try:
        view = views.look(jobs_fd, job_id)
        answer: dict[str, Any] = {"watch": None}
        dir_fd = _open_trusted(jobs_fd, job_id)
    except FileNotFoundError:
        raise lookup.gone_or_unknown(path, job_id) from None
    finally:
        os.close(jobs_fd)
    if dir_fd is None:
        return dict(answer, view=view, runs_on=False)
    try:
        if first:
            answer["watch"] = inotify.add(inotify_fd, dir_fd, inotify.MOVED_IN)
            # Once more: what happens from here on is told.
            view = views.job_map(dir_fd, job_id)
            answer["process"] = views.process_of(dir_fd)
            held = lease.hold(dir_fd) if view["lifetime"] == "lease" else None
            if held is not None:
                answer["fd"] = held
        return dict(answer, view=view, runs_on=_is_over(view) and _runs_on(dir_fd, view))
    finally:
        os.close(dir_fd)


def _open_jobs(path: bytes) -> int:
    """Raises Refused: a state directory that is away says nothing of its jobs."""
    try:
        return statedir.State(path).open_jobs()
    except FileNotFoundError:
        raise statedir.refused(
            "there is no %s" % os.fsdecode(os.path.join(path, b"jobs"))
        ) from None


def _open_trusted(jobs_fd: int, job_id: str) -> int | None:
    try:
        return statedir.open_directory(job_id.encode(), jobs_fd, job_id.encode())
    except FileNotFoundError:
        raise
    except (Refused, OSError):
        return None


def _runs_on(dir_fd: int, view: dict[str, Any]) -> bool:
    try:
        return view["state"] != states.LOST and liveness.alive(dir_fd)
    except OSError:
        return False


def read(
    path: bytes,
    job_id: str,
    reader: int,
    place: list[Any],
    most: int,
    token: str | None,
    follow: bool,
    inotify_fd: int | None,
) -> dict[str, Any]:
    """The next pieces of output: ``{data, place, freed, more, over, view, superseded, watches}``.

    ``place`` is a position, and the line of the index that comes next, None where that is not known
    yet. At most ``most`` bytes. ``inotify_fd`` is what is to watch the job from now on; None: it
    does. ``more``: there is more to read now; ``over``: nothing more will be written; ``view``: the
    job map, where the reading ends, of a finished job where it is over. Raises Refused, with
    ``passing`` where the same may be answered a moment later.
    """
    answer: dict[str, Any] = {"superseded": False, "watches": [], "view": None}
    try:
        cursor, dir_fd = _cursor(path, job_id, reader, place)
        if token is not None and not _is_ours(dir_fd, token):
            view = views.job_map(dir_fd, job_id)
            forget(path, job_id, reader)
            return dict(answer, superseded=True, view=view)
        if inotify_fd is not None:
            added = [
                inotify.add(inotify_fd, cursor.index_fd, inotify.MODIFIED),
                inotify.add(inotify_fd, dir_fd, inotify.MOVED_IN),
            ]
            answer["watches"] = [number for number in added if number is not None]
        pieces, more, last = _pieces(cursor, dir_fd, job_id, most)
        over = last is not None and _is_over(last)
        if not more and (over or not follow):
            answer["view"] = last
        answer.update(data=pieces, more=more, over=over, freed=cursor.freed)
        return dict(answer, place=[cursor.position, cursor.line])
    except (OSError, files.Unreadable) as exc:
        forget(path, job_id, reader)
        if isinstance(exc, FileNotFoundError):
            raise lookup.gone_or_unknown(path, job_id) from exc
        words = "the output of job %s cannot be read: %s" % (job_id, exc)
        raise Refused("state", words, passing=files.passes(exc)) from exc


def _pieces(
    cursor: Cursor, dir_fd: int, job_id: str, most: int
) -> tuple[list[bytes], bool, dict[str, Any] | None]:
    """The pieces, packed; whether there are more; the job map once the index was at its end: where
    that is of a finished job, nothing more will be written."""
    until = time.monotonic() + _TURN
    packed: list[bytes] = []
    view: dict[str, Any] | None = None
    count = 0
    while True:
        if count == _MOST_PIECES or time.monotonic() > until or (most <= 0 and cursor.has_more()):
            return packed, True, view
        piece = cursor.next(most, until) if most > 0 else None
        if piece is None and most > 0 and cursor.behind:
            return packed, True, view
        if piece is None and view is None:
            # Taken once: what it says now it may not be able to say a moment later.
            view = views.job_map(dir_fd, job_id)
            if not _is_over(view):
                return packed, False, view
            continue  # what was written between the look at the index and the outcome
        if piece is None:
            piece = cursor.rest(most, time.time()) if most > 0 else None
        if piece is None:
            return packed, False, view
        count += 1
        most -= charge(len(piece.data))
        packed += _packed(piece)


def _packed(piece: Piece) -> list[bytes]:
    place = PIECE.pack(piece.stream, piece.seq, piece.offset, piece.time)
    return [place, SIZE.pack(len(piece.data)), piece.data]


def _is_over(view: dict[str, Any]) -> bool:
    return view["state"] in states.FINISHED


def _cursor(path: bytes, job_id: str, reader: int, place: list[Any]) -> tuple[Cursor, int]:
    """The reader's own, as it was left, else a new one at that place. Raises OSError, Refused and
    Unreadable."""
    position, line = place
    known = _open.pop(reader, None)
    if known is not None:
        cursor, dir_fd = known
        if cursor.position == position:
            _open[reader] = known
            return known
        _close(cursor, dir_fd)
    dir_fd = _open_job(path, job_id)
    try:
        cursor = Cursor(dir_fd, position, line)
    except (OSError, files.Unreadable):
        os.close(dir_fd)
        raise
    _open[reader] = cursor, dir_fd
    while len(_open) > _MOST_OPEN:
        _close(*_open.popitem(last=False)[1])
    return cursor, dir_fd


def _close(cursor: Cursor, dir_fd: int) -> None:
    cursor.close()
    os.close(dir_fd)


def forget(path: bytes, job_id: str, reader: int) -> dict[str, Any]:
    """Nobody reads on there."""
    known = _open.pop(reader, None)
    if known is not None:
        _close(*known)
    return {}


def mark(path: bytes, job_id: str, reader: int, token: str, used: dict[str, int]) -> dict[str, Any]:
    """Writes down what is used up: ``{written, ours, view}``. Not written: somebody else is at the
    marks just now, or they cannot be had for a moment. Raises Refused.

    It is not waited for the disk: where the machine dies, a record may come twice.
    """
    known = _open.get(reader)
    ours = True
    later = {"written": False, "ours": ours, "view": None}
    try:
        dir_fd = _open_job(path, job_id) if known is None else known[1]
    except OSError as exc:
        if files.passes(exc):
            return later
        raise
    try:
        try:
            if not files.claim(dir_fd):
                return later
        except OSError:
            pass  # no such locks here: the last writer wins
        try:
            ours = _is_ours(dir_fd, token)
            if ours:
                files.write_marks(dir_fd, files.Marks(used, token))
        except (OSError, files.Unavailable) as exc:
            if files.passes(exc):
                return later
            # A full disk, or the job was removed: records come twice then, or nobody asks.
        finally:
            files.unclaim(dir_fd)
        return {"written": True, "ours": ours, "view": views.job_map(dir_fd, job_id)}
    finally:
        if known is None:
            os.close(dir_fd)


def _open_job(path: bytes, job_id: str) -> int:
    """Raises Refused, and OSError."""
    jobs_fd = _open_jobs(path)
    try:
        return statedir.open_directory(job_id.encode(), jobs_fd, job_id.encode())
    except FileNotFoundError:
        raise lookup.gone_or_unknown(path, job_id) from None
    except Refused as exc:
        # Not as of a state directory that is away: it does not come back by itself.
        raise Refused("state", exc.message) from exc
    finally:
        os.close(jobs_fd)


def _is_ours(dir_fd: int, token: str) -> bool:
    """Whether no other consuming reader took over; marks that are gone are nobody's. Raises
    Unavailable."""
    reader = files.read_marks(dir_fd).reader
    return reader is None or reader == token


TURNS: dict[str, Callable[..., dict[str, Any]]] = {
    "look": look,
    "read": read,
    "forget": forget,
    "mark": mark,
}
