"""Listings: a table for people, JSON for programs. Pure.

Who lists nothing waits for no import.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from remit._wire.sanitize import one_line

if TYPE_CHECKING:
    from remit import JobInfo

_BETWEEN = ",\n "
_HEAD = ("ID", "NAME", "STATE", "HASMOREDATA", "LOCATION", "COMMAND")


class JobListing(Protocol):
    """A listing in parts, as the jobs come: any number of `part`, then the `end`."""

    def part(self, jobs: Iterable[JobInfo]) -> str: ...
    def end(self) -> str: ...


class JobTable:
    """One line a job; lines are cut to ``width`` columns where one is given. Columns grow where a
    part has wider cells than those before it."""

    def __init__(self, width: int | None) -> None:
        self._width = width
        self._widths = [0] * len(_HEAD)
        self._head: list[Sequence[str]] = [_HEAD]

    def part(self, jobs: Iterable[JobInfo]) -> str:
        lines = _harmless([*self._head, *map(_cells, jobs)])
        self._head = []
        self._widths = _widest([self._widths, *map(_sizes, lines)])
        return _text(lines, self._widths, self._width)

    def end(self) -> str:
        return ""


class JobArray:
    """An array of objects with the fields of `JobInfo`; times as ISO 8601, with their offset."""

    def __init__(self) -> None:
        self._before = "["

    def part(self, jobs: Iterable[JobInfo]) -> str:
        import attrs

        pieces = []
        for job in jobs:
            pieces += [self._before, _object(attrs.asdict(job))]
            self._before = _BETWEEN
        return "".join(pieces)

    def end(self) -> str:
        return "]\n" if self._before == _BETWEEN else "[]\n"


def array(items: Sequence[dict[str, Any]]) -> str:
    """The items as JSON, one a line, in ASCII: it does nothing to a terminal."""
    return f"[{_BETWEEN.join(map(_object, items))}]\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Columns under ``head``; all but the last as wide as their widest cell. Cells are made
    harmless here."""
    lines = _harmless([head, *rows])
    return _text(lines, _widest(map(_sizes, lines)), width)


def command_line(command: str | tuple[str, ...]) -> str:
    """The command as a person would type it."""
    import shlex

    return command if isinstance(command, str) else shlex.join(command)


def _object(item: dict[str, Any]) -> str:
    import json

    return json.dumps(item, default=_plain)


def _harmless(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    return [[one_line(cell) for cell in row] for row in rows]


def _sizes(cells: Sequence[str]) -> list[int]:
    return [_columns(cell) for cell in cells]


def _widest(sizes: Iterable[Sequence[int]]) -> list[int]:
    return [max(column) for column in zip(*sizes, strict=True)]


def _text(lines: Iterable[Sequence[str]], widths: Sequence[int], limit: int | None) -> str:
    return "".join(_line(cells, widths, limit) + "\n" for cells in lines)


def _cells(job: JobInfo) -> list[str]:
    return [
        job.id,
        job.name or "",
        job.state.capitalize(),
        str(job.has_more_data),
        job.location,
        command_line(job.command) or f"({job.problem})",
    ]


def _line(cells: Sequence[str], widths: Sequence[int], limit: int | None) -> str:
    padded = [
        cell + " " * (width - _columns(cell)) for cell, width in zip(cells, widths, strict=True)
    ]
    line = "  ".join(padded).rstrip()
    return line if limit is None else _cut(line, limit)


def _cut(line: str, limit: int) -> str:
    if _columns(line) <= limit:
        return line
    if line.isascii():
        return line[: limit - 1] + "…"
    from rich.cells import set_cell_size

    return set_cell_size(line, limit - 1).rstrip() + "…"


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def _plain(value: object) -> object:
    from datetime import datetime

    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for a {type(value).__name__}")
