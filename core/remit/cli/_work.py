"""What is to be run, as the words of the command line say it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from typing import Any

import attrs

from remit._jobs.options import Leftovers
from remit._jobs.request import check_words
from remit._wire.requests import LEFTOVERS
from remit.cli._amounts import seconds
from remit.cli._report import UsageError, usage


@attrs.frozen
class Work:
    """A command and how it is to run; the same for each target."""

    command: str | tuple[str, ...]
    name: str | None = None
    cwd: str | None = None
    env: dict[str, str] = attrs.field(factory=dict, repr=False)
    timeout: float | None = None
    leftovers: Leftovers = "leave"
    login: bool = False
    group: str | None = None
    stdin: int | None = None  # a descriptor: `_given.opened`

    def words(self) -> str | list[str]:
        """The command as `Session.start` takes it."""
        return self.command if isinstance(self.command, str) else list(self.command)

    def given(self, stdin: int) -> Work:
        """It, with something to read."""
        return attrs.evolve(self, stdin=stdin)

    def of_group(self, group: str) -> Work:
        """It, as one of several."""
        return attrs.evolve(self, group=group)

    def options(self) -> dict[str, Any]:
        """What `Session.start` takes beside it. A stdin is opened anew."""
        from remit.cli import _given

        return {
            "name": self.name,
            "cwd": self.cwd,
            "env": self.env,
            "timeout": self.timeout,
            "leftovers": self.leftovers,
            "login": self.login,
            "stdin": None if self.stdin is None else _given.again(self.stdin),
        }


def parse(
    command: Sequence[str] | None,
    *,
    shell: bool,
    name: str | None = None,
    cwd: str | None = None,
    env: Sequence[str] = (),
    timeout: str | None = None,
    leftovers: str = "leave",
    login: bool = False,
) -> Work:
    """``command`` is what stands after ``--``, None without one. Raises UsageError."""
    if not command:
        raise UsageError("no command: it stands after `--`", hint="remit run TARGET -- uname -a")
    if shell and len(command) != 1:
        raise UsageError(
            f"--shell takes one word, a /bin/sh line; there are {len(command)}",
            hint=f"remit run --shell TARGET -- '{' '.join(command)}'",
        )
    if cwd == "" or command[0] == "" or name == "":
        raise UsageError("an empty command, --cwd or --name can never be right")
    if leftovers not in LEFTOVERS:
        raise UsageError(f"--leftovers {leftovers!r}", hint="--leftovers stop, or leave")
    work = Work(
        # A login shell runs lines: it is given the words as they are.
        command=command[0] if shell else shlex.join(command) if login else tuple(command),
        name=name,
        cwd=cwd,
        env=dict(map(_variable, env)),
        timeout=None if timeout is None else seconds("--timeout", timeout, positive=True),
        leftovers="stop" if leftovers == "stop" else "leave",
        login=login,
    )
    with usage():
        check_words(work.words(), name=work.name, cwd=work.cwd, env=work.env)
    return work


def _variable(word: str) -> tuple[str, str]:
    """``A=1``, or ``A`` for the value that it has here."""
    name, equals, value = word.partition("=")
    if not name:
        raise UsageError(f"--env {word!r} names no variable", hint="--env NAME=VALUE, --env NAME")
    if not equals:
        try:
            value = os.environ[name]
        except KeyError:
            raise UsageError(f"--env {name}: there is no such variable here") from None
    return name, value
