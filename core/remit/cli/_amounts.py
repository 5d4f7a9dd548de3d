"""Sizes and spans of time as people type them: 10G, 7d. Pure."""

from __future__ import annotations

import re

from remit._wire.requests import MOST_SECONDS
from remit.cli._report import UsageError

# The largest first, as people type them together.
_SECONDS = {"w": 7 * 86400, "d": 86400, "h": 3600, "m": 60, "s": 1}
_BYTES = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_NUMBER = r"\d+(?:\.\d*)?|\.\d+"
_SIZE = re.compile(rf"({_NUMBER})([A-Z]?)", re.ASCII)
_PLAIN = re.compile(_NUMBER, re.ASCII)
_SPAN = re.compile("".join(rf"(?:({_NUMBER}){unit})?" for unit in _SECONDS), re.ASCII)
# More than anybody waits (300 years), and more than any disk has: what is beyond is a slip.
_MOST_BYTES = float(1 << 61)
_MOST_COUNT = 1 << 31


def seconds(option: str, text: str, *, positive: bool = False, most: float = MOST_SECONDS) -> float:
    """``90``, ``90s``, ``15m``, ``2h30m``, ``7d`` or ``2w``, in seconds. Raises UsageError, with
    ``positive`` for 0 too."""
    span = _span(text)
    if span is None:
        raise _no(option, text, "a span of time", "90s, 15m, 2h30m or 7d")
    if (positive and not span) or span > most:
        low = "more than 0" if positive else "at least 0"
        raise UsageError(f"{option} {text}: it must be {low} and at most {most:g} seconds")
    return span


def _span(text: str) -> float | None:
    if _PLAIN.fullmatch(text):
        return float(text)  # infinite where there are very many digits
    found = _SPAN.fullmatch(text) if text else None
    if found is None:
        return None
    parts = zip(found.groups(), _SECONDS.values(), strict=True)
    return sum(float(number) * unit for number, unit in parts if number is not None)


def size(option: str, text: str, *, positive: bool = False) -> int:
    """``1000``, ``64K``, ``10M`` or ``1.5G``, in bytes; K is 1024. Raises UsageError, with
    ``positive`` for 0 too."""
    found = _SIZE.fullmatch(text)
    if found is None or found[2] not in _BYTES:
        raise _no(option, text, "a size", "1000, 64K, 10M or 1.5G")
    count = float(found[1]) * _BYTES[found[2]]
    if (positive and count < 1) or count > _MOST_BYTES:
        low = "at least 1 byte" if positive else "at least 0"
        raise UsageError(f"{option} {text}: it must be {low} and at most {_MOST_BYTES:g}")
    return int(count)


def count(option: str, text: str, *, least: int = 1) -> int:
    """A whole number in decimal. Raises UsageError."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 12 else None
    if number is None or not least <= number <= _MOST_COUNT:
        raise UsageError(f"{option} {text!r} is no whole number from {least} on")
    return number


def _no(option: str, text: str, what: str, examples: str) -> UsageError:
    return UsageError(f"{option} {text!r} is not {what}", hint=f"{option} {examples}")


def told_size(count: int) -> str:
    """In the largest unit that it fills: ``512``, ``1.5K``, ``10G``."""
    for unit in "TGMK":
        if count >= _BYTES[unit]:
            return f"{count / _BYTES[unit]:.1f}".removesuffix(".0") + unit
    return str(count)
