"""``remit prune``: kept jobs that are over and old, or that take too much room, are removed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from remit import Pruned
from remit.cli import _amounts, _connecting, _known, _render
from remit.cli._report import UsageError, say

_HEAD = ("ID", "NAME", "STATE", "FINISHED", "SIZE")


async def prune(
    target: str,
    show: Callable[[Sequence[Pruned]], None],
    *,
    older_than: str | None,
    max_total: str | None,
    dry_run: bool,
) -> None:
    """Has what was removed there, or would be, shown. Raises UsageError."""
    age = None if older_than is None else _amounts.seconds("--older-than", older_than)
    total = None if max_total is None else _amounts.size("--max-total", max_total)
    if age is None and total is None:
        raise UsageError(
            "prune needs to know what is too old, or too much",
            hint=f"remit prune {target} --older-than 7d, or --max-total 10G",
        )
    async with _connecting.connect(target) as session:
        pruned = await session.prune(older_than=age, max_total=total, dry_run=dry_run)
        if not dry_run:
            for job in pruned:
                _known.drop(job.id, target)
        show(pruned)


def tell_sum(pruned: Sequence[Pruned], target: str, *, dry_run: bool) -> None:
    verb = "would remove" if dry_run else "removed"
    count = "1 job" if len(pruned) == 1 else f"{len(pruned)} jobs"
    size = _amounts.told_size(sum(job.size for job in pruned))
    say(f"remit: {verb} {count} on {target}, {size}")


def table(pruned: Sequence[Pruned], width: int | None) -> str:
    rows = [
        (
            job.id,
            job.name or "",
            job.state.capitalize(),
            "" if job.finished is None else job.finished.isoformat(sep=" ", timespec="seconds"),
            _amounts.told_size(job.size),
        )
        for job in pruned
    ]
    return _render.table(_HEAD, rows, width) if rows else ""


def json(pruned: Sequence[Pruned]) -> str:
    """An array of objects with the fields of `Pruned`."""
    return _render.array([attrs.asdict(job) for job in pruned])
