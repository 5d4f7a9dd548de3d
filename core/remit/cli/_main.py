"""The words of the command line: which commands there are, and what each takes.

What a command does is imported when it is called: `remit --help` waits for none of it.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, TextIO

import typer

from remit import Pruned
from remit._plugins import PluginWarning, plugins
from remit.cli._report import UsageError, say, told, write_all

# Commands whose last words, after `--`, are a command for the target: typer would mix them.
_WITH_COMMAND = frozenset({"run", "start", "enter"})
_OUTPUTS = ("stdout", "stderr")
_STREAMS = (*_OUTPUTS, "value", "log", "warning", "progress")

app = typer.Typer(
    name="remit",
    help="Background jobs on other computers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Targets = Annotated[
    list[str], typer.Argument(metavar="TARGET", help="server01, local:, … (`remit transports`)")
]
Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="server01, local:, … (`remit transports`)")
]
JobWord = Annotated[str, typer.Argument(metavar="JOB", help="An id, a name, 4 letters of an id.")]
JobWords = Annotated[list[str], typer.Argument(metavar="JOB", help="Ids, names, beginnings.")]
On = Annotated[
    str | None, typer.Option("--on", metavar="TARGET", help="Look for JOB on this target.")
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: an array of objects.")]
Raw = Annotated[bool, typer.Option("--raw", help="Show a terminal everything, as it comes.")]
Shell = Annotated[bool, typer.Option("--shell", help="The one word after -- is a /bin/sh line.")]
Cwd = Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Where it runs.")]
Env = Annotated[list[str] | None, typer.Option("--env", metavar="NAME=VALUE", help="Repeatable.")]
Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="TIME", help="Stop it after so long: 90s, 15m.")
]

Leftovers = Annotated[
    str,
    typer.Option(
        "--leftovers", metavar="HOW", help="What outlives it: leave it (default) or stop."
    ),
]


@app.command()
def run(
    context: typer.Context,
    targets: Targets,
    cwd: Cwd = None,
    env: Env = None,
    shell: Shell = False,
    timeout: Timeout = None,
    leftovers: Leftovers = "leave",
    raw: Raw = False,
) -> None:
    """Run a command there as if it were here: remit run TARGET… -- CMD…

    stdin is passed on, output comes as it is made, and the exit status is the command's own.
    Several targets: lines with the target in front, and the worst exit status.
    """
    from remit.cli import _work

    with told():
        work = _work.parse(
            context.obj,
            shell=shell,
            cwd=cwd,
            env=env or (),
            timeout=timeout,
            leftovers=leftovers,
        )
        from remit.cli._run import run

        _exit(run, targets, work, raw=raw)


@app.command()
def start(
    context: typer.Context,
    targets: Targets,
    keep: Annotated[
        bool, typer.Option("--keep/--return", help="Results stay there, or come here (default).")
    ] = False,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME")] = None,
    cwd: Cwd = None,
    env: Env = None,
    shell: Shell = False,
    timeout: Timeout = None,
    leftovers: Leftovers = "leave",
    throttle: Annotated[
        int, typer.Option("--throttle", metavar="N", min=1, help="Start so many at a time.")
    ] = 32,
    lease: Annotated[
        str | None,
        typer.Option(
            "--lease", metavar="TIME", help="With --keep: stop it so long after its last caller."
        ),
    ] = None,
    max_output: Annotated[
        str | None,
        typer.Option("--max-output", metavar="SIZE", help="With --keep: the most that is kept."),
    ] = None,
    on_max: Annotated[
        str,
        typer.Option("--on-max", metavar="HOW", help="stop the job, or truncate: keep the newest."),
    ] = "stop",
) -> None:
    """Start a command and print its job's id: remit start TARGET… -- CMD…"""
    from remit.cli import _work

    with told():
        work = _work.parse(
            context.obj,
            shell=shell,
            name=name,
            cwd=cwd,
            env=env or (),
            timeout=timeout,
            leftovers=leftovers,
        )
        from remit.cli._start import limits, start

        kept = limits(keep=keep, lease=lease, max_output=max_output, on_max=on_max)
        _exit(start, targets, work, keep=keep, throttle=throttle, kept=kept)


@app.command()
def jobs(
    target: Annotated[str | None, typer.Argument(metavar="[TARGET]")] = None,
    as_json: AsJson = False,
) -> None:
    """List the jobs that are known here, or those kept on TARGET."""
    from remit.cli import _jobs, _render

    with told():
        listing = _render.JobArray() if as_json else _render.JobTable(_width())
        if target is not None:
            _await(_jobs.show_kept, target, listing)
        else:
            _await(_jobs.show_known, lambda jobs: _print(listing.part(jobs) + listing.end()))


@app.command()
def receive(
    job: JobWord,
    on: On = None,
    keep: Annotated[bool, typer.Option("--keep", help="Use nothing up.")] = False,
    from_start: Annotated[bool, typer.Option("--from-start", help="All of it again.")] = False,
    no_wait: Annotated[bool, typer.Option("--no-wait", help="What there is now.")] = False,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="S", help="Show only this one; all is used up."),
    ] = None,
    raw: Raw = False,
) -> None:
    """Print what a job produced and was not yet received; follow it until the job ends."""
    from remit.cli._receive import receive

    with told():
        _check_stream(stream, _STREAMS)
        _exit(
            receive,
            job,
            on,
            keep=keep,
            wait=not no_wait,
            from_start=from_start,
            stream=stream,
            raw=raw,
        )


@app.command()
def wait(
    jobs: JobWords,
    on: On = None,
    any_: Annotated[bool, typer.Option("--any", help="Until the first has ended.")] = False,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="TIME", help="At most so long: 90s, 15m.")
    ] = None,
) -> None:
    """Wait until jobs have ended. Exit status 1 if one is not Completed, or not in time."""
    from remit.cli import _amounts, _manage

    with told():
        limit = None if timeout is None else _amounts.seconds("--timeout", timeout)
        _exit(_manage.wait, jobs, on, any_=any_, timeout=limit)


@app.command()
def stop(
    jobs: JobWords,
    on: On = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="TIME", help="From TERM to KILL, at most 1h.")
    ] = "5s",
) -> None:
    """Stop jobs with all their processes."""
    from remit.cli import _amounts, _manage

    with told():
        limit = _amounts.seconds("--grace", grace, most=3600)
        _exit(_manage.stop, jobs, on, grace=limit)


@app.command("rm")
def remove(
    jobs: JobWords,
    on: On = None,
    force: Annotated[bool, typer.Option("--force", help="Stop those that run.")] = False,
) -> None:
    """Remove jobs with their results."""
    from remit.cli import _manage

    with told():
        _exit(_manage.remove, jobs, on, force=force)


@app.command()
def save(
    job: JobWord,
    path: Annotated[str, typer.Argument(metavar="PATH")],
    on: On = None,
    stream: Annotated[str, typer.Option("--stream", metavar="S")] = "stdout",
) -> None:
    """Write a job's results to a file on the computer where they are."""
    from remit.cli import _manage

    with told():
        _check_stream(stream, _OUTPUTS)
        _exit(_manage.save, job, on, path, stream=stream)


@app.command()
def suspend(jobs: JobWords, on: On = None) -> None:
    """Hold jobs where they are."""
    from remit.cli import _manage

    with told():
        _exit(_manage.suspend, jobs, on)


@app.command()
def resume(jobs: JobWords, on: On = None) -> None:
    """Let suspended jobs go on."""
    from remit.cli import _manage

    with told():
        _exit(_manage.resume, jobs, on)


@app.command()
def prune(
    target: Target,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", metavar="TIME", help="Those that ended so long ago: 7d."),
    ] = None,
    max_total: Annotated[
        str | None,
        typer.Option("--max-total", metavar="SIZE", help="The oldest, until 10G are left in all."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove jobs kept on TARGET that are over: the old ones, or the oldest."""
    from remit.cli import _prune

    def show(pruned: Sequence[Pruned]) -> None:
        _print(_prune.json(pruned) if as_json else _prune.table(pruned, _width()))
        _prune.tell_sum(pruned, target, dry_run=dry_run)

    with told():
        _await(
            _prune.prune, target, show, older_than=older_than, max_total=max_total, dry_run=dry_run
        )


@app.command()
def enter(context: typer.Context, target: Target) -> None:
    """Open a terminal there. Inside it, remit start, jobs, receive … manage its own jobs."""
    with told():
        from remit.cli._enter import enter

        _exit(enter, target, command=context.obj)


@app.command()
def transports(as_json: AsJson = False) -> None:
    """List the ways to reach a target, and faulty plugins with what is wrong with them."""
    from remit.cli import _transports

    with told():
        _print(_transports.listing(as_json=as_json))


@app.command()
def doctor(target: Target, as_json: AsJson = False) -> None:
    """Look step by step at what works on TARGET."""
    from remit.cli._doctor import doctor

    with told():
        _exit(doctor, target, as_json=as_json)


@app.command()
def demo(target: Annotated[str, typer.Argument(metavar="[TARGET]")] = "local:") -> None:
    """Walk through the three workflows with real jobs."""
    from remit.cli import _demo

    with told():
        raise SystemExit(_demo.demo(target))


def run_words() -> None:
    """Runs the words of ``sys.argv`` and exits."""
    _open_standard_files()
    warnings.showwarning = _show_warning
    words, command = _split(sys.argv[1:])
    with told():
        from remit.cli import _brought

        _brought.take(app, plugins(), _await)
        app(args=words, obj=command, prog_name="remit")


def _split(words: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """What is for us, and the command after ``--``; None where there is no ``--``."""
    if words and words[0] in _WITH_COMMAND and "--" in words:
        cut = words.index("--")
        return list(words[:cut]), list(words[cut + 1 :])
    return list(words), None


def _open_standard_files() -> None:
    """Where one was closed (`<&-`), the next file to be opened would take its place."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(fd, True)
    os.close(fd)


def _await(function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    import functools

    import anyio

    from remit.cli import _interrupts, _stopped

    _stopped.expect()
    work = functools.partial(function, *args, **options)
    return anyio.run(_interrupts.cut_short_by_ctrl_c, work)


def _exit(function: Callable[..., Awaitable[int]], *args: Any, **options: Any) -> None:
    raise SystemExit(_await(function, *args, **options))


def _print(text: str) -> None:
    write_all(1, text.encode("utf-8", "backslashreplace"))


def _width() -> int | None:
    if not os.isatty(1):
        return None
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def _check_stream(stream: str | None, known: Sequence[str]) -> None:
    if stream is not None and stream not in known:
        raise UsageError(f"--stream {stream!r}", hint=f"--stream {', '.join(known)}")


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    # A person who types commands has no use for the place in our source.
    if issubclass(category, PluginWarning):
        say(f"remit: {message}")
    else:
        say(f"remit: {category.__name__}: {message}")
