"""How sessions connect and how long they wait, as users say it: checked before anything begins."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from remit._amounts import count, seconds

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


def connecting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of ``options`` that are about the connection."""
    return {
        field.name: options[field.name] for field in attrs.fields(Settings) if field.name in options
    }
