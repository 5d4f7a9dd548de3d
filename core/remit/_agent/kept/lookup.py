"""Finding kept jobs, and reading them: each function blocks, and runs in a helper process.

Nothing of the agent is used here but the path of the state directory. Standard library only,
Python 3.6.
"""

from __future__ import annotations

import os
import stat
import time
from collections import namedtuple
from contextlib import contextmanager
from typing import TYPE_CHECKING

from remit._agent.base import scan
from remit._jobdir import files, liveness, proc, removal, statedir, views
from remit._jobdir.statedir import State
from remit._wire import states
from remit._wire.msgpack import pack
from remit._wire.names import is_job_id
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

_CLAIM_PATIENCE = 10.0
_COPY_TRIES = 10
_DAY = 86400.0
_EXPIRES_AFTER = _DAY
_FORCE = "it can be removed with force"
# A page of job maps is one frame of 1 MiB at most.
_PAGE_SIZE = 700_000
_MOST_FOUND = 100
_SHORTEST = 4
_NOTHING = pack(None)
_MAX_FOUND_COMMAND = 1000

# One job's directory, open: both descriptors, and what is in it
Opened = namedtuple("Opened", "jobs_fd dir_fd view")


@contextmanager
def opened(path: bytes, job_id: str) -> Iterator[Opened]:
    """The job's directory. Raises Refused where there is none, or none that can be trusted."""
    try:
        jobs_fd = State(path).open_jobs()
    except FileNotFoundError:
        raise not_found(job_id) from None
    try:
        dir_fd = open_job(jobs_fd, job_id)
        if dir_fd is None:
            raise not_found(job_id)
        try:
            yield Opened(jobs_fd, dir_fd, views.job_map(dir_fd, job_id))
        finally:
            os.close(dir_fd)
    finally:
        os.close(jobs_fd)


def not_found(job_id: str) -> Refused:
    return Refused("not-found", "no job %s is kept here" % job_id)


def gone_or_unknown(path: bytes, job_id: str) -> Refused:
    """The same, saying whether its removal is known here, or nothing of it is."""
    refused = not_found(job_id)
    try:
        gone_fd = State(path).open_gone()
    except (OSError, Refused):
        return refused
    try:
        refused.facts["gone"] = files.is_sealed(gone_fd, job_id)
    except OSError:
        pass
    finally:
        os.close(gone_fd)
    return refused


def open_job(jobs_fd: int, job_id: str) -> int | None:
    """A descriptor of the job's directory, or None where there is none.

    Raises Refused where that is no directory which can be trusted.
    """
    try:
        return statedir.open_directory(job_id.encode(), jobs_fd, job_id.encode())
    except FileNotFoundError:
        return None
    except (Refused, OSError) as exc:
        words = exc.message if isinstance(exc, Refused) else "%s: %s" % (job_id, exc.strerror)
        raise Refused(
            "state", "the directory of the job cannot be used: %s" % words, hint=_FORCE
        ) from exc


# -- lists


def jobs(path: bytes, after: str | None, limit: int, own: dict[str, Any] | None = None) -> bytes:
    """The packed answer ``{jobs, next}``: packed here, so that the agent's loop need not.

    ``own``: the session, as job.json has it, within which this is asked: jobs that are bound to
    others are left out.
    """
    jobs_fd, ids = _ids(path, after or "")
    page: list[bytes] = []
    size = 0
    following = None
    for job_id, told in scan.each(lambda each: pack(_listed(path, jobs_fd, each, own)), ids):
        packed = pack(views.unknown(job_id)) if told is scan.Hanging else told
        if packed == _NOTHING:
            continue
        page.append(packed)
        size += len(packed)
        if len(page) >= limit or size > _PAGE_SIZE:
            following = job_id if job_id != ids[-1] else None
            break
    # An array of 32-bit length, then its items as they were packed.
    array = b"\xdd" + len(page).to_bytes(4, "big") + b"".join(page)
    return b"\x82" + pack("jobs") + array + pack("next") + pack(following)


def find(path: bytes, name: str, own: dict[str, Any] | None = None) -> dict[str, Any]:
    """``{jobs}``: those whose id is ``name``, else whose name it is, else whose id begins with it.
    Where there are none, ``gone``: whether it is an id whose removal is known here. ``own`` as for
    `jobs`."""
    jobs_fd, ids = _ids(path)
    if is_job_id(name) and name in ids:
        found = [name]
    else:
        names = scan.each(lambda each: _name_of(jobs_fd, each), ids)
        found = [job_id for job_id, told in names if told == name]
        if not found and len(name) >= _SHORTEST:
            found = [job_id for job_id in ids if job_id.startswith(name)]
    shown = []
    for job_id, view in scan.each(
        lambda each: _listed(path, jobs_fd, each, own), found[:_MOST_FOUND]
    ):
        if view is scan.Hanging:
            shown.append(views.unknown(job_id))
        elif view is not None:
            shown.append(view)
    gone = not shown and is_job_id(name) and bool(gone_or_unknown(path, name).facts.get("gone"))
    return {"jobs": _fitting_page(shown), "gone": gone}


def check_own(path: bytes, job_id: str, own: dict[str, Any]) -> None:
    """Raises Refused where the job is bound to another session."""
    jobs_fd, _ = _ids(path)
    if jobs_fd >= 0 and _is_anothers(jobs_fd, job_id, own):
        raise not_found(job_id)


def _is_anothers(jobs_fd: int, job_id: str, own: dict[str, Any] | None) -> bool:
    """Whether the job is bound to a session, and that is not ``own``."""
    if own is None:
        return False
    job = _job_json(jobs_fd, job_id)
    return job.get("lifetime") == "session" and job.get("session") != own


def _fitting_page(shown: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as fit into one answer. Who found several by one name is told their ids: the whole
    command of each is for who asks for it."""
    page: list[dict[str, Any]] = []
    size = 0
    for view in shown:
        if len(shown) > 1:
            views.shorten(view, _MAX_FOUND_COMMAND)
        size += len(pack(view))
        if page and size > _PAGE_SIZE:
            break
        page.append(view)
    return page


def _ids(path: bytes, after: str = "") -> tuple[int, list[str]]:
    try:
        jobs_fd = State(path).open_jobs()
    except FileNotFoundError:
        return -1, []
    names = [name for name in os.listdir(jobs_fd) if name > after and is_job_id(name)]
    return jobs_fd, sorted(names)


def _listed(
    path: bytes, jobs_fd: int, job_id: str, own: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """The job map, or None for what is gone, or not there yet."""
    if _is_anothers(jobs_fd, job_id, own):
        return None
    try:
        view = views.look(jobs_fd, job_id)
    except FileNotFoundError:
        return None  # removed as we looked
    if view["lifetime"] == "session" and view["state"] in states.FINISHED:
        return None if _expired(path, jobs_fd, job_id) else view
    return view


def _name_of(jobs_fd: int, job_id: str) -> object:
    name = _job_json(jobs_fd, job_id).get("name")
    return name if isinstance(name, str) else None


def _job_json(jobs_fd: int, job_id: str) -> dict[str, Any]:
    """What job.json says; nothing where it cannot be read."""
    try:
        dir_fd = open_job(jobs_fd, job_id)
    except (Refused, OSError):
        return {}
    if dir_fd is None:
        return {}
    try:
        return files.read_json(dir_fd, files.JOB)
    except (FileNotFoundError, files.Unreadable):
        return {}
    finally:
        os.close(dir_fd)


def _expired(path: bytes, jobs_fd: int, job_id: str) -> bool:
    """Looks after what a broken session left: a day after somebody first saw it, it goes."""
    try:
        dir_fd = open_job(jobs_fd, job_id)
    except Refused:
        return False
    if dir_fd is None:
        return True
    try:
        job = files.read_json(dir_fd, files.JOB)
        if "session" not in job or session_lives(job):
            return False  # without one it was collected here, from elsewhere
        try:
            expires = float(files.read_json(dir_fd, files.EXPIRES)["time"])
        except (
            FileNotFoundError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            files.Unreadable,
        ):
            files.write_json(dir_fd, files.EXPIRES, {"time": time.time() + _EXPIRES_AFTER})
            return False
        if time.time() < expires:
            return False
        removal.remove(jobs_fd, State(path).open_gone(create=True), job_id, dir_fd)
        return True
    except (FileNotFoundError, files.Unreadable, OSError):
        return False
    finally:
        os.close(dir_fd)


def session_lives(job: dict[str, Any]) -> bool:
    """Whether the agent that the job is bound to still runs, or may do so out of our sight."""
    session = job.get("session")
    if not isinstance(session, dict):
        return False
    if liveness.reachable(session):
        pid = session.get("pid")
        return proc.lives(pid, session.get("start_time"))
    return not liveness.same_host(session) or liveness.same_boot(session)


def agent_identity(pid: int) -> dict[str, Any]:
    """How job.json tells which agent's session a job is bound to."""
    return dict(liveness.here(), pid=pid, start_time=proc.start_time(pid))


# -- results


def begin_reading(
    path: bytes, job_id: str, position: dict[str, int] | None, reader: str | None
) -> dict[str, Any]:
    """Where a reader begins; a consuming one (``reader``) takes over from whoever was it."""
    with opened(path, job_id) as job:
        unreadable = job.view["state"] == states.LOST and job.view["outcome"] is None
        if unreadable or files.higher_format(job.dir_fd):
            raise Refused("state", "job %s: %s" % (job_id, job.view["problem"]))
        marks = files.read_marks(job.dir_fd)
        if reader is not None:
            _claim_marks(job.dir_fd)
            marks = files.read_marks(job.dir_fd)
            try:
                files.write_marks(job.dir_fd, marks._replace(reader=reader))
            except OSError as exc:
                raise Refused(
                    "os",
                    "what is consumed of job %s cannot be recorded: %s" % (job_id, exc.strerror),
                    hint="receive with keep, or remove a job there",
                    errno=exc.errno,
                ) from exc
        used = marks.position
        return {"position": used if position is None else position, "used": used}


def _claim_marks(dir_fd: int) -> None:
    try:
        if not files.await_claim(dir_fd, _CLAIM_PATIENCE):
            raise Refused("state", "the marks of this job are locked by another process")
    except OSError:
        pass  # no such locks here: the last writer wins


def save(path: bytes, job_id: str, to: bytes, cwd: bytes | None, stream: str) -> dict[str, Any]:
    """Copies what there is of the stream to a file on this computer: ``{bytes, path}``."""
    with opened(path, job_id) as job:
        target = os.path.realpath(os.path.join(cwd or statedir.home(), to))
        if os.path.exists(target) and not os.path.isfile(target):
            kind = "a directory" if os.path.isdir(target) else "not a regular file"
            raise Refused("os", "%s is %s" % (os.fsdecode(target), kind), errno=None)
        temporary = b"%s.%s.part" % (target, os.urandom(4).hex().encode())
        try:
            source = files.open_input(job.dir_fd, stream.encode())
        except FileNotFoundError:
            raise Refused("state", "job %s has no %s" % (job_id, stream)) from None
        try:
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            try:
                size = _copy_kept(job.dir_fd, stream, source, fd)
                _put_in_place(fd, temporary, target)
            except BaseException:
                os.unlink(temporary)
                raise
            finally:
                os.close(fd)
        finally:
            os.close(source)
        return {"bytes": size, "path": target}


def _put_in_place(fd: int, temporary: bytes, target: bytes) -> None:
    """With the mode and the owner of what was there; durable before it is seen."""
    try:
        old = os.stat(target)
    except FileNotFoundError:
        pass
    else:
        try:
            os.fchown(fd, old.st_uid, old.st_gid)
        except OSError:
            pass  # another account's file, in a directory of ours
        os.fchmod(fd, stat.S_IMODE(old.st_mode))
    os.fsync(fd)
    os.rename(temporary, target)
    directory = os.open(os.path.dirname(target), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    except OSError:
        pass  # not every file system has this
    finally:
        os.close(directory)


def _copy_kept(dir_fd: int, stream: str, source: int, target: int) -> int:
    """All of the stream, or what is kept of it."""
    for _ in range(_COPY_TRIES):
        start = getattr(files.read_freed(dir_fd), stream)
        os.lseek(source, start, os.SEEK_SET)
        size = _copy(source, target)
        if getattr(files.read_freed(dir_fd), stream) == start:
            return size
        # Some of it was freed meanwhile, and may have been copied as zeros.
        os.ftruncate(target, 0)
        os.lseek(target, 0, os.SEEK_SET)
    raise Refused("state", "the oldest output is freed faster than it can be copied")


def _copy(source: int, target: int) -> int:
    size = 0
    while True:
        piece = os.read(source, 1 << 20)
        if not piece:
            return size
        files.write_all(target, piece)
        size += len(piece)
