"""What the failures of ``docker exec`` and ``podman exec`` mean. No I/O."""

from __future__ import annotations

import re

import attrs

import remit
from remit.abc import End, Target

# How a line of the engine's own begins.
_OWN = re.compile(
    r"error\b|cannot connect|(?:got )?permission denied while|failed to connect", re.IGNORECASE
)


@attrs.frozen
class _Failure:
    pattern: re.Pattern[str]
    message: str
    hint: str


def _failure(pattern: str, message: str, hint: str) -> _Failure:
    return _Failure(re.compile(pattern, re.IGNORECASE), message, hint)


# The first that fits is taken. All are looked for in the engine's own lines only (`_own_lines`).
_FAILURES = (
    _failure(
        r"no such container|no container with (?:name|ID)",
        "there is no container {name}",
        "`{engine} ps --all` lists those there are",
    ),
    _failure(
        r"is paused",
        "the container {name} is paused",
        "`{engine} unpause {name}`",
    ),
    _failure(
        r"is not running",
        "the container {name} is not running",
        "`{engine} start {name}`",
    ),
    _failure(
        # Podman says the same of both.
        r"exec sessions on running containers|container state improper",
        "the container {name} is not running, or is paused",
        "`{engine} start {name}`, or `{engine} unpause {name}`",
    ),
    _failure(
        r"permission denied while trying to connect",
        "this account is not allowed to use the {engine} daemon",
        "join its group, or name another daemon by DOCKER_HOST",
    ),
    _failure(
        r"cannot connect to|unable to connect to|error during connect|failed to connect to",
        "the {engine} daemon cannot be reached",
        "`{engine} info` says more; start it, or name another daemon by DOCKER_HOST",
    ),
)


def explain(engine: str, target: Target, end: End) -> remit.ConnectError | None:
    """The error that the engine's last words speak of; None where they say nothing of the kind."""
    own = _own_lines(end.stderr.decode(errors="replace"))
    if not end.exit_status or not own:
        return None
    for failure in _FAILURES:
        if failure.pattern.search(own):
            words = {"engine": engine, "name": target.address}
            return remit.ConnectError(
                f"{target}: {failure.message.format(**words)}",
                evidence=own,
                hint=failure.hint.format(**words),
                exit_status=end.exit_status,
                stderr_tail=end.stderr,
            )
    return None


def _own_lines(said: str) -> str:
    """The engine's complaints: what the command itself said there is not its to judge."""
    return "\n".join(line.rstrip() for line in said.splitlines() if _OWN.match(line))
