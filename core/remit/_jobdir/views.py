"""What a kept job's directory says about it: the job map of docs/wire.md.

States that nobody could write down (LOST, DISCONNECTED, SUSPENDED, STOPPING) are worked out here,
each time anew. Whatever the files hold, the map is of bounded size and of the types that the wire
promises, and its ``problem`` says what is wrong. Standard library only, Python 3.6.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from remit._jobdir import files, json, liveness, statedir
from remit._jobdir.fields import MAX_TEXT, Fields, shown
from remit._wire import states
from remit._wire.ended import is_signal_name
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any

# A page of jobs has to fit into a frame; more of a command line is for job.json to tell.
_MAX_COMMAND = 1 << 16
# What the head of a word counts for beside it: an empty one costs something too.
_WORD = 5
_MAX_NAME = 1000
_MAX_PATH = 4096
_MAX_STATUS = 255
_MAX_REQUESTS = 1000
_HAS_PROCESS = (states.RUNNING, states.SUSPENDED, states.STOPPING)
_REASON = re.compile(r"[a-z][a-z0-9-]{0,63}\Z")


def look(jobs_fd: int, job_id: str) -> dict[str, Any]:
    """The job map. Raises FileNotFoundError where there is no directory of that id."""
    name = job_id.encode()
    try:
        dir_fd = statedir.open_directory(name, jobs_fd, name)
    except FileNotFoundError:
        raise
    except Refused as exc:
        return _untrusted(jobs_fd, job_id, exc.message)
    except OSError as exc:
        words = "its directory cannot be opened: %s" % exc.strerror
        return _unreadable({}, job_id, None, files.Unavailable(words))
    try:
        return job_map(dir_fd, job_id)
    finally:
        os.close(dir_fd)


def job_map(dir_fd: int, job_id: str) -> dict[str, Any]:
    """The job map of the directory that ``dir_fd`` is open on. Raises nothing."""
    facts: dict[str, Any] = {}
    try:
        facts = _facts(dir_fd, job_id)
        return _finish(dir_fd, facts)
    except FileNotFoundError:
        view = _unreadable({}, job_id, dir_fd, "there is no job.json: its start was cut short")
        if not _nobody_starts(dir_fd):
            view.update(_going_on({}, states.PENDING, None), sizes=sizes(dir_fd), has_more=True)
        return view
    except Exception as exc:
        # Be it a file that makes no sense, no descriptor left, or one more way that nobody has
        # thought of: it is this job's trouble, and the others are listed all the same.
        return _unreadable(facts, job_id, dir_fd, exc)


def _finish(dir_fd: int, facts: dict[str, Any]) -> dict[str, Any]:
    problem = facts["problem"]
    view = dict(facts, **_state(dir_fd))
    view["problem"] = view["problem"] or problem
    if view["location"] is not None:
        view["pid"] = None  # that of the collector's, here
    view["used"] = _used(dir_fd)
    if view["sizes"] is None:
        view["sizes"] = sizes(dir_fd)
    finished = view["state"] in states.FINISHED
    view["has_more"] = not finished or any(
        view["sizes"][stream] > view["used"][stream] for stream in files.STREAMS
    )
    return view


def _used(dir_fd: int) -> dict[str, int]:
    try:
        position: dict[str, int] = files.read_marks(dir_fd).position
    except files.Unavailable:
        return dict.fromkeys(files.STREAMS, 0)  # how the job stands is known all the same
    return position


def sizes(dir_fd: int) -> dict[str, int]:
    """How many bytes there are of each stream now."""
    return {stream: _size(dir_fd, stream) for stream in files.STREAMS}


def _size(dir_fd: int, stream: str) -> int:
    try:
        return os.stat(stream, dir_fd=dir_fd, follow_symlinks=False).st_size
    except OSError:
        return 0


def has_outcome(dir_fd: int) -> bool:
    try:
        os.stat(files.OUTCOME, dir_fd=dir_fd, follow_symlinks=False)
    except OSError:
        return False
    return True


def read_outcome(dir_fd: int) -> dict[str, Any] | None:
    try:
        return files.read_json(dir_fd, files.OUTCOME)
    except FileNotFoundError:
        return None


def read_process(dir_fd: int) -> dict[str, Any] | None:
    try:
        return files.read_json(dir_fd, files.PROCESS)
    except FileNotFoundError:
        return None


def process_of(dir_fd: int) -> dict[str, Any]:
    """The same, empty where there is none that can be read."""
    try:
        return read_process(dir_fd) or {}
    except files.Unreadable:
        return {}


def _facts(dir_fd: int, job_id: str) -> dict[str, Any]:
    """What was known before the job ran. Raises FileNotFoundError and Unreadable."""
    job = files.read_json(dir_fd, files.JOB)
    version = job.get("format")
    if version != files.FORMAT or type(version) is not int:
        words = "job.json is of format %s, not %d" % (shown(version), files.FORMAT)
        # A later remit may know very well how this job stands.
        later = files.is_later(version)
        raise files.Unavailable(words) if later else files.Unreadable(words)
    fields = Fields(files.JOB, job)
    cwd = job.get("cwd")
    try:
        command = _command(job.get("command"))
        directory = None if cwd is None else json.to_bytes(cwd)[:_MAX_PATH]
    except json.JSONError as exc:
        raise files.Unreadable("job.json: %s" % exc) from exc
    location = fields.text("location")
    # The directory is a kept job's, for every reader since the first release. Where it came from
    # elsewhere it was collected: a return job's, that ends with its collector.
    collected = location is not None
    facts = {
        "id": job_id,
        "name": fields.text("name"),
        "group": fields.text("group"),
        "placement": "return" if collected else fields.text("placement") or "keep",
        "lifetime": "session" if collected else fields.text("lifetime") or "detached",
        "location": location,
        "command": command,
        "cwd": directory,
        "created": fields.time("created"),
    }
    return dict(facts, problem=fields.problem)


def _command(value: object) -> dict[str, Any]:
    """Raises JSONError for a command that is none."""
    if isinstance(value, dict) and isinstance(value.get("function"), str):
        return {"function": value["function"][:_MAX_NAME]}
    if isinstance(value, dict) and "line" in value:
        return {"line": json.to_bytes(value["line"])[:_MAX_COMMAND]}
    words = value.get("argv") if isinstance(value, dict) else None
    if not isinstance(words, list) or not words:
        raise json.JSONError("it names no command")
    argv = []
    left = _MAX_COMMAND
    for word in words:
        argv.append(json.to_bytes(word)[:left])
        left -= len(argv[-1]) + _WORD
        if left <= 0:
            break
    return {"argv": argv}


def shorten(view: dict[str, Any], most: int) -> None:
    """Cuts the command of a job map to ``most`` bytes."""
    command = view["command"]
    if "line" in command:
        command["line"] = command["line"][:most]
    elif "argv" in command:
        argv = []
        for word in command["argv"]:
            argv.append(word[: max(0, most)])
            most -= len(word) + _WORD
            if most <= 0:
                break
        command["argv"] = argv


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
        problem = words % (exc.strerror, _host(process))
        return _going_on(process, states.DISCONNECTED, problem)
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
    problem = "it was started on %s, which cannot be asked from here" % _host(process)
    return _going_on(process, states.DISCONNECTED, problem)


def _host(process: dict[str, Any]) -> str | None:
    return Fields(files.PROCESS, process).text("hostname")


def _nobody_starts(dir_fd: int) -> bool:
    """Whether nobody is about to start the job. Where that cannot be told, somebody may be."""
    try:
        nobody = files.claim(dir_fd)
    except OSError:
        return False
    if nobody:
        files.unclaim(dir_fd)
    return nobody


def _before_the_start(dir_fd: int) -> dict[str, Any]:
    if not _nobody_starts(dir_fd):
        return _going_on({}, states.PENDING, None)
    # The claimant may have come this far while we looked.
    if read_process(dir_fd) is not None or read_outcome(dir_fd) is not None:
        return _state(dir_fd)
    return dict(_lost("supervisor-lost", {}), problem="its start was cut short; it never ran")


def _running(dir_fd: int, process: dict[str, Any]) -> str:
    if _asked_to_stop(dir_fd):
        return states.move(states.RUNNING, states.ASKED_TO_STOP)
    if liveness.suspended(process):
        return states.move(states.RUNNING, states.PAUSED)
    return states.RUNNING


def _asked_to_stop(dir_fd: int) -> bool:
    try:
        fd = os.open(files.ASK, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=dir_fd)
    except OSError:
        return False
    try:
        return any(name.startswith("stop-") for name in os.listdir(fd)[:_MAX_REQUESTS])
    except OSError:
        return False
    finally:
        os.close(fd)


def _going_on(process: dict[str, Any], state: str, problem: str | None) -> dict[str, Any]:
    fields = Fields(files.PROCESS, process)
    return {
        "state": state,
        "pid": _pid(process) if state in _HAS_PROCESS else None,
        "started": fields.time("started"),
        "finished": None,
        "outcome": None,
        "sizes": None,
        "problem": problem or fields.problem,
    }


def _pid(process: dict[str, Any]) -> int | None:
    """Of the first process, where that means anything here."""
    pid = process.get("pid")
    return pid if type(pid) is int and pid > 0 and liveness.reachable(process) else None


def _after_the_end(outcome: dict[str, Any]) -> dict[str, Any]:
    """Raises Unreadable where it does not say how the job ended."""
    fields = Fields(files.OUTCOME, outcome)
    status, signal = _how_it_ended(outcome)
    reason = outcome.get("reason") or "exited"
    if not isinstance(reason, str) or not _REASON.match(reason):
        raise files.Unreadable("outcome.json: the reason is %s" % shown(reason))
    end: dict[str, Any] = {
        "exit_status": status,
        "signal": signal,
        "reason": reason,
        "error": fields.text("error"),
        "note": fields.text("note"),
        "left_behind": fields.texts("left_behind"),
        "result_at": fields.size("result_at"),
    }
    view = {
        "state": states.move(states.RUNNING, states.ended(status, signal, reason)),
        "pid": None,
        "started": fields.time("started"),
        "finished": fields.time("finished"),
        "outcome": end,
        "sizes": fields.sizes("sizes"),
    }
    return dict(view, problem=fields.problem)


def _how_it_ended(outcome: dict[str, Any]) -> tuple[int | None, str | None]:
    """The exit status and the signal, of which a job has one at most. Raises Unreadable."""
    status, signal = outcome.get("exit_status"), outcome.get("signal")
    if status is not None and not (type(status) is int and 0 <= status <= _MAX_STATUS):
        raise files.Unreadable("outcome.json: the exit status is %s" % shown(status))
    if signal is not None and not is_signal_name(signal):
        raise files.Unreadable("outcome.json: the signal is %s" % shown(signal))
    return status, signal


def _lost(reason: str, process: dict[str, Any]) -> dict[str, Any]:
    view = _after_the_end({"reason": reason, "started": process.get("started"), "sizes": {}})
    view["sizes"] = None
    return view


def _untrusted(jobs_fd: int, job_id: str, problem: str) -> dict[str, Any]:
    """Of what is no directory that is ours alone: nothing is believed but the supervisor's lock."""
    try:
        dir_fd = os.open(
            job_id.encode(), os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=jobs_fd
        )
    except OSError:
        return _unreadable({}, job_id, None, problem)
    try:
        return _unreadable({}, job_id, dir_fd, problem)
    finally:
        os.close(dir_fd)


def _unreadable(
    facts: dict[str, Any], job_id: str, dir_fd: int | None, problem: Exception | str
) -> dict[str, Any]:
    """LOST, its end can no longer be known; DISCONNECTED where it may run or be known all the
    same."""
    view: dict[str, Any] = {
        "id": job_id,
        "name": None,
        "group": None,
        "placement": "keep",
        "lifetime": "detached",
        "location": None,
        "command": {"argv": []},
        "cwd": None,
        "created": None if dir_fd is None else _changed(dir_fd),
    }
    view.update(facts)
    elsewhere = not isinstance(problem, (str, files.Unreadable))
    words = _words(problem) if isinstance(problem, Exception) else problem
    if elsewhere or isinstance(problem, files.Unavailable) or (dir_fd and _may_run(dir_fd)):
        state = states.DISCONNECTED
    else:
        state = states.LOST
    view.update(_going_on({}, state, words[:MAX_TEXT]))
    nothing = dict.fromkeys(files.STREAMS, 0)
    view.update(sizes=nothing, used=nothing, has_more=state == states.DISCONNECTED)
    return view


def out_of_reach(view: dict[str, Any], problem: str) -> dict[str, Any]:
    """The last view of a job whose directory cannot be read now. A job that is over stays so."""
    if view["state"] in states.FINISHED:
        return dict(view, problem=problem[:MAX_TEXT])
    return dict(view, state=states.DISCONNECTED, problem=problem[:MAX_TEXT])


def unknown(job_id: str) -> dict[str, Any]:
    """The job map of a job of which nothing is known but that it may be there."""
    return _unreadable({}, job_id, None, files.Unavailable("its directory does not answer"))


def _words(exc: Exception) -> str:
    if isinstance(exc, files.Unreadable):
        return str(exc)
    if isinstance(exc, OSError):
        return "its directory cannot be read: %s" % exc.strerror
    return "its directory is malformed: %r" % exc


def _changed(dir_fd: int) -> float | None:
    try:
        return Fields(b"", {"at": os.fstat(dir_fd).st_mtime}).time("at")
    except OSError:
        return None


def _may_run(dir_fd: int) -> bool:
    try:
        return not has_outcome(dir_fd) and liveness.alive(dir_fd)
    except OSError:
        return False  # as nothing there can be believed, this alone keeps no job from being lost
