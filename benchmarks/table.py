"""What was measured, beside what it should be. Pure."""

from collections.abc import Iterable
from typing import NamedTuple


class Floor(NamedTuple):
    """The least, or where ``most`` is true the most, that is good enough."""

    value: float
    unit: str
    most: bool = False

    def holds(self, measured: float) -> bool:
        return measured <= self.value if self.most else measured >= self.value

    def __str__(self) -> str:
        return f"{'≤' if self.most else '≥'} {self.value:g} {self.unit}"


class Row(NamedTuple):
    """``remark`` tells the two times or rates that a ratio was made of."""

    what: str
    loop: str
    measured: float
    floor: Floor
    remark: str = ""

    @property
    def verdict(self) -> str:
        return "ok" if self.floor.holds(self.measured) else "short"


TIMES = "\N{MULTIPLICATION SIGN}"


def at_least(value: float, unit: str = TIMES) -> Floor:
    return Floor(value, unit)


def at_most(value: float, unit: str = TIMES) -> Floor:
    return Floor(value, unit, most=True)


def lines(rows: Iterable[Row]) -> list[str]:
    """The table, a line a row."""
    cells = [("what", "loop", "measured", "floor", "", "remark")]
    cells += [
        (
            row.what,
            row.loop,
            f"{row.measured:.3g} {row.floor.unit}",
            str(row.floor),
            row.verdict,
            row.remark,
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    ]
