"""Numbers that a caller gives, checked where they are given. Pure."""

from __future__ import annotations

import math
from typing import SupportsFloat, SupportsIndex


def seconds(
    name: str,
    value: object,
    *,
    above: float = -math.inf,
    least: float = -math.inf,
    most: float = math.inf,
    infinite: bool = False,
) -> float:
    """``value`` as a number of seconds. Raises TypeError for what is no number and ValueError for
    one out of bounds; ``infinite``: infinity is allowed."""
    if isinstance(value, bool) or not isinstance(value, SupportsFloat):
        raise TypeError(f"{name} must be a number of seconds, not {_shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf if value > 0 else -math.inf  # type: ignore[operator]
    except (TypeError, ValueError) as exc:  # an array, a Decimal that signals
        raise TypeError(f"{name} must be a number of seconds, not {_shown(value)}: {exc}") from exc
    finite = math.isfinite(number) or (infinite and number == math.inf)
    if not (finite and above < number and least <= number <= most):
        low = f"at least {least:g}"
        if above > -math.inf:
            low = f"more than {above:g}" if above else "positive"
        high = f" and at most {most:g}" if most < math.inf else "" if infinite else " and finite"
        raise ValueError(f"{name} must be a number of seconds, {low}{high}, not {_shown(value)}")
    return number


def count(
    name: str, value: object, *, least: int, most: int = (1 << 62) - 1, unit: str = ""
) -> int:
    """``value`` as a whole number, of ``unit``. Raises TypeError and ValueError."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} must be a whole number, not {_shown(value)}")
    try:
        number = value.__index__()
    except TypeError as exc:  # an array
        raise TypeError(f"{name} must be a whole number, not {_shown(value)}: {exc}") from exc
    if not least <= number <= most:
        low = f"at least {least} {unit}".rstrip()
        raise ValueError(f"{name} must be {low} and at most {most}, not {_shown(value)}")
    return number


def _shown(value: object) -> str:
    """A repr that is there, and short: an int may have more digits than Python writes out."""
    try:
        text = repr(value)
    except Exception:
        text = f"a {type(value).__name__} that has no repr"
    return text if len(text) <= 60 else text[:40] + "…"
