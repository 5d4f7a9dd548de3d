"""What to try where a command could not be started. Pure."""

from __future__ import annotations

import shlex

from remit import Outcome

# Commands that are no programs: a shell does them itself.
_BUILT_IN = {"cd", ".", "source", "export", "unset", "set", "alias", "ulimit", "umask", "type"} | {
    *("exec", "exit", "eval", "trap", "shift", "read"),
}


def hint(command: str | tuple[str, ...], cwd: str | None, outcome: Outcome) -> str:
    """Empty where nothing is known."""
    if outcome.reason != "start-failed" or isinstance(command, str):
        return ""
    error = outcome.error or ""
    if cwd is not None and cwd.startswith("~") and "directory" in error:
        line = f"cd {cwd} && {shlex.join(command)}"
        return f"--shell TARGET -- {_quoted(line)}: only a shell knows what {cwd} means"
    if not error.startswith("no such program"):
        return ""
    if command[0] in _BUILT_IN:
        line = shlex.join(command)
        return f"--shell TARGET -- {_quoted(line)}: {command[0]} is a shell's own command"
    if len(command) == 1 and len(words := command[0].split()) > 1:
        return f"-- {' '.join(words)}, or --shell TARGET -- {_quoted(command[0])}"
    return ""


def _quoted(line: str) -> str:
    return shlex.quote(line)
