"""Starting kept jobs, once each: each function blocks, and runs in a helper process of the agent.

Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import time
from collections import namedtuple
from typing import TYPE_CHECKING

from remit._agent.base import logind
from remit._agent.kept import forkserver, supervisor, unsupervised
from remit._agent.kept.lookup import open_job
from remit._jobdir import files, json, lease, removal, retention, sole, statedir, views
from remit._jobdir.statedir import State
from remit._wire import states
from remit._wire.msgpack import pack
from remit._wire.refusal import Refused
from remit._wire.requests import STOP_GRACE

if TYPE_CHECKING:
    from typing import Any

# What is to be started: ``asked`` are the fields of the request (docs/wire.md), ``created`` is Unix
# time, ``session`` the identity of the session that the job ends with, if it does, ``function`` the
# argv of the interpreter of a function, and its script.
Order = namedtuple("Order", "asked created session function stdin")

# How long another start of the same id may take before we take it for stuck.
CLAIM_PATIENCE = 10.0
_POLL = 0.01


def start(
    path: bytes, order: Order, source: tuple[int, int], death_pipe: int | None
) -> dict[str, Any]:
    """``{view, process}`` once the job runs or its end is recorded: the job map, and what its
    process.json says.

    Its supervisor comes from the forkserver, whose descriptor and pid are ``source``, and has the
    job stopped at the death pipe's end. A job that was started before under this id is not run
    again. Raises Refused.
    """
    state = State(path)
    jobs_fd = state.open_jobs(create=True)
    gone_fd = state.open_gone(create=True)
    job_id = order.asked["id"]
    dir_fd, made = _claim(jobs_fd, gone_fd, job_id)
    if _was_run(dir_fd):
        files.unclaim(dir_fd)
        return _answer_again(dir_fd, job_id)
    try:
        work = _work(order.asked)
        if order.asked["unique"]:
            with sole.bearer(jobs_fd, order.asked):
                _prepare(dir_fd, order, work)
        else:
            _prepare(dir_fd, order, work)
        os.fsync(jobs_fd)
        forkserver.order(source, work, _given(order), dir_fd, death_pipe)
    except (OSError, Refused) as exc:
        if _was_run(dir_fd):
            # The supervisor was killed a moment too late: the first process may well run.
            if isinstance(exc, forkserver.Unruly):
                unsupervised.end(job_id, views.process_of(dir_fd), STOP_GRACE, 0.0)
            return _answer_again(dir_fd, job_id)
        if made:
            removal.discard(jobs_fd, job_id, dir_fd)
        if isinstance(exc, Refused):
            raise
        raise statedir.refused(
            "the job cannot be kept in %s: %s" % (os.fsdecode(path), exc.strerror)
        ) from exc
    answer = _answer(dir_fd, job_id)
    if order.asked["lifetime"] != "session":
        _warn(answer)
    return answer


def _prepare(dir_fd: int, order: Order, work: supervisor.Work) -> None:
    """All that is to be in the job's directory before it runs. Raises OSError and Refused."""
    files.prepare(dir_fd, files.OUTPUTS if order.function is None else files.STREAMS)
    if work.lease is not None:
        lease.prepare(dir_fd)
    if work.truncate:
        retention.check(dir_fd)
    try:
        files.write_json(dir_fd, files.JOB, _job(order))
    except TypeError as exc:
        raise Refused("bad-request", "the limits cannot be recorded: %s" % exc) from exc


def _job(order: Order) -> dict[str, Any]:
    """What job.json says: neither values of the environment nor stdin."""
    asked, command = order.asked, order.asked["command"]
    if "line" in command:
        command = dict(command, line=json.from_bytes(command["line"]))
    elif "argv" in command:
        command = {"argv": [json.from_bytes(word) for word in command["argv"]]}
    job = {
        "format": files.FORMAT,
        "id": asked["id"],
        "name": asked["name"],
        "group": asked["group"],
        "command": command,
        "cwd": None if asked["cwd"] is None else json.from_bytes(asked["cwd"]),
        "created": order.created,
        "placement": asked["placement"],
        "lifetime": asked["lifetime"],
        "merge": asked["merge"],
        "leftovers": asked["leftovers"],
        "limits": _limits(asked),
    }
    if order.session is not None:
        job["session"] = order.session
    return job


def _limits(asked: dict[str, Any]) -> dict[str, Any]:
    timeout: float | None = asked["timeout"]
    return asked["limits"] if timeout is None else dict(asked["limits"], timeout=timeout)


def _warn(answer: dict[str, Any]) -> None:
    """Where the job may end with a login session, its view says so."""
    owner = unsupervised.supervisor_of(answer["process"])
    if owner and answer["view"]["state"] not in states.FINISHED:
        answer["view"]["warning"] = logind.warning(owner[0])


def finish(path: bytes, job_id: str) -> dict[str, Any]:
    """As `start`, of a job whose start was cut short: what became of it."""
    try:
        jobs_fd = State(path).open_jobs()
        dir_fd = open_job(jobs_fd, job_id)
    except FileNotFoundError:
        dir_fd = None
    if dir_fd is not None:
        _wait_for_start(dir_fd, job_id)
        if _was_run(dir_fd):
            return _answer(dir_fd, job_id)
        if files.is_linked(jobs_fd, job_id, dir_fd):
            removal.discard(jobs_fd, job_id, dir_fd)
    words = "the job was not run: the process that was to start it was killed"
    raise Refused("start-failed", words, hint="try again")


def _wait_for_start(dir_fd: int, job_id: str) -> None:
    """Until the job may have run, or the claim on it is ours. Raises Refused."""
    deadline = time.monotonic() + CLAIM_PATIENCE
    while not _try_claim(dir_fd, False) and not _was_run(dir_fd):
        if time.monotonic() > deadline:
            raise Refused("state", "a start of job %s hangs" % job_id)
        time.sleep(_POLL)


def _work(asked: dict[str, Any]) -> supervisor.Work:
    limits = _limits(asked)
    return supervisor.Work(
        id=asked["id"].encode(),
        timeout=limits.get("timeout"),
        lease=limits.get("lease"),
        max_output=limits.get("max_output"),
        truncate=limits.get("on_max") == "truncate",
        merge=asked["merge"],
        clean=asked["leftovers"] == "stop",
    )


def _given(order: Order) -> supervisor.Given:
    """What the supervisor is told that stands on no disk."""
    asked = order.asked
    words: dict[str, Any] = asked["command"]
    script = b""
    if order.function is not None:
        argv, script = order.function
        words = {"argv": argv}
    if asked["manner"] is not None:
        words = dict(words, manner=asked["manner"])
    return supervisor.Given(pack([words, asked["cwd"], asked["env"]]), script, order.stdin)


def _was_run(dir_fd: int) -> bool:
    """Whether the job may have run: nobody runs it without writing one of these first."""
    return _exists(dir_fd, files.PROCESS) or _exists(dir_fd, files.OUTCOME)


def _exists(dir_fd: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _answer(dir_fd: int, job_id: str) -> dict[str, Any]:
    return {"view": views.job_map(dir_fd, job_id), "process": views.process_of(dir_fd)}


def _answer_again(dir_fd: int, job_id: str) -> dict[str, Any]:
    """The answer to a repeated start: the caller has to know that nothing was run for it."""
    answer = _answer(dir_fd, job_id)
    view = answer["view"]
    if view["state"] == states.LOST and view["outcome"] is not None:
        view["outcome"]["reason"] = "may-have-run"
    return answer


def _claim(jobs_fd: int, gone_fd: int, job_id: str) -> tuple[int, bool]:
    """A descriptor of the job's directory, claimed, and whether we made it. Raises Refused."""
    deadline = time.monotonic() + CLAIM_PATIENCE
    made = False
    while True:
        if files.is_sealed(gone_fd, job_id):
            if made:
                os.rmdir(job_id.encode(), dir_fd=jobs_fd)
            raise Refused(
                "gone", "job %s was removed or given up; its id cannot be used again" % job_id
            )
        made = statedir.make_directory(job_id.encode(), jobs_fd) or made
        dir_fd = open_job(jobs_fd, job_id)
        if dir_fd is not None:
            if _try_claim(dir_fd, made) and files.is_linked(jobs_fd, job_id, dir_fd):
                # Whoever seals the id does so before asking for the claim.
                if not files.is_sealed(gone_fd, job_id):
                    return dir_fd, made
            elif _was_run(dir_fd):
                return dir_fd, False
            os.close(dir_fd)
        if time.monotonic() > deadline:
            raise Refused("state", "another start of job %s hangs" % job_id)
        time.sleep(_POLL)


def _try_claim(dir_fd: int, made: bool) -> bool:
    try:
        return files.claim(dir_fd)
    except OSError:
        return made  # no such locks here: the directory's maker has the claim


def seal(path: bytes, job_id: str) -> dict[str, Any]:
    """Keeps the id from ever running, unless it did: ``{ran: bool}``. Raises Refused."""
    state = State(path)
    jobs_fd = state.open_jobs(create=True)
    gone_fd = state.open_gone(create=True)
    if not files.seal_unrun(gone_fd, job_id):
        return {"ran": True}  # and was removed
    # Also where that is old: who sealed it before may have been killed over the next step.
    dir_fd = open_job(jobs_fd, job_id)
    if dir_fd is None:
        return {"ran": not files.was_unrun(gone_fd, job_id)}
    _wait_for_start(dir_fd, job_id)
    if _was_run(dir_fd):
        _unseal(jobs_fd, gone_fd, job_id, dir_fd)
        return {"ran": True}
    if files.is_linked(jobs_fd, job_id, dir_fd):
        removal.discard(jobs_fd, job_id, dir_fd)
    return {"ran": False}


def _unseal(jobs_fd: int, gone_fd: int, job_id: str, dir_fd: int) -> None:
    """Lets a repeated start of a job that runs find it."""
    try:
        if not files.await_claim(dir_fd, CLAIM_PATIENCE):
            return
    except OSError:
        pass  # no such locks here
    files.unseal(jobs_fd, gone_fd, job_id, dir_fd)
    files.unclaim(dir_fd)
