"""``--sudo[=USER]``: what it makes of the targets of a command."""

from __future__ import annotations

import re
from typing import Any

from remit.cli._report import UsageError

# As useradd(8) allows names, those of directories (DOMAIN\\USER, me@corp) and "#UID" beside.
_USER = re.compile(r"#[0-9]+|[A-Za-z0-9_][A-Za-z0-9_.@\\+-]*\$?")
# Words of a command that are targets.
_TARGETS = ("targets", "target", "on")


def through(words: dict[str, Any], user: str) -> None:
    """Has the targets among the words of a command be reached by sudo. Raises UsageError, and
    TargetError for a target that cannot be reached so."""
    if not _USER.fullmatch(user):
        raise UsageError(f"--sudo={user}: this is no name of an account", hint="--sudo=postgres")
    given = [name for name in _TARGETS if words.get(name)]
    if not given:
        raise UsageError(
            "--sudo goes with a target",
            hint="--on TARGET; a job that was started with --sudo is found without it",
        )
    via = ["sudo", "-n", "-u", user, "--"]
    for name in given:
        value = words[name]
        words[name] = (
            _told(value, via) if isinstance(value, str) else [_told(t, via) for t in value]
        )


def _told(target: str, via: list[str]) -> str:
    import shlex

    from remit._plugins import plugins
    from remit._target import parse_target

    parsed, _ = parse_target(target, plugins(), via=via)
    if str(parsed) == target:  # it has no options
        raise UsageError(
            f"--sudo: {target} takes no options",
            hint=f"{shlex.quote(f'{target} {shlex.join(via)}')}, where its words run what follows",
        )
    return str(parsed)
