"""What a kept job's directory says about it: the job map of docs/wire.md.

States that nobody could write down (LOST, DISCONNECTED, SUSPENDED, STOPPING) are worked out here,
each time anew. A directory that makes no sense gives a map with its ``problem``, never an error.
Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit import _jobstate
from remit.agent import jobdir, json, liveness, statedir
from remit.agent.helpers import Refused

if TYPE_CHECKING:
    from typing import Any

# A page of jobs has to fit into a frame; more of a command line is for job.json to tell.
_MAX_COMMAND = 1 << 16
_MAX_NAME = 1000


def look(jobs_fd: int, job_id: str) -> dict[str, Any]:
    """The job map. Raises FileNotFoundError where there is no directory of that id."""
    try:
        dir_fd = statedir.open_directory(job_id.encode(), jobs_fd, job_id.encode())
    except FileNotFoundError:
        raise
    except Refused as exc:
        return _unreadable(job_id, None, exc.message)
    except OSError as exc:
        return _unreadable(job_id, None, "its directory cannot be opened: %s" % exc.strerror)
    try:
        return look_in(dir_fd, job_id)
    finally:
        os.close(dir_fd)


def look_in(dir_fd: int, job_id: str) -> dict[str, Any]:
    """The job map of the directory that ``dir_fd`` is open on."""
    try:
        job = jobdir.read_json(dir_fd, jobdir.JOB)
        version = job.get("format")
        if version != jobdir.FORMAT:
            raise jobdir.Unreadable("job.json is of format %r, not %d" % (version, jobdir.FORMAT))
        view = _facts(job, job_id)
        state = _state(dir_fd)
    except FileNotFoundError:
        view = _unreadable(job_id, dir_fd, "there is no job.json: its start was cut short")
        if not _nobody_starts(dir_fd):
            view.update(_going_on({}, _jobstate.PENDING, None), sizes=sizes(dir_fd), has_more=True)
        return view
    except (jobdir.Unreadable, json.JSONError) as exc:
        return _unreadable(job_id, dir_fd, str(exc))
    view.update(state)
    marks = jobdir.read_marks(dir_fd)
    view["used"] = marks.position
    if view["sizes"] is None:
        view["sizes"] = sizes(dir_fd)
    finished = view["state"] in _jobstate.FINISHED
    view["has_more"] = not finished or any(
        view["sizes"][stream] > view["used"][stream] for stream in jobdir.STREAMS
    )
    return view


def sizes(dir_fd: int) -> dict[str, int]:
    """How many bytes there are of each stream now."""
    return {stream: _size(dir_fd, stream) for stream in jobdir.STREAMS}


def _size(dir_fd: int, stream: str) -> int:
    try:
        return os.stat(stream, dir_fd=dir_fd, follow_symlinks=False).st_size
    except OSError:
        return 0


def has_outcome(dir_fd: int) -> bool:
    try:
        os.stat(jobdir.OUTCOME, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def read_outcome(dir_fd: int) -> dict[str, Any] | None:
    try:
        return jobdir.read_json(dir_fd, jobdir.OUTCOME)
    except FileNotFoundError:
        return None


def read_process(dir_fd: int) -> dict[str, Any] | None:
    try:
        return jobdir.read_json(dir_fd, jobdir.PROCESS)
    except FileNotFoundError:
        return None


def _facts(job: dict[str, Any], job_id: str) -> dict[str, Any]:
    """What was known before the job ran. Raises JSONError for a command that is none."""
    cwd = job.get("cwd")
    return {
        "id": job_id,
        "name": _text(job.get("name")),
        "group": _text(job.get("group")),
        "placement": _text(job.get("placement")) or "keep",
        "lifetime": _text(job.get("lifetime")) or "detached",
        "location": _text(job.get("location")),
        "command": _command(job.get("command")),
        "cwd": None if cwd is None else json.to_bytes(cwd),
        "created": _time(job.get("created")),
    }


def _command(value: object) -> dict[str, Any]:
    if isinstance(value, dict) and isinstance(value.get("function"), str):
        return {"function": value["function"][:_MAX_NAME]}
    if isinstance(value, dict) and "line" in value:
        return {"line": json.to_bytes(value["line"])[:_MAX_COMMAND]}
    words = value.get("argv") if isinstance(value, dict) else None
    if not isinstance(words, list) or not words:
        raise json.JSONError("job.json names no command")
    argv = []
    left = _MAX_COMMAND
    for word in words:
        argv.append(json.to_bytes(word)[:left])
        left -= len(argv[-1])
        if not left:
            break
    return {"argv": argv}


def _state(dir_fd: int) -> dict[str, Any]:
    outcome = read_outcome(dir_fd)
    if outcome is not None:
        return _after_the_end(outcome)
    process = read_process(dir_fd)
    if process is None:
        return _before_the_start(dir_fd)
    try:
        alive = liveness.alive(dir_fd)
    except OSError as exc:
        words = "its lock cannot be asked (%s), and its supervisor on %s cannot be seen from here"
        problem = words % (exc.strerror, _text(process.get("hostname")))
        return _going_on(process, _jobstate.DISCONNECTED, problem)
    if alive:
        return _going_on(process, _running(dir_fd, process), None)
    # It may have ended between our two looks.
    outcome = read_outcome(dir_fd)
    if outcome is not None:
        return _after_the_end(outcome)
    if liveness.same_boot(process):
        return _lost("supervisor-lost", process)
    if liveness.same_host(process):
        return _lost("host-restarted", process)
    problem = "it was started on %s, which cannot be asked from here" % _text(
        process.get("hostname")
    )
    return _going_on(process, _jobstate.DISCONNECTED, problem)


def _nobody_starts(dir_fd: int) -> bool:
    """Whether nobody is about to start the job. Where that cannot be told, somebody may be."""
    try:
        nobody = jobdir.claim(dir_fd)
    except OSError:
        return False
    if nobody:
        jobdir.unclaim(dir_fd)
    return nobody


def _before_the_start(dir_fd: int) -> dict[str, Any]:
    if not _nobody_starts(dir_fd):
        return _going_on({}, _jobstate.PENDING, None)
    # The claimant may have come this far while we looked.
    if read_process(dir_fd) is not None or read_outcome(dir_fd) is not None:
        return _state(dir_fd)
    return dict(_lost("supervisor-lost", {}), problem="its start was cut short; it never ran")


def _running(dir_fd: int, process: dict[str, Any]) -> str:
    if _asked_to_stop(dir_fd):
        return _jobstate.move(_jobstate.RUNNING, _jobstate.ASKED_TO_STOP)
    if liveness.suspended(process):
        return _jobstate.move(_jobstate.RUNNING, _jobstate.PAUSED)
    return _jobstate.RUNNING


def _asked_to_stop(dir_fd: int) -> bool:
    try:
        fd = os.open(jobdir.ASK, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        return any(name.startswith("stop-") for name in os.listdir(fd))
    finally:
        os.close(fd)


def _going_on(process: dict[str, Any], state: str, problem: str | None) -> dict[str, Any]:
    return {
        "state": state,
        "started": _time(process.get("started")),
        "finished": None,
        "outcome": None,
        "sizes": None,
        "problem": problem,
    }


def _after_the_end(outcome: dict[str, Any]) -> dict[str, Any]:
    status = outcome.get("exit_status")
    reason = _text(outcome.get("reason")) or "exited"
    end: dict[str, Any] = {
        "exit_status": status if type(status) is int else None,
        "signal": _text(outcome.get("signal")),
        "reason": reason,
        "error": _text(outcome.get("error")),
        "note": _text(outcome.get("note")),
        "left_behind": _texts(outcome.get("left_behind")),
        "result_at": _place(outcome.get("result_at")),
    }
    final = outcome.get("sizes")
    if not isinstance(final, dict):
        final = {}
    return {
        "state": _jobstate.move(
            _jobstate.RUNNING, _jobstate.ended(end["exit_status"], end["signal"], reason)
        ),
        "started": _time(outcome.get("started")),
        "finished": _time(outcome.get("finished")),
        "outcome": end,
        "sizes": {stream: jobdir.number(final.get(stream)) for stream in jobdir.STREAMS},
        "problem": None,
    }


def _place(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None


def _lost(reason: str, process: dict[str, Any]) -> dict[str, Any]:
    view = _after_the_end({"reason": reason, "started": process.get("started")})
    view["sizes"] = None
    return view


def _unreadable(job_id: str, dir_fd: int | None, problem: str) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": job_id,
        "name": None,
        "group": None,
        "placement": "keep",
        "lifetime": "detached",
        "location": None,
        "command": {"argv": []},
        "cwd": None,
        "created": None if dir_fd is None else os.fstat(dir_fd).st_mtime,
    }
    view.update(_going_on({}, _jobstate.LOST, problem[:500]))
    nothing = dict.fromkeys(jobdir.STREAMS, 0)
    view.update(sizes=nothing, used=nothing, has_more=False)
    return view


def _text(value: object) -> str | None:
    return value[:500] if isinstance(value, str) else None


def _texts(value: object) -> list[str]:
    return (
        [item[:500] for item in value if isinstance(item, str)] if isinstance(value, list) else []
    )


def _time(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and type(value) is not bool else None
