"""Sizes and spans of time as people type them: 10G, 7d. Pure."""

from __future__ import annotations

import re

from remit.cli._report import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)([a-zA-Z]?)", re.ASCII)


def seconds(option: str, text: str) -> float:
    """``90``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``, in seconds. Raises UsageError."""
    return _amount(option, text, _SECONDS, "a span of time", "90s, 15m, 12h, 7d or 2w")


def size(option: str, text: str) -> int:
    """``1000``, ``64K``, ``10M`` or ``1.5G``, in bytes; K is 1024. Raises UsageError."""
    return int(_amount(option, text, _BYTES, "a size", "1000, 64K, 10M or 1.5G"))


def _amount(option: str, text: str, units: dict[str, int], what: str, examples: str) -> float:
    found = _AMOUNT.fullmatch(text)
    unit = None if found is None else units.get(found[2])
    if found is None or unit is None:
        raise UsageError(f"{option} {text!r} is not {what}", hint=f"{option} {examples}")
    return float(found[1]) * unit


def told_size(count: int) -> str:
    """In the largest unit that it fills: ``512``, ``1.5K``, ``10G``."""
    for unit in "TGMK":
        if count >= _BYTES[unit]:
            return f"{count / _BYTES[unit]:.1f}".removesuffix(".0") + unit
    return str(count)
