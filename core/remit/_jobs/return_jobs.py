"""The return jobs of one session: those that run are held here, the others by who has a handle."""

from __future__ import annotations

import weakref
from typing import Final, Protocol

import attrs

from remit._errors import RemitError
from remit._types import JobInfo

# How many finished ones are remembered.
_REMEMBERED: Final = 1000


class Returned(Protocol):
    """One of them."""

    info: JobInfo

    @property
    def known(self) -> JobInfo: ...

    def link_over(self, error: RemitError) -> None: ...


class ReturnJobs:
    """See the module. A finished job whose handle is gone leaves what is known of it, and of those
    only the last ones are remembered."""

    def __init__(self) -> None:
        self._running: dict[str, Returned] = {}
        self._handles: weakref.WeakValueDictionary[str, Returned] = weakref.WeakValueDictionary()
        self._ended: dict[str, JobInfo] = {}

    def add(self, job: Returned) -> None:
        self._running[job.info.id] = job

    def ended(self, job: Returned) -> None:
        if self._running.pop(job.info.id, None) is None:
            return
        self._handles[job.info.id] = job
        self._ended[job.info.id] = attrs.evolve(job.info, has_more_data=False)
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]

    def remove(self, job_id: str) -> None:
        self._running.pop(job_id, None)
        self._handles.pop(job_id, None)
        self._ended.pop(job_id, None)

    def running(self) -> list[Returned]:
        return list(self._running.values())

    def infos(self) -> list[JobInfo]:
        """What is known of each."""
        live = {
            job.info.id: job.known for job in [*self._handles.values(), *self._running.values()]
        }
        return list({**self._ended, **live}.values())

    def handle(self, job_id: str) -> Returned | None:
        """None where it is not known, or nobody has it any more."""
        return self._running.get(job_id) or self._handles.get(job_id)
