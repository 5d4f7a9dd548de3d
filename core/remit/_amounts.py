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
        raise TypeError(f"{name} is a number of seconds, not {value!r}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    finite = math.isfinite(number) or (infinite and number == math.inf)
    if not (finite and above < number and least <= number <= most):
        low = f"more than {above:g}" if above > -math.inf else f"at least {least:g}"
        high = f" and at most {most:g}" if most < math.inf else "" if infinite else " and finite"
        raise ValueError(f"{name} must be {low}{high}, not {value!r}")
    return number


def count(name: str, value: object, *, least: int, most: int = (1 << 62) - 1) -> int:
    """``value`` as a whole number. Raises TypeError and ValueError."""
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    number = value.__index__()
    if not least <= number <= most:
        raise ValueError(f"{name} must be {least} to {most}, not {value!r}")
    return number
