"""What is asked for at a start, once plugins were asked about it: the hook `remit_job_starting`."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Protocol

import attrs

from remit._errors import JobRefused
from remit._jobs.options import StartSettings, Work
from remit._jobs.request import Function, Start, environment
from remit._plugins import Plugins
from remit._wire.sanitize import one_line
from remit.abc import Placement

_log = logging.getLogger("remit.jobs")
_HOOK = "remit_job_starting"


class Place(Protocol):
    """Where a start is asked for."""

    target: str
    location: str
    in_own_directory: bool
    plugins: Plugins


def requested(
    place: Place,
    work: Work,
    args: tuple[object, ...],
    settings: StartSettings,
    placement: Placement,
) -> Start:
    """A start that can be right, with what plugins add. Raises ValueError and TypeError, and
    JobRefused where a plugin will not have it."""
    start = Start.of(work, args, settings, placement, place.in_own_directory)
    if not place.plugins.listens(_HOOK):
        return start
    heard: list[Requested] = []
    env: dict[bytes, bytes | None] = dict(start.env)

    def facts(plugin: str) -> Mapping[str, Requested]:
        heard.append(Requested(plugin, place, start, env))
        return {"request": heard[-1]}

    place.plugins.notify(_HOOK, each=facts)
    for request in heard:
        if request.refusal is not None:
            raise JobRefused(
                f"plugin {request.plugin!r} refused the job: {request.refusal}",
                plugin=request.plugin,
            )
        if request.added:
            names = ", ".join(sorted(request.added))
            _log.info("plugin %r sets for job %s: %s", request.plugin, start.id, one_line(names))
    return attrs.evolve(start, env=env)


class Requested:
    """A `remit.abc.JobRequest`, for one plugin."""

    def __init__(
        self, plugin: str, place: Place, start: Start, env: dict[bytes, bytes | None]
    ) -> None:
        self.plugin = plugin
        self.refusal: str | None = None
        self.added: set[str] = set()
        self._start = start
        self._env = env
        self.target = place.target
        self.location = place.location
        self.id = start.id
        self.name = start.settings.name
        work = start.work
        self.is_function = isinstance(work, Function)
        self.command = work.name if isinstance(work, Function) else work
        self.placement = start.placement.name
        self.lifetime = start.lifetime
        self.cwd = None if start.cwd is None else os.fsdecode(start.cwd)

    def __repr__(self) -> str:
        return f"<JobRequest {self.id} {self.command!r} on {self.target}>"

    @property
    def env(self) -> Mapping[str, str | None]:
        return {
            os.fsdecode(name): None if value is None else os.fsdecode(value)
            for name, value in self._env.items()
        }

    def add_env(self, name: str, value: str | None) -> None:
        self._env.update(environment({name: value}, self._start))
        self.added.add(name)

    def refuse(self, reason: str) -> None:
        if self.refusal is None:
            self.refusal = str(reason)
