"""The return jobs of a session: found by their ids, and ended with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Callable

    from remit._agent.base.services import Session
    from remit._agent.returned.return_job import ReturnJob
    from remit._wire.refusal import Refused

# How many ended jobs are remembered at least, for requests that crossed their end on the wire.
REMEMBERED = 256
# Seconds between TERM and KILL for what a job leaves behind, and at the end of the session.
GRACE = 3.0


class ReturnJobs:
    """By their ids, those that ended not long ago included."""

    def __init__(self, session: Session) -> None:
        self._session = session
        # Before the interpreters that functions are forked from.
        session.on_session_end.insert(0, self._end_all)
        self._jobs: dict[str, ReturnJob] = {}
        self._unwanted: set[str] = set()  # to be forgotten once they are over

    def __contains__(self, job_id: str) -> bool:
        return job_id in self._jobs

    def get(self, job_id: str) -> ReturnJob | None:
        return self._jobs.get(job_id)

    def add(self, job: ReturnJob) -> None:
        self._jobs[job.id] = job

    def forget(self, job: ReturnJob) -> None:
        """Nobody asks for it any more: it is forgotten, once it is over."""
        if job.is_over:
            self._jobs.pop(job.id, None)
        else:
            self._unwanted.add(job.id)

    def over(self, job: ReturnJob) -> None:
        if job.id in self._unwanted:
            self._unwanted.discard(job.id)
            self._jobs.pop(job.id, None)
        if len(self._jobs) > 2 * REMEMBERED:
            ended = [job for job in self._jobs.values() if job.is_over]
            for job in ended[:-REMEMBERED]:
                del self._jobs[job.id]

    def _end_all(self, finished: Callable[..., object]) -> None:
        """Ends those of a session that ends; as for ``on_session_end``."""
        from remit._agent.base import process_tree

        session = self._session
        jobs = [job for job in self._jobs.values() if not job.is_over]
        if not jobs:
            finished()
            return

        def ended(survivors: list[str] | None, error: Refused | None) -> None:
            for job in jobs:
                if not job.is_over:
                    job.stopped([])
            session.children.reap()
            for job in jobs:
                job.settle()
            part(survivors or [])

        def part(survivors: list[str]) -> None:
            # Each job's end is to be on the wire before the session's.
            if not survivors and any(job.is_ending for job in jobs):
                session.loop.call_later(0.01, lambda: part(survivors))
            else:
                finished(survivors)

        roots = {job.id: job.root.places for job in jobs if job.is_to_end("session-ended")}
        # Whatever the session started ends now, but for what runs in a terminal.
        running = session.lifetimes.running - session.news.terminals
        search = session.orphans.search(roots, *running)
        session.take(process_tree.ending(search, GRACE), ended)
