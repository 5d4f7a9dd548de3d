"""Arguments of requests: what they must be, and the refusal where they are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any

_ID_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz234567")
_ID_SIZE = 13
_MISSING = object()
NAME_WORDS = "a name is 1 to 200 printable characters, not %r"


def take(args: dict[str, Any], name: str, *kinds: type, default: object = _MISSING) -> Any:
    """The argument, if it is of one of ``kinds``; ``default`` where it is missing or nil."""
    value = args.get(name)
    if value is None and default is not _MISSING:
        return default
    # True is an int to isinstance, but no number to a caller.
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise Refused("bad-request", "the argument %s is missing or malformed" % name)
    return value


def seconds(args: dict[str, Any], name: str, default: float | None) -> float | None:
    value = take(args, name, float, int, default=default)
    if value is not None and not 0 <= value < 1e10:
        raise Refused("bad-request", "the argument %s is no span of time" % name)
    return None if value is None else float(value)


def job_id(args: dict[str, Any], name: str) -> str:
    """A whole job id: ``j`` and 12 of a-z and 2-7. It is safe in paths and environments."""
    value = take(args, name, str)
    if len(value) != _ID_SIZE or value[0] != "j" or not _ID_LETTERS.issuperset(value):
        raise Refused("bad-request", "the argument %s is no job id" % name)
    return str(value)


def path(args: dict[str, Any], name: str) -> bytes | None:
    value: bytes | None = take(args, name, bytes, default=None)
    if value is not None and (not value or b"\0" in value):
        raise Refused("bad-request", "the argument %s is no path" % name)
    return value


def command(args: dict[str, Any]) -> dict[str, Any]:
    """``{"argv": [bytes, …]}``, ``{"line": bytes}`` or ``{"function": str}``, its name."""
    value = take(args, "command", dict)
    if isinstance(value.get("function"), str):
        return {"function": value["function"]}
    argv, line = value.get("argv"), value.get("line")
    if line is None and isinstance(argv, list) and argv:
        words = argv
    elif argv is None:
        words = [line]
    else:
        words = []
    if not words or not all(isinstance(word, bytes) and b"\0" not in word for word in words):
        raise Refused("bad-request", "a command is an argv or a line, of bytes without a NUL")
    return {"argv": argv} if line is None else {"line": line}


def name(args: dict[str, Any]) -> str | None:
    """A job's name, as callers' sides take them, too."""
    value: str | None = take(args, "name", str, default=None)
    if value is not None and not is_name(value):
        raise Refused("bad-request", NAME_WORDS % (value,))
    return value


def is_name(value: str) -> bool:
    return 0 < len(value) <= 200 and value.isprintable()


def leftovers(args: dict[str, Any]) -> str:
    """What becomes of processes that outlive a job which ended by itself: leave or stop."""
    value: str = take(args, "leftovers", str, default="leave")
    if value not in ("leave", "stop"):
        raise Refused("bad-request", "the argument leftovers is leave or stop")
    return value


def environment(args: dict[str, Any]) -> dict[bytes, bytes]:
    value = take(args, "env", dict, default={})
    for key, item in value.items():
        if not (isinstance(key, bytes) and isinstance(item, bytes)):
            raise Refused("bad-request", "an environment is of bytes")
        if not key or b"=" in key or b"\0" in key or b"\0" in item:
            raise Refused("bad-request", "the environment cannot hold %r" % key)
    return dict(value)
