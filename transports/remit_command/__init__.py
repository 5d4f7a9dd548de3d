"""Reach a target by any program that takes a command as its last arguments.

``command:kubectl exec -i pod --`` runs ``kubectl exec -i pod -- COMMAND``.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import attrs

import remit
from remit.abc import ByteStream, Target, Transport


@attrs.frozen
class Command:
    """The address is the program and its first arguments, in the quoting of a shell."""

    api: int = 1
    scheme: str = "command"
    raw_address: bool = True

    def check(self, target: Target) -> None:
        """Raises TargetError for an invalid target; starts nothing."""
        _words(target)

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """Starts the program with its arguments and ``argv``. Raises TargetError and, entering,
        ConnectError."""
        return remit.open_process([*_words(target), *argv])


def _words(target: Target) -> list[str]:
    try:
        words = shlex.split(target.address)
    except ValueError as exc:
        raise remit.TargetError(f"{target} is not in a shell's quoting: {exc}") from exc
    if not words or not words[0] or words[0].startswith("-"):
        raise remit.TargetError(f"{target} names no program", hint="command:kubectl exec -i pod --")
    if "\0" in target.address:
        raise remit.TargetError(f"{str(target)!r} holds a NUL, which no argument can")
    return words


@remit.hookimpl
def remit_transports() -> list[Transport]:
    """The transports that come with this plugin: the hook of that name."""
    return [Command()]
