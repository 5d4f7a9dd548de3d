"""Stopping, suspending and removing kept jobs: each function blocks, and runs in a helper process.

The supervisor is asked first. One that is stopped is made to go on; where none answers its job is
ended without it. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.kept import starting, unsupervised
from remit._agent.kept.lookup import Opened, gone_or_unknown, not_found, opened
from remit._agent.kept.starting import CLAIM_PATIENCE
from remit._jobdir import files, liveness, mailbox, removal, views
from remit._jobdir.statedir import State
from remit._wire import states
from remit._wire.refusal import Refused
from remit._wire.requests import STOP_GRACE

if TYPE_CHECKING:
    from typing import Any, Callable

# What a supervisor needs beyond the grace: KILL, the drain of pipes and a slow disk.
_STOP_PATIENCE = 20.0
# And where it has already been waited for.
_LAST_PATIENCE = 2.0
_END_PATIENCE = 3.0
_POLL = 0.01
_DAY = 86400.0
_GONE_DAYS = 7
_RUNS_ON = "over, but what it left behind runs on"


# -- stop


def stop(
    path: bytes,
    job_id: str,
    grace: float,
    reason: str = "stopped",
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """``{survivors, job}`` once nothing of the job runs any more. Raises Refused.

    ``known`` is what the session knows of it, for a job whose directory was deleted as it ran:
    ``view``, its last job map, and ``process``, what its process.json said.
    """
    try:
        with opened(path, job_id) as job:
            survivors = _stop(job, job_id, grace, reason)
            return {"survivors": survivors, "job": views.job_map(job.dir_fd, job_id)}
    except Refused as exc:
        if exc.code != "not-found" or known is None:
            raise
    survivors = _stop_known(job_id, known["process"], grace)
    outcome = {"reason": "stopped", "error": "its directory was deleted"}
    view = dict(known["view"], state=states.STOPPED, outcome=outcome)
    return {"survivors": survivors, "job": view}


def _stop(job: Opened, job_id: str, grace: float, reason: str = "stopped") -> list[str]:
    view = _past_pending(job, job_id)
    process = views.process_of(job.dir_fd)
    _check_reach(job, job_id, view, process, "stopped")
    request = {"grace": grace, "reason": reason}
    patience = grace + _STOP_PATIENCE
    try:
        answer = mailbox.ask(job.dir_fd, "stop", request, patience, _watch(process))
        return [str(item) for item in answer.get("survivors", [])]
    except mailbox.Unanswered as exc:
        if exc.was_asked:
            patience = _LAST_PATIENCE
        if process and not liveness.reachable(process):
            if not _held(job.dir_fd):
                return []  # nothing of it can be running: LOST by a restart
            raise Refused("state", "the supervisor of job %s does not answer" % job_id, str(exc))
    over = views.has_outcome(job.dir_fd) and not _held(job.dir_fd)
    # A pid of what is over may be somebody else's by now.
    return unsupervised.end(job_id, {} if over else process, grace, patience)


def _stop_known(job_id: str, process: dict[str, Any], grace: float) -> list[str]:
    """Stops a job that has no directory any more."""
    if not unsupervised.runs(process):
        raise not_found(job_id)
    return unsupervised.end(job_id, process, grace, grace + _STOP_PATIENCE)


def _past_pending(job: Opened, job_id: str) -> dict[str, Any]:
    """The job map once it is known whether the job runs."""
    view: dict[str, Any] = job.view
    deadline = time.monotonic() + CLAIM_PATIENCE
    while view["state"] == states.PENDING and time.monotonic() < deadline:
        time.sleep(_POLL)
        view = views.job_map(job.dir_fd, job_id)
    return view


def _check_reach(
    job: Opened, job_id: str, view: dict[str, Any], process: dict[str, Any], what: str
) -> None:
    """Raises Refused where the job is another computer's, or may be."""
    elsewhere = bool(process) and not liveness.same_boot(process)
    disconnected = view["state"] == states.DISCONNECTED
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


def _watch(process: dict[str, Any]) -> Callable[[], bool]:
    return unsupervised.Watch(unsupervised.supervisor_of(process)).look


def _held(dir_fd: int) -> bool:
    try:
        return liveness.alive(dir_fd)
    except OSError:
        return True  # nobody knows


_DONE = {"suspend": "suspended", "resume": "resumed", "signal": "signalled"}


def change(
    path: bytes, job_id: str, what: str, request: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The job map once the supervisor has done ``what`` the verb of that name says."""
    with opened(path, job_id) as job:
        view = _past_pending(job, job_id)
        if view["state"] in states.FINISHED:
            raise Refused("state", "job %s is %s: cannot %s" % (job_id, view["state"], what))
        process = views.process_of(job.dir_fd)
        _check_reach(job, job_id, view, process, _DONE[what])
        words = "job %s: cannot %s" % (job_id, what)
        try:
            watch = _watch(process)
            answer = mailbox.ask(job.dir_fd, what, request or {}, STOP_GRACE, watch)
        except mailbox.Unanswered as exc:
            raise Refused("state", words, str(exc)) from exc
        if "error" in answer:
            told = str(answer["error"])
            if what == "signal" and "code" not in answer:
                raise Refused("state", words + ", an earlier remit started it", told)
            code = "no-signal" if answer.get("code") == "no-signal" else "state"
            raise Refused(code, "job %s: %s" % (job_id, told))
        return views.job_map(job.dir_fd, job_id)


# -- removal


def remove(
    path: bytes,
    job_id: str,
    force: bool,
    leave: bool = False,
    known: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """``{}`` once the directory is gone. Raises Refused.

    Force also removes what cannot be used as a job's directory, but for another account's, and ends
    a job whose directory was deleted: ``known`` as in `stop`. ``leave``: what a job that is over
    has left behind runs on.
    """
    try:
        return _remove(path, job_id, force, leave)
    except Refused as exc:
        if exc.code != "not-found" or known is None or not force:
            raise
    gone_fd = State(path).open_gone(create=True)
    if files.is_sealed(gone_fd, job_id):
        raise not_found(job_id)
    if unsupervised.runs(known["process"]):
        survivors = _stop_known(job_id, known["process"], STOP_GRACE)
        if survivors:
            raise _unstoppable(job_id, survivors)
    files.seal(gone_fd, job_id)
    return {}


def remove_again(path: bytes, job_id: str, *rest: Any) -> dict[str, Any]:
    """As `remove`, which was begun and may have been done before this could be told."""
    try:
        return remove(path, job_id, *rest)
    except Refused as exc:
        if exc.code != "not-found" or not gone_or_unknown(path, job_id).facts.get("gone"):
            raise
        return {}


def _remove(path: bytes, job_id: str, force: bool, leave: bool) -> dict[str, Any]:
    trusted = True
    if force:
        usable = _make_usable(path, job_id)
        if usable is None:
            return {}
        trusted = usable
    with opened(path, job_id) as job:
        view = job.view
        if files.higher_format(job.dir_fd):
            words = "job %s is left alone: %s" % (job_id, view["problem"])
            raise Refused("state", words, hint="remove it with the remit that made it")
        _check_reach(job, job_id, view, views.process_of(job.dir_fd), "removed")
        runs = view["state"] not in states.FINISHED
        # Of a lost one nobody knows that it is over.
        leave = leave and not runs and view["state"] != states.LOST
        if not runs and not force and not (view["outcome"] or {}).get("left_behind"):
            _wait_for_supervisor(job.dir_fd)
        if (runs or (_held(job.dir_fd) and not leave)) and not force:
            words = view["state"] if runs else view["problem"] or _RUNS_ON
            hint = "stop it first, or remove it with force"
            raise Refused("state", "job %s is %s" % (job_id, words), hint=hint)
        if leave or not force:
            survivors = []
        elif trusted:
            survivors = _stop(job, job_id, STOP_GRACE)
        else:
            # What stands in there may be anybody's word: only what bears the job's id is its.
            survivors = process_tree.stop(job_id.encode(), [], STOP_GRACE)
        if survivors:
            raise _unstoppable(job_id, survivors)
        if not leave:
            _wait_for_supervisor(job.dir_fd)
        gone_fd = State(path).open_gone(create=True)
        removal.remove(job.jobs_fd, gone_fd, job_id, job.dir_fd)
        forget_old_seals(gone_fd)
        return {}


def _unstoppable(job_id: str, survivors: list[str]) -> Refused:
    words = "job %s is not removed, it cannot be stopped" % job_id
    return Refused("state", words, ", ".join(survivors))


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
        files.seal(state.open_gone(create=True), job_id)
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
        return starting.seal(path, job_id)


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
            ended = job.view["state"] in states.FINISHED
        # What ended by itself took nothing with it, and its session does not either.
        survivors = [] if ended else stop(path, job_id, STOP_GRACE, "session-ended")["survivors"]
        if not survivors:
            remove(path, job_id, True, leave=ended)
        return "\n".join(survivors)
    except Refused as exc:
        return "" if exc.code == "not-found" else exc.message
