"""``remit run`` and ``start``: what they take."""

from __future__ import annotations

from typing import Any

import click

from remit.cli._commands import options
from remit.cli._commands.options import option
from remit.cli._group import WithCommand
from remit.cli._report import UsageError

_COMMAND = "TARGET… -- COMMAND…"


@click.command(
    "run",
    cls=WithCommand,
    usage=_COMMAND,
    examples=(
        "remit run server01 -- uname -a",
        "remit run --shell web1 web2 -- 'journalctl -b | tail -5'",
        "tar c src | remit run build7 -- tar x",
    ),
    exits="that of the command; 128 and the number of the signal that ended it; 124 its time"
    " limit; 126 not executable; 127 not found; 255 the link failed.",
)
@options.targets
@options.work
@option("-n", "--no-stdin", is_flag=True, help="The command reads nothing.")
@option("--keep", is_flag=True, help="As a job that stays there, and goes on without us.")
@option("--name", metavar="NAME", help="With --keep: a name for it.")
@option("--stdin", metavar="FILE", help="With --keep: what it reads, - for all that stdin holds.")
@options.records
@options.raw
@click.pass_obj
def run_command(
    command: list[str] | None,
    /,
    targets: tuple[str, ...],
    name: str | None,
    stdin: str | None,
    **words: Any,
) -> None:
    """Run a command there as if it were here.

    stdin is passed on, output comes as it is made, and the exit status is the command's own.
    Several targets: lines with the target in front, and the worst exit status. Ctrl-C is sent to
    the command as INT; a second one stops it, a third one leaves at once.
    """
    from remit.cli import _work

    if not words["keep"] and (name is not None or stdin is not None):
        raise UsageError("--name and --stdin are for jobs that are kept there", hint="--keep")
    work = _work.parse(command, name=name, **options.taken(words, options.WORK))
    if stdin is not None:
        from remit.cli import _given

        work = work.given(_given.opened(stdin))
    from remit.cli._run import run

    options.exit_with(run, targets, work, **words)


@click.command(
    "start",
    cls=WithCommand,
    usage=_COMMAND,
    examples=(
        "remit start --keep --name build server01 -- make -j8",
        "remit start --shell web1 -- 'sleep 60; date'",
    ),
)
@options.targets
@option(
    "--keep/--return",
    default=False,
    help="Results stay there, or come here (default).",
)
@option("--name", metavar="NAME", help="A name for it.")
@options.work
@option("--stdin", metavar="FILE", help="What it reads, - for all that stdin holds.")
@option("--throttle", metavar="N", default="32", help="Start so many at a time, 32 by default.")
@option("--lease", metavar="TIME", help="With --keep: stop it so long after its last caller.")
@option("--max-output", metavar="SIZE", help="With --keep: the most that is kept, 10M.")
@option(
    "--on-max",
    metavar="HOW",
    default="stop",
    help="stop the job (default), or truncate: keep the newest.",
)
@click.pass_obj
def start_command(
    command: list[str] | None,
    /,
    targets: tuple[str, ...],
    keep: bool,
    throttle: str,
    stdin: str | None,
    **words: Any,
) -> None:
    """Start a command and print its job's id.

    Several targets: ID, a tab and TARGET, a line each, in their order.
    """
    from remit.cli import _amounts, _work

    work = _work.parse(command, name=words.pop("name"), **options.taken(words, options.WORK))
    at_once = _amounts.count("--throttle", throttle)
    from remit.cli import _given
    from remit.cli._start import limits, start

    kept = limits(keep=keep, **words)
    if stdin is not None:
        work = work.given(_given.opened(stdin))
    options.exit_with(start, targets, work, keep=keep, throttle=at_once, kept=kept)
