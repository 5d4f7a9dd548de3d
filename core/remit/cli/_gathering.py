"""A local job directory of a job that runs elsewhere, filled as a supervisor fills one.

docs/job-directory.md describes it. Readers find the job as they find any that is kept here, with
the target as its ``location``.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress

from remit import Job, JobStateError, Record, TargetError
from remit._agent.base import fds
from remit._jobdir import files, json, liveness, mailbox, proc, removal, sole, statedir
from remit._wire.refusal import Refused
from remit.cli import _state
from remit.cli._work import Work


class StandIn:
    """A process in the place of the job's first process, which is elsewhere.

    Readers tell by its state whether the job is suspended. It does nothing, and ends with us.
    """

    def __init__(self) -> None:
        reader, self._alive = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            try:
                fds.close_all({reader})
                # Where we end while it is stopped, the kernel ends it: an orphaned process group.
                os.setpgid(0, 0)
                os.read(reader, 1)
            finally:
                os._exit(0)
        os.close(reader)
        self.start_time = proc.start_time(self.pid)

    def suspend(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        # Who is answered looks at once how the job stands.
        with suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Gathering:
    """The directory of one job; this process is its supervisor, until it ends."""

    def __init__(self, job_id: str, work: Work, location: str, stand_in: StandIn) -> None:
        """Claims the id and makes all that is needed. Raises TargetError."""
        self._id = job_id
        self._sizes = dict.fromkeys(files.OUTPUTS, 0)
        state = statedir.State(os.fsencode(_state.state_directory()))
        with _state.refusals():
            self._jobs = state.open_jobs(create=True)
            if not statedir.make_directory(job_id.encode(), self._jobs):
                raise TargetError(f"there is a job {job_id} here already")
            self._dir = statedir.open_directory(job_id.encode(), self._jobs, job_id.encode())
        try:
            self._gone = state.open_gone(create=True)
            self._fill(_facts(job_id, work, location), stand_in)
        except BaseException:
            with suppress(OSError):
                removal.discard(self._jobs, job_id, self._dir)
            raise

    def _fill(self, facts: dict[str, object], stand_in: StandIn) -> None:
        files.claim(self._dir)
        try:
            with sole.bearer(self._jobs, facts):
                files.write_json(self._dir, files.JOB, facts)
        except Refused as exc:
            evidence, hint = exc.evidence or "", exc.hint or ""
            raise JobStateError(exc.message, evidence=evidence, hint=hint) from exc
        files.prepare(self._dir)
        liveness.take(self._dir)
        self.inbox = mailbox.Mailbox(self._dir)
        self._index = files.open_output(self._dir, files.INDEX)
        self._files = {
            stream: files.open_output(self._dir, stream.encode()) for stream in files.OUTPUTS
        }
        process: dict[str, object] = dict(
            liveness.here(),
            pid=stand_in.pid,
            start_time=stand_in.start_time,
            started=time.time(),
            supervisor={"pid": os.getpid(), "start_time": proc.start_time(os.getpid())},
        )
        files.write_json(self._dir, files.PROCESS, process)
        files.unclaim(self._dir)

    def append(self, record: Record) -> None:
        """Raises OSError where there is no room; what fits was written."""
        file = self._files.get(record.stream)
        if file is None:
            return  # a command has no other streams
        offset = self._sizes[record.stream]
        data = memoryview(record.data)
        try:
            while data:
                written = os.write(file, data)
                self._sizes[record.stream] += written
                data = data[written:]
        finally:
            size = self._sizes[record.stream] - offset
            if size:
                when, stream = record.time.timestamp(), record.stream.encode()
                files.write_all(self._index, files.pack_line(when, stream, offset, size))

    def finish(self, job: Job, problem: OSError | None) -> None:
        """Writes down how the job ended; ``problem`` is why its output is not all here."""
        outcome = job.outcome
        reason = outcome.reason if outcome else "link-lost"
        error = outcome.error if outcome else None
        if problem is not None:
            reason, error = "no-space", f"the output could not be written: {problem.strerror}"
        files.write_outcome(
            self._dir,
            {
                "format": files.FORMAT,
                "exit_status": outcome.exit_status if outcome else None,
                "signal": outcome.signal if outcome else None,
                "reason": reason,
                "error": error,
                "note": outcome.note if outcome else None,
                "left_behind": list(outcome.left_behind) if outcome else [],
                "started": job.started.timestamp() if job.started else None,
                "finished": job.finished.timestamp() if job.finished else time.time(),
                "sizes": dict(self._sizes),
            },
        )

    def open_log(self) -> int:
        """For what goes wrong without ending the job: made once there is something to tell."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open("supervisor.log", flags, 0o600, dir_fd=self._dir)

    @property
    def exists(self) -> bool:
        """Whether its directory is still there: its user may have removed it."""
        return os.fstat(self._dir).st_nlink > 0

    def discard(self) -> None:
        """After a start that failed: nothing stays but the seal of the id."""
        removal.remove(self._jobs, self._gone, self._id, self._dir)


def _facts(job_id: str, work: Work, location: str) -> dict[str, object]:
    command: dict[str, object] = (
        {"line": _text(work.command)}
        if isinstance(work.command, str)
        else {"argv": [_text(word) for word in work.command]}
    )
    return {
        "format": files.FORMAT,
        "id": job_id,
        "name": work.name,
        "group": work.group,
        "command": command,
        "cwd": None if work.cwd is None else _text(work.cwd),
        "created": time.time(),
        # As of any job that is kept here, for readers of the first release; the location tells
        # others that it is a return job, which ends with this process.
        "placement": "keep",
        "lifetime": "detached",
        "location": location,
        "limits": {},
    }


def _text(text: str) -> object:
    return json.from_bytes(os.fsencode(text))
