"""Run on this computer: ``local:``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

import remit
from remit.abc import ByteStream, Target, Transport


@attrs.frozen
class Local:
    """Starts the command as a child of the caller."""

    api: int = 1
    scheme: str = "local"
    here: bool = True

    def check(self, target: Target) -> None:
        """Raises TargetError for an invalid target; starts nothing."""
        if target.address:
            raise remit.TargetError(
                f"{target}: local: is this computer and has no address", hint="local:"
            )

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """Starts ``argv`` here, with the caller's environment and directory. Raises TargetError
        and, entering, ConnectError."""
        self.check(target)
        return remit.open_process(argv)


@remit.hookimpl
def remit_transports() -> list[Transport]:
    """The transports that come with this plugin: the hook of that name."""
    return [Local()]
