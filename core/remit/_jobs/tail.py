"""Where the last lines of a job's output begin."""

from __future__ import annotations

from remit._errors import LocalProtocolError
from remit._jobs.backing import Backing
from remit._link.messages import Tailed
from remit.abc import Position


async def begin(job: Backing, lines: int, stream: str | None) -> Position | None:
    """A place behind which the last lines of that stream, or of all, still are; of other streams
    nothing is. None where nobody can tell: its output is not kept there, or the agent is of a
    version that has no such request. Raises what asking raises."""
    if not job.is_kept:
        return None
    arguments = {"job": job.info.id, "lines": lines, "stream": stream}
    try:
        told: Tailed = await job.port.ask("tail", arguments, Tailed)
    except LocalProtocolError:
        return None
    return None if told.position is None else told.position.position()
