"""Names that one unfinished job alone is to bear. Standard library only, Python 3.6."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from remit._jobdir import files, views
from remit._wire import states
from remit._wire.names import is_job_id
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

# Seconds that others may take who start a job of such a name at the same moment.
_PATIENCE = 10.0


@contextmanager
def bearer(jobs_fd: int, job: dict[str, Any]) -> Iterator[None]:
    """In it the job.json of ``job`` is to be written; whoever else asks for this waits. Raises
    Refused where an unfinished job of another group bears its name.

    The lock is an flock on ``jobs/``. Where the file system locks no directories, two starts at the
    same moment may both pass.
    """
    if job["name"] is None:
        yield
        return
    try:
        if not files.await_claim(jobs_fd, _PATIENCE):
            raise Refused("state", "another start of a job of some name hangs")
    except OSError:
        pass
    try:
        for each in os.listdir(jobs_fd):
            if each != job["id"] and is_job_id(each) and _bears(jobs_fd, each, job):
                words = "there is an unfinished job %r already" % job["name"]
                raise Refused("state", words, each, "another name, or `remit stop %s`" % each)
        yield
    finally:
        files.unclaim(jobs_fd)


def _bears(jobs_fd: int, job_id: str, job: dict[str, Any]) -> bool:
    try:
        # Most are over: of these nothing is read.
        os.stat(b"%s/%s" % (job_id.encode(), files.OUTCOME), dir_fd=jobs_fd)
        return False
    except OSError:
        pass
    try:
        view = views.look(jobs_fd, job_id)
    except FileNotFoundError:
        return False
    if view["name"] != job["name"] or view["state"] in states.FINISHED:
        return False
    return job["group"] is None or view["group"] != job["group"]
