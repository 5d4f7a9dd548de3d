"""Run in a container that is up: ``docker:NAME``, ``podman:NAME``."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager

import attrs

import remit
from remit.abc import ByteStream, End, Target, Transport

# What both engines accept as a name; an id is of the same letters.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)
# Seconds that somebody waits with a finger on Tab.
_PATIENCE = 1.0


@attrs.frozen
class Container:
    """Starts the command by ``PROGRAM exec -i NAME``."""

    scheme: str
    program: str
    api: int = 1

    def check(self, target: Target) -> None:
        """Raises TargetError for an invalid target; starts nothing."""
        if not _NAME.fullmatch(target.address):
            raise remit.TargetError(
                f"{str(target)!r} names no container",
                hint=f"{self.scheme}:NAME; `{self.scheme} ps` lists those that are up",
            )

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """Starts ``argv`` in the container. Raises TargetError and, entering, ConnectError where
        the engine's program is missing."""
        self.check(target)
        return remit.open_process([self.program, "exec", "-i", target.address, *argv])

    def explain(self, target: Target, end: End) -> remit.ConnectError | None:
        """What the engine's words mean: no such container, not running, not allowed."""
        from remit_container._failures import explain  # its patterns take time to compile

        return explain(self.scheme, target, end)

    def addresses(self) -> Collection[str]:
        """The containers that run now, where the engine says so within a second."""
        try:
            done = subprocess.run(
                [self.program, "ps", "--format", "{{.Names}}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_PATIENCE,
            )
        except (OSError, subprocess.SubprocessError):
            return []
        return [
            name for name in done.stdout.decode("utf-8", "replace").split() if _NAME.fullmatch(name)
        ]


@remit.hookimpl
def remit_transports() -> list[Transport]:
    """The transports that come with this plugin: the hook of that name."""
    return [Container("docker", "docker"), Container("podman", "podman")]
