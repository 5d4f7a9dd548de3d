"""Our stdin, on its way to all jobs of a run."""

from __future__ import annotations

import os

import anyio

from remit import Job, RemitError
from remit.cli._descriptor import Descriptor


class Stdin:
    """Nothing is read before all jobs are there: each gets every byte."""

    def __init__(self, jobs: int) -> None:
        self._missing = jobs
        self._jobs: list[Job] = []
        self._all_there = anyio.Event()

    def add(self, job: Job | None) -> None:
        """One of the jobs; None: it never came to be."""
        if job is not None:
            self._jobs.append(job)
        self._missing -= 1
        if not self._missing:
            self._all_there.set()

    async def pump(self) -> None:
        """Passes stdin on until its end, or until no job reads it any more."""
        await self._all_there.wait()
        if not _may_be_read():
            await self._each(b"")
            return
        ours = Descriptor(0)
        while self._jobs:
            data = await ours.read()
            await self._each(data)
            if not data:
                return

    async def _each(self, data: bytes) -> None:
        async with anyio.create_task_group() as tasks:
            for job in list(self._jobs):
                tasks.start_soon(self._give, job, data)

    async def _give(self, job: Job, data: bytes) -> None:
        try:
            await (job.send(data) if data else job.send_eof())
        except RemitError:
            # It no longer reads; the link's trouble is told by who reads the job's output.
            self._jobs.remove(job)


def _may_be_read() -> bool:
    # A read of the terminal would stop us where the shell runs us in the background.
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True  # no terminal, or not the one that controls us: nobody would be stopped
