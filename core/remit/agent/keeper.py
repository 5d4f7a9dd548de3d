"""What is done to kept jobs: each function blocks, and runs in a helper process of the agent.

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

from remit import _jobstate
from remit._msgpack import pack
from remit.agent import (
    asks,
    jobdir,
    jobview,
    json,
    lease,
    liveness,
    logind,
    nursery,
    scan,
    statedir,
    supervisor,
    tail,
    tree,
)
from remit.agent.helpers import Refused
from remit.agent.statedir import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

GRACE = 5.0
# How long another start of the same id may take before we take it for stuck.
_CLAIM_PATIENCE = 10.0
# What a supervisor needs beyond the grace: KILL, the drain of pipes and a slow disk.
_STOP_PATIENCE = 20.0
_END_PATIENCE = 3.0
_POLL = 0.01
_COPY_TRIES = 10
_DAY = 86400.0
_GONE_DAYS = 7
_EXPIRES_AFTER = _DAY
_RUNS_ON = "over, but what it left behind runs on"
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
            yield Opened(jobs_fd, dir_fd, jobview.job_map(dir_fd, job_id))
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
        refused.facts["gone"] = jobdir.is_sealed(gone_fd, job_id)
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


# -- start and seal


def start(
    path: bytes,
    job: dict[str, Any],
    env: dict[bytes, bytes],
    function: tuple[list[bytes], bytes] | None,
    stdin: bytearray,
    nursery_fd: int,
    lifeline: int | None,
    manner: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The job map, once the job runs or its end is recorded. ``job`` is what job.json says;
    ``function`` the argv of the interpreter of a function, and its script; ``manner`` as in
    `remit.agent.manner`.

    Its supervisor comes from the nursery, and has the job stopped at the lifeline's end. A job that
    was started before under this id is not run again. Raises Refused.
    """
    state = State(path)
    jobs_fd = state.open_jobs(create=True)
    gone_fd = state.open_gone(create=True)
    dir_fd, made = _claim(jobs_fd, gone_fd, job["id"])
    if _was_run(dir_fd):
        jobdir.unclaim(dir_fd)
        return _answer_again(jobview.job_map(dir_fd, job["id"]))
    try:
        jobdir.prepare(dir_fd, jobdir.OUTPUTS if function is None else jobdir.STREAMS)
        work = _work(job, env, function, manner)
        if work.lease is not None:
            lease.prepare(dir_fd)
        if work.truncate:
            tail.check(dir_fd)
        jobdir.write_json(dir_fd, jobdir.JOB, job)
        os.fsync(jobs_fd)
        nursery.order(nursery_fd, work, stdin, dir_fd, lifeline)
    except (OSError, Refused) as exc:
        if _was_run(dir_fd):
            # The supervisor was killed a moment too late: the first process may well run.
            return _answer_again(jobview.job_map(dir_fd, job["id"]))
        if made:
            jobdir.discard(jobs_fd, job["id"], dir_fd)
        if isinstance(exc, Refused):
            raise
        raise statedir.refused(
            "the job cannot be kept in %s: %s" % (os.fsdecode(path), exc.strerror)
        ) from exc
    view = jobview.job_map(dir_fd, job["id"])
    if job["lifetime"] != "session" and view["state"] not in _jobstate.FINISHED:
        view["warning"] = logind.warning(_process(dir_fd)["supervisor"]["pid"])
    return view


def _work(
    job: dict[str, Any],
    env: dict[bytes, bytes],
    function: tuple[list[bytes], bytes] | None,
    manner: dict[str, Any] | None,
) -> supervisor.Work:
    command = job["command"]
    if function is not None:
        words: dict[str, Any] = {"argv": function[0]}
    elif "line" in command:
        words = {"line": json.to_bytes(command["line"])}
    else:
        words = {"argv": [json.to_bytes(word) for word in command["argv"]]}
    if manner is not None:
        words["manner"] = manner
    cwd = None if job["cwd"] is None else json.to_bytes(job["cwd"])
    return supervisor.Work(
        id=job["id"].encode(),
        timeout=job["limits"].get("timeout"),
        lease=job["limits"].get("lease"),
        max_output=job["limits"].get("max_output"),
        truncate=job["limits"].get("on_max") == "truncate",
        merge=job["merge"],
        clean=job.get("leftovers") == "stop",
        command=pack([words, cwd, env]),
        script=b"" if function is None else function[1],
    )


def _was_run(dir_fd: int) -> bool:
    """Whether the job may have run: nobody runs it without writing one of these first."""
    return _exists(dir_fd, jobdir.PROCESS) or _exists(dir_fd, jobdir.OUTCOME)


def _exists(dir_fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _answer_again(view: dict[str, Any]) -> dict[str, Any]:
    """The answer to a repeated start: the caller has to know that nothing was run for it."""
    if view["state"] == _jobstate.LOST and view["outcome"] is not None:
        view["outcome"]["reason"] = "may-have-run"
    return view


def _claim(jobs_fd: int, gone_fd: int, job_id: str) -> tuple[int, bool]:
    """A descriptor of the job's directory, claimed, and whether we made it. Raises Refused."""
    deadline = time.monotonic() + _CLAIM_PATIENCE
    made = False
    while True:
        if jobdir.is_sealed(gone_fd, job_id):
            if made:
                os.rmdir(job_id.encode(), dir_fd=jobs_fd)
            raise Refused("gone", "job %s was removed or given up; its id is used up" % job_id)
        made = statedir.make_directory(job_id.encode(), jobs_fd) or made
        dir_fd = open_job(jobs_fd, job_id)
        if dir_fd is not None:
            if _try_claim(dir_fd, made) and _is_linked(jobs_fd, job_id, dir_fd):
                # Whoever seals the id does so before asking for the claim.
                if not jobdir.is_sealed(gone_fd, job_id):
                    return dir_fd, made
            elif _was_run(dir_fd):
                return dir_fd, False
            os.close(dir_fd)
        if time.monotonic() > deadline:
            raise Refused("state", "another start of job %s is on its way, and stuck" % job_id)
        time.sleep(_POLL)


def _try_claim(dir_fd: int, made: bool) -> bool:
    try:
        return jobdir.claim(dir_fd)
    except OSError:
        return made  # no such locks here: the directory's maker has the claim


def _is_linked(jobs_fd: int, job_id: str, dir_fd: int) -> bool:
    """Whether the directory still has its name: it may have been removed as we opened it."""
    try:
        named = os.stat(job_id.encode(), dir_fd=jobs_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(dir_fd))


def seal(path: bytes, job_id: str) -> dict[str, Any]:
    """Keeps the id from ever running, unless it did: ``{ran: bool}``. Raises Refused."""
    state = State(path)
    jobs_fd = state.open_jobs(create=True)
    gone_fd = state.open_gone(create=True)
    if jobdir.is_sealed(gone_fd, job_id):
        # Removed after it ran, or sealed before.
        return {"ran": not jobdir.was_unrun(gone_fd, job_id)}
    jobdir.seal(gone_fd, job_id, unrun=True)
    dir_fd = open_job(jobs_fd, job_id)
    if dir_fd is None:
        return {"ran": False}
    deadline = time.monotonic() + _CLAIM_PATIENCE
    while not _try_claim(dir_fd, False) and not _was_run(dir_fd):
        if time.monotonic() > deadline:
            raise Refused("state", "a start of job %s is on its way, and stuck" % job_id)
        time.sleep(_POLL)
    if _was_run(dir_fd):
        jobdir.unlink(gone_fd, job_id.encode())
        return {"ran": True}
    if _is_linked(jobs_fd, job_id, dir_fd):
        jobdir.discard(jobs_fd, job_id, dir_fd)
    return {"ran": False}


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
        packed = pack(jobview.unknown(job_id)) if told is scan.Hanging else told
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
    """Those whose id is ``name``, else whose name it is, else whose id begins with it. ``own`` as
    for `jobs`."""
    jobs_fd, ids = _ids(path)
    if jobdir.is_id(name) and name in ids:
        found = [name]
    else:
        names = scan.each(lambda each: _name_of(jobs_fd, each), ids)
        found = [job_id for job_id, told in names if told == name]
        if not found and len(name) >= _SHORTEST:
            found = [job_id for job_id in ids if job_id.startswith(name)]
    views = []
    for job_id, view in scan.each(
        lambda each: _listed(path, jobs_fd, each, own), found[:_MOST_FOUND]
    ):
        if view is scan.Hanging:
            views.append(jobview.unknown(job_id))
        elif view is not None:
            views.append(view)
    return {"jobs": _fitting_page(views)}


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


def _fitting_page(views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As many as fit into one answer. Who found several by one name is told their ids: the whole
    command of each is for who asks for it."""
    page: list[dict[str, Any]] = []
    size = 0
    for view in views:
        if len(views) > 1:
            jobview.shorten(view, _MAX_FOUND_COMMAND)
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
    names = [name for name in os.listdir(jobs_fd) if name > after and jobdir.is_id(name)]
    return jobs_fd, sorted(names)


def _listed(
    path: bytes, jobs_fd: int, job_id: str, own: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """The job map, or None for what is gone, or not there yet."""
    if _is_anothers(jobs_fd, job_id, own):
        return None
    try:
        view = jobview.look(jobs_fd, job_id)
    except FileNotFoundError:
        return None  # removed as we looked
    if view["lifetime"] == "session" and view["state"] in _jobstate.FINISHED:
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
        return jobdir.read_json(dir_fd, jobdir.JOB)
    except (FileNotFoundError, jobdir.Unreadable):
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
        job = jobdir.read_json(dir_fd, jobdir.JOB)
        if "session" not in job or session_lives(job):
            return False  # without one it was collected here, from elsewhere
        try:
            expires = float(jobdir.read_json(dir_fd, jobdir.EXPIRES)["time"])
        except (
            FileNotFoundError,
            KeyError,
            TypeError,
            ValueError,
            OverflowError,
            jobdir.Unreadable,
        ):
            jobdir.write_json(dir_fd, jobdir.EXPIRES, {"time": time.time() + _EXPIRES_AFTER})
            return False
        if time.time() < expires:
            return False
        jobdir.remove(jobs_fd, State(path).open_gone(create=True), job_id, dir_fd)
        return True
    except (FileNotFoundError, jobdir.Unreadable, OSError):
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
        return tree.lives(pid, session.get("start_time"))
    return not liveness.same_host(session) or liveness.same_boot(session)


def agent_identity(pid: int) -> dict[str, Any]:
    """How job.json tells which agent's session a job is bound to."""
    return dict(liveness.here(), pid=pid, start_time=tree.start_time(pid))


# -- stop, suspend, resume


def stop(path: bytes, job_id: str, grace: float, reason: str = "stopped") -> dict[str, Any]:
    """``{survivors, job}`` once nothing of the job runs any more. Raises Refused."""
    with opened(path, job_id) as job:
        survivors = _stop(job, job_id, grace, reason)
        return {"survivors": survivors, "job": jobview.job_map(job.dir_fd, job_id)}


def _stop(job: Opened, job_id: str, grace: float, reason: str = "stopped") -> list[str]:
    view = _past_pending(job, job_id)
    process = _process(job.dir_fd)
    _check_reach(job, job_id, view, process, "stopped")
    request = {"grace": grace, "reason": reason}
    try:
        answer = asks.ask(job.dir_fd, "stop", request, grace + _STOP_PATIENCE)
        return [str(item) for item in answer.get("survivors", [])]
    except asks.Unanswered as exc:
        if _held(job.dir_fd):
            raise Refused("state", "the supervisor of job %s does not answer" % job_id, str(exc))
    if process and not liveness.reachable(process):
        return []  # nothing of it can be running: LOST by a restart
    if _exists(job.dir_fd, jobdir.OUTCOME):
        # It has ended, and its pid and its session may be anybody's by now.
        return tree.stop(job_id.encode(), [], grace)
    pid, start = process.get("pid"), process.get("start_time")
    roots = [(pid, start)] if type(pid) is int and type(start) is int else []
    return tree.stop(job_id.encode(), roots, grace)


def _check_reach(
    job: Opened, job_id: str, view: dict[str, Any], process: dict[str, Any], what: str
) -> None:
    """Raises Refused where the job is another computer's, or may be."""
    elsewhere = bool(process) and not liveness.same_boot(process)
    disconnected = view["state"] == _jobstate.DISCONNECTED
    try:
        # Where files make no sense, its supervisor may be here all the same.
        held = liveness.held(job.dir_fd)
        out_of_reach = elsewhere and (disconnected or held)
    except OSError:
        out_of_reach = elsewhere or disconnected  # no locks here: nobody knows
    if not out_of_reach:
        return
    words = view["problem"] or "it runs on %s" % process.get("hostname")
    hint = "ask for it there; where that computer is gone for good, delete the directory %s"
    raise Refused(
        "state",
        "job %s cannot be %s from here: %s" % (job_id, what, words),
        hint=hint % os.fsdecode(os.readlink("/proc/self/fd/%d" % job.dir_fd)),
    )


def _past_pending(job: Opened, job_id: str) -> dict[str, Any]:
    """The job map once it is known whether the job runs."""
    view: dict[str, Any] = job.view
    deadline = time.monotonic() + _CLAIM_PATIENCE
    while view["state"] == _jobstate.PENDING and time.monotonic() < deadline:
        time.sleep(_POLL)
        view = jobview.job_map(job.dir_fd, job_id)
    return view


def _process(dir_fd: int) -> dict[str, Any]:
    try:
        return jobview.read_process(dir_fd) or {}
    except jobdir.Unreadable:
        return {}


def _held(dir_fd: int) -> bool:
    try:
        return liveness.alive(dir_fd)
    except OSError:
        return True  # nobody knows


_DONE = {"suspend": "suspended", "resume": "resumed"}


def suspend(path: bytes, job_id: str) -> dict[str, Any]:
    return _ask_running(path, job_id, "suspend")


def resume(path: bytes, job_id: str) -> dict[str, Any]:
    return _ask_running(path, job_id, "resume")


def _ask_running(path: bytes, job_id: str, what: str) -> dict[str, Any]:
    with opened(path, job_id) as job:
        view = _past_pending(job, job_id)
        if view["state"] in _jobstate.FINISHED:
            raise Refused("state", "job %s is %s: cannot %s" % (job_id, view["state"], what))
        _check_reach(job, job_id, view, _process(job.dir_fd), _DONE[what])
        try:
            answer = asks.ask(job.dir_fd, what, {}, GRACE)
        except asks.Unanswered as exc:
            raise Refused("state", "job %s: cannot %s" % (job_id, what), str(exc)) from exc
        if "error" in answer:
            raise Refused("state", "job %s: %s" % (job_id, answer["error"]))
        return jobview.job_map(job.dir_fd, job_id)


# -- removal


def remove(path: bytes, job_id: str, force: bool, leave: bool = False) -> dict[str, Any]:
    """``{}`` once the directory is gone. Raises Refused.

    Force also removes what cannot be used as a job's directory, but for another account's.
    ``leave``: what a job that is over has left behind runs on.
    """
    trusted = True
    if force:
        usable = _make_usable(path, job_id)
        if usable is None:
            return {}
        trusted = usable
    with opened(path, job_id) as job:
        view = job.view
        if jobdir.higher_format(job.dir_fd):
            words = "job %s is left alone: %s" % (job_id, view["problem"])
            raise Refused("state", words, hint="remove it with the remit that made it")
        _check_reach(job, job_id, view, _process(job.dir_fd), "removed")
        runs = view["state"] not in _jobstate.FINISHED
        leave = leave and not runs
        if not runs and not force and not (view["outcome"] or {}).get("left_behind"):
            _wait_for_supervisor(job.dir_fd)
        if (runs or (_held(job.dir_fd) and not leave)) and not force:
            words = view["state"] if runs else view["problem"] or _RUNS_ON
            hint = "stop it first, or remove it with force"
            raise Refused("state", "job %s is %s" % (job_id, words), hint=hint)
        if leave or not force:
            survivors = []
        elif trusted:
            survivors = _stop(job, job_id, GRACE)
        else:
            # What stands in there may be anybody's word: only what bears the job's id is its.
            survivors = tree.stop(job_id.encode(), [], GRACE)
        if survivors:
            words = "job %s is not removed, it cannot be stopped" % job_id
            raise Refused("state", words, ", ".join(survivors))
        if not leave:
            _wait_for_supervisor(job.dir_fd)
        gone_fd = State(path).open_gone(create=True)
        jobdir.remove(job.jobs_fd, gone_fd, job_id, job.dir_fd)
        forget_old_seals(gone_fd)
        return {}


def _wait_for_supervisor(dir_fd: int) -> None:
    """Between the record of the end and the supervisor's own end lies a moment."""
    deadline = time.monotonic() + _END_PATIENCE
    while _held(dir_fd) and time.monotonic() < deadline:
        time.sleep(_POLL)


def _make_usable(path: bytes, job_id: str) -> bool | None:
    """Has our own directory of the job open to us alone; whether nobody else could write there.

    None where it was no directory, but a link or a file; that is gone now. Raises Refused.
    """
    state = State(path)
    try:
        jobs_fd = state.open_jobs()
        status = os.stat(job_id.encode(), dir_fd=jobs_fd, follow_symlinks=False)
    except FileNotFoundError:
        raise not_found(job_id) from None
    if not stat.S_ISDIR(status.st_mode):
        jobdir.seal(state.open_gone(create=True), job_id)
        os.unlink(job_id.encode(), dir_fd=jobs_fd)
        return None
    if status.st_uid != os.geteuid():
        words = "job %s is not removed: its directory belongs to user %d, not to us"
        raise Refused("state", words % (job_id, status.st_uid), hint="that account can remove it")
    if status.st_mode & 0o777 != 0o700:
        # Nobody else can write to jobs/, so this is still the same directory.
        os.chmod(job_id.encode(), 0o700, dir_fd=jobs_fd)
    return not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def forget_old_seals(gone_fd: int) -> None:
    """Lets go of ids that were sealed so long ago that nobody will start them again."""
    oldest = time.time() - _GONE_DAYS * _DAY
    for name in os.listdir(gone_fd):
        try:
            if os.stat(name, dir_fd=gone_fd, follow_symlinks=False).st_mtime < oldest:
                os.unlink(name, dir_fd=gone_fd)
        except OSError:
            pass  # somebody else was faster, or put a directory there


def take_back(path: bytes, job_id: str) -> dict[str, Any]:
    """Undoes a start that the caller gave up: stopped, removed and sealed."""
    try:
        return remove(path, job_id, True)
    except Refused as exc:
        if exc.code != "not-found":
            raise
        return seal(path, job_id)


def end_session(path: bytes, job_ids: list[str]) -> list[str]:
    """Stops and removes the jobs of a session that ended in order; what survived, described."""
    # One process each: they take their grace side by side.
    children = {}
    for job_id in job_ids:
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            try:
                os.close(reader)
                os.write(writer, _end_one(path, job_id)[:4096].encode("utf-8", "replace"))
            finally:
                os._exit(0)
        os.close(writer)
        children[pid] = reader
    left = []
    for pid, reader in children.items():
        with open(reader, "rb") as file:
            words = file.read().decode("utf-8", "replace")
        os.waitpid(pid, 0)
        left += words.splitlines()
    return left


def _end_one(path: bytes, job_id: str) -> str:
    try:
        with opened(path, job_id) as job:
            ended = job.view["state"] in _jobstate.FINISHED
        # What ended by itself took nothing with it, and its session does not either.
        survivors = [] if ended else stop(path, job_id, GRACE, "session-ended")["survivors"]
        if not survivors:
            remove(path, job_id, True, leave=ended)
        return "\n".join(survivors)
    except Refused as exc:
        return "" if exc.code == "not-found" else exc.message


# -- results


def begin_reading(
    path: bytes, job_id: str, position: dict[str, int] | None, reader: str | None
) -> dict[str, Any]:
    """Where a reader begins; a consuming one (``reader``) takes over from whoever was it."""
    with opened(path, job_id) as job:
        unreadable = job.view["state"] == _jobstate.LOST and job.view["outcome"] is None
        if unreadable or jobdir.higher_format(job.dir_fd):
            raise Refused("state", "job %s: %s" % (job_id, job.view["problem"]))
        marks = jobdir.read_marks(job.dir_fd)
        if reader is not None:
            _claim_marks(job.dir_fd)
            marks = jobdir.read_marks(job.dir_fd)
            try:
                jobdir.write_marks(job.dir_fd, marks._replace(reader=reader))
            except OSError as exc:
                raise Refused(
                    "os",
                    "what is used up of job %s cannot be written down: %s" % (job_id, exc.strerror),
                    hint="receive with keep, or remove a job there",
                    errno=exc.errno,
                ) from exc
        used = marks.position
        return {"position": used if position is None else position, "used": used}


def _claim_marks(dir_fd: int) -> None:
    deadline = time.monotonic() + _CLAIM_PATIENCE
    try:
        while not jobdir.claim(dir_fd):
            if time.monotonic() > deadline:
                raise Refused("state", "the marks of this job are held by somebody else")
            time.sleep(_POLL)
    except OSError:
        pass  # no such locks here: the last writer wins


def save(path: bytes, job_id: str, to: bytes, cwd: bytes | None, stream: str) -> dict[str, Any]:
    """Copies what there is of the stream to a file on this computer: ``{bytes, path}``."""
    with opened(path, job_id) as job:
        target = os.path.realpath(os.path.join(cwd or statedir.home(), to))
        if os.path.exists(target) and not os.path.isfile(target):
            kind = "a directory" if os.path.isdir(target) else "no ordinary file"
            raise Refused("os", "%s is %s" % (os.fsdecode(target), kind), errno=None)
        temporary = b"%s.%s.part" % (target, os.urandom(4).hex().encode())
        try:
            source = jobdir.open_input(job.dir_fd, stream.encode())
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
        start = getattr(jobdir.read_freed(dir_fd), stream)
        os.lseek(source, start, os.SEEK_SET)
        size = _copy(source, target)
        if getattr(jobdir.read_freed(dir_fd), stream) == start:
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
        jobdir.write_all(target, piece)
        size += len(piece)
