"""How sessions connect and how long they wait, as users say it: checked before anything begins."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from remit._amounts import count, seconds
from remit._types import OnStatus

_DAY = 86400.0
_MOST_WORKERS = 1 << 16


def _connect_timeout(value: object) -> float:
    return seconds("connect_timeout", value, above=0, infinite=True)


def _silence(value: object) -> float:
    # Both ends sleep by it, and a day without a sign of life is none.
    return seconds("silence", value, above=0, most=_DAY)


def _reconnect(value: object) -> float | None:
    return None if value is None else seconds("reconnect", value, least=0, infinite=True)


def _workers(value: object) -> int | None:
    return None if value is None else count("workers", value, least=1, most=_MOST_WORKERS)


def _calls_per_worker(value: object) -> int:
    return count("calls_per_worker", value, least=1)


_NEVER = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _via(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise TypeError(f"via is a sequence of words, not {value!r}; shlex.split() makes one")
    words = tuple(value)
    for word in words:
        if not isinstance(word, str):
            raise TypeError(f"a word of via is a str, not {word!r}")
        if _NEVER.search(word):
            raise ValueError(f"a word of via is printable text, not {word!r}")
    if words and (not words[0] or words[0].startswith("-")):
        raise ValueError(f"via begins with a program, not with {words[0]!r}")
    return words


def _on_status(value: object) -> Any:
    if value is not None and not callable(value):
        raise TypeError(f"on_status is a function or None, not {value!r}")
    return value


@attrs.frozen
class Settings:
    """How a session connects and how long it waits. Times in seconds. Raises TypeError and
    ValueError for numbers that make no sense."""

    connect_timeout: float = attrs.field(default=30.0, converter=_connect_timeout)
    silence: float = attrs.field(default=15.0, converter=_silence)
    reconnect: float | None = attrs.field(default=300.0, converter=_reconnect)
    trust: bool = False
    workers: int | None = attrs.field(default=None, converter=_workers)
    calls_per_worker: int = attrs.field(default=1000, converter=_calls_per_worker)
    via: tuple[str, ...] = attrs.field(default=(), converter=_via)
    # Two sessions that differ in this alone are equal: who comes second is told nothing.
    on_status: OnStatus | None = attrs.field(default=None, converter=_on_status, eq=False)


def connecting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that are about the connection."""
    return {
        field.name: options[field.name] for field in attrs.fields(Settings) if field.name in options
    }
