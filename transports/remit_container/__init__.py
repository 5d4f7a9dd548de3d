"""Run in a container that is up: ``docker:NAME``, ``podman:NAME``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

import remit
from remit.abc import ByteStream, End, Target, Transport
from remit_container._failures import explain

# What both engines accept as a name; an id is of the same letters.
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*", re.ASCII)


@attrs.frozen
class Container:
    """Starts the command by ``PROGRAM exec -i NAME``."""

    scheme: str
    program: str
    api: int = 1

    def check(self, target: Target) -> None:
        if not _NAME.fullmatch(target.address):
            raise remit.TargetError(
                f"{str(target)!r} names no container",
                hint=f"{self.scheme}:NAME; `{self.scheme} ps` lists those that are up",
            )

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        self.check(target)
        return remit.open_process([self.program, "exec", "-i", target.address, *argv])

    def explain(self, target: Target, end: End) -> remit.ConnectError | None:
        return explain(self.scheme, target, end)


@remit.hookimpl
def remit_transports() -> list[Transport]:
    return [Container("docker", "docker"), Container("podman", "podman")]
