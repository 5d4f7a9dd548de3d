"""Sizes and spans of time as people type them: 10G, 7d. Pure."""

from __future__ import annotations

import re

from remit.cli._report import UsageError

_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)([a-zA-Z]?)", re.ASCII)
# More than anybody waits (300 years), and more than any disk has: what is beyond is a slip.
_MOST_SECONDS = 1e10
_MOST_BYTES = float(1 << 61)


def seconds(
    option: str, text: str, *, positive: bool = False, most: float = _MOST_SECONDS
) -> float:
    """``90``, ``90s``, ``15m``, ``12h``, ``7d`` or ``2w``, in seconds. Raises UsageError, with
    ``positive`` for 0 too."""
    span = _amount(option, text, _SECONDS, "a span of time", "90s, 15m, 12h, 7d or 2w")
    if (positive and not span) or span > most:
        low = "more than 0" if positive else "at least 0"
        raise UsageError(f"{option} {text}: it must be {low} and at most {most:g} seconds")
    return span


def size(option: str, text: str, *, positive: bool = False) -> int:
    """``1000``, ``64K``, ``10M`` or ``1.5G``, in bytes; K is 1024. Raises UsageError, with
    ``positive`` for 0 too."""
    count = _amount(option, text, _BYTES, "a size", "1000, 64K, 10M or 1.5G")
    if (positive and count < 1) or count > _MOST_BYTES:
        low = "at least 1 byte" if positive else "at least 0"
        raise UsageError(f"{option} {text}: it must be {low} and at most {_MOST_BYTES:g}")
    return int(count)


def _amount(option: str, text: str, units: dict[str, int], what: str, examples: str) -> float:
    found = _AMOUNT.fullmatch(text)
    unit = None if found is None else units.get(found[2])
    if found is None or unit is None:
        raise UsageError(f"{option} {text!r} is not {what}", hint=f"{option} {examples}")
    return float(found[1]) * unit  # infinite where there are very many digits


def told_size(count: int) -> str:
    """In the largest unit that it fills: ``512``, ``1.5K``, ``10G``."""
    for unit in "TGMK":
        if count >= _BYTES[unit]:
            return f"{count / _BYTES[unit]:.1f}".removesuffix(".0") + unit
    return str(count)
