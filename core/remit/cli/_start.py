"""``remit start``: a job that goes on without us."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

import anyio

import remit
from remit import LinkLost, RemitError
from remit.cli import _amounts, _known, _local
from remit.cli._interrupts import Interrupts
from remit.cli._known import Note
from remit.cli._report import BROKEN_PIPE, OK, UsageError, answer, report, say
from remit.cli._work import Work

# Entered once the job runs.
Begin = Callable[[str, str, Work], AbstractAsyncContextManager[None]]


def limits(*, keep: bool, lease: str | None, max_output: str | None, on_max: str) -> dict[str, Any]:
    """What `Session.start` is told beside the work, for kept jobs alone. Raises UsageError."""
    told: dict[str, Any] = {}
    if lease is not None:
        told["lifetime"] = remit.lease(_amounts.seconds("--lease", lease, positive=True))
    if max_output is not None:
        told["max_output"] = _amounts.size("--max-output", max_output, positive=True)
        told["on_max"] = on_max
    if on_max not in ("stop", "truncate") or (on_max != "stop" and max_output is None):
        raise UsageError(
            f"--on-max {on_max!r}", hint="--max-output 10M --on-max truncate, or --on-max stop"
        )
    if told and not keep:
        raise UsageError("--lease and --max-output are for jobs that are kept there", hint="--keep")
    return told


async def start(
    targets: Sequence[str],
    work: Work,
    *,
    keep: bool,
    throttle: int,
    kept: Mapping[str, Any] | None = None,
) -> int:
    """Prints each job's id as soon as its target has answered; returns the worst exit status.

    ``kept``: what `limits` says.
    """
    begin: Begin = partial(_kept, limits=kept or {}) if keep else _collected
    status = OK
    limiter = anyio.CapacityLimiter(throttle)
    interrupts = Interrupts()

    async def one(target: str) -> None:
        nonlocal status
        job_id = remit.new_job_id()
        try:
            async with limiter, begin(target, job_id, work):
                # At once: a target that lets nobody go is not to keep it from who asked.
                status = max(status, _tell(job_id, target))
        except (RemitError, OSError) as exc:
            status = max(status, report(exc))

    async def each() -> int:
        async with anyio.create_task_group() as tasks:
            for target in targets:
                tasks.start_soon(one, target)
        return status

    # Whatever ends us before we have told an id also takes its job back.
    return await interrupts.around(each)


def _tell(job_id: str, target: str) -> int:
    """Prints the id. Where that cannot be, the job runs all the same: then it is said on stderr."""
    try:
        answer(job_id)
    except OSError as exc:
        say(f"remit: {job_id} runs on {target}")
        return BROKEN_PIPE if isinstance(exc, BrokenPipeError) else report(exc)
    return OK


@asynccontextmanager
async def _collected(target: str, job_id: str, work: Work) -> AsyncGenerator[None]:
    from remit.cli._collecting import collect

    await collect(target, job_id, work)
    yield


@asynccontextmanager
async def _kept(
    target: str, job_id: str, work: Work, *, limits: Mapping[str, Any]
) -> AsyncGenerator[None]:
    """A job that is kept on its target, and a note here of where it is.

    The note comes first: a job that nobody knows of would be worse than one that is not there.
    """
    async with remit.connect(target) as session:
        _known.write(
            Note(
                id=job_id,
                target=target,
                name=work.name,
                command=work.command,
                location=session.location,
                created=datetime.now(UTC),
            )
        )
        try:
            await session.start(
                work.words(),
                placement="keep",
                id=job_id,
                name=work.name,
                cwd=work.cwd,
                env=work.env,
                timeout=work.timeout,
                leftovers=work.leftovers,
                **limits,
            )
        except LinkLost:
            say(f"remit: {job_id} may run on {target}; `remit jobs` will tell")
            raise
        except BaseException:
            _known.drop(job_id, target)
            raise
        if job_id in _local.ids():
            # It is in our own state directory, which is looked at anyway.
            _known.drop(job_id, target)
        yield
