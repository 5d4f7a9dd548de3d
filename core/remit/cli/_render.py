"""Listings: a table for people, JSON for programs. Pure."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import attrs

from remit import JobInfo
from remit.agent.harmless import one_line

_HEAD = ("ID", "NAME", "STATE", "HASMOREDATA", "LOCATION", "COMMAND")


def job_table(jobs: Iterable[JobInfo], width: int | None) -> str:
    """One line a job; lines are cut to ``width`` columns where one is given."""
    return table(_HEAD, [_cells(job) for job in jobs], width)


def job_json(jobs: Iterable[JobInfo]) -> str:
    """An array of objects with the fields of `JobInfo`; times as ISO 8601, with their offset."""
    return array([attrs.asdict(job) for job in jobs])


def array(items: Sequence[dict[str, Any]]) -> str:
    """The items as JSON, one a line, in ASCII: it does nothing to a terminal."""
    lines = ",\n ".join(json.dumps(item, default=_plain) for item in items)
    return f"[{lines}]\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None) -> str:
    """Columns under ``head``; all but the last as wide as their widest cell. Cells are made
    harmless here."""
    lines = [[one_line(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(_columns, column)) for column in zip(*lines, strict=True)]
    return "".join(_line(cells, widths, width) + "\n" for cells in lines)


def command_line(command: str | tuple[str, ...]) -> str:
    """The command as a person would type it."""
    return command if isinstance(command, str) else shlex.join(command)


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
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for a {type(value).__name__}")
