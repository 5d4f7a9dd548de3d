"""Arguments and options that several commands share, and how their functions are run."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from remit.cli._report import UsageError, write_all

if TYPE_CHECKING:
    from remit.cli._receive import View

_F = TypeVar("_F", bound=Callable[..., Any])

OUTPUTS = ("stdout", "stderr")
STREAMS = (*OUTPUTS, "value", "log", "warning", "progress")


def option(*names: str, **more: Any) -> Callable[[_F], _F]:
    """`click.option`, with a dash in the place of a default that is None."""
    return click.option(*names, **more)


def argument(name: str, metavar: str, **more: Any) -> Callable[[_F], _F]:
    return click.argument(name, metavar=metavar, **more)


def together(*decorators: Callable[[Any], Any]) -> Callable[[_F], _F]:
    """As if they stood above the function, one below the other."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _keep_connect_timeout(_: click.Context, _param: click.Parameter, text: str | None) -> None:
    if text is not None:
        from remit.cli import _amounts

        limit = _amounts.seconds("--connect-timeout", text, positive=True)
        from remit.cli import _connecting

        _connecting.timeout = limit


def complete_target(_: click.Context, _param: click.Parameter, begun: str) -> list[Any]:
    from remit.cli import _completing

    return _completing.targets(begun)


def _complete_job(_: click.Context, _param: click.Parameter, begun: str) -> list[Any]:
    from remit.cli import _completing

    return _completing.jobs(begun)


connect_timeout = option(
    "--connect-timeout",
    metavar="TIME",
    expose_value=False,
    callback=_keep_connect_timeout,
    help="How long reaching a target may take, 30s by default.",
)
# `Command` takes it, and makes it part of the targets: `_sudo.through`.
sudo = option(
    "--sudo",
    metavar="[=USER]",
    help="As USER there, root by default: `sudo -n -u USER --` before remit's agent.",
)
reaching = together(connect_timeout, sudo)
target = together(argument("target", "TARGET", shell_complete=complete_target), reaching)
targets = together(
    argument("targets", "TARGET…", nargs=-1, required=True, shell_complete=complete_target),
    reaching,
)
perhaps_target = together(
    argument("target", "[TARGET]", required=False, shell_complete=complete_target),
    reaching,
)
job = argument("job", "JOB", shell_complete=_complete_job)
jobs = argument("jobs", "JOB…", nargs=-1, required=True, shell_complete=_complete_job)
perhaps_jobs = argument("jobs", "JOB…", nargs=-1, shell_complete=_complete_job)
on = together(
    option(
        "--on",
        metavar="TARGET",
        help="Look for JOB on this target.",
        shell_complete=complete_target,
    ),
    reaching,
)
as_json = option("--json", "as_json", is_flag=True, help="For programs: an array of objects.")
records = option("--json", "as_json", is_flag=True, help="For programs: an object a record.")
raw = option("--raw", is_flag=True, help="Show a terminal everything, as it comes.")
# How a command is to run.
work = together(
    option("--cwd", metavar="DIR", help="Where it runs."),
    option(
        "--env", metavar="NAME=VALUE", multiple=True, help="A variable; NAME alone: as it is here."
    ),
    option("--shell", is_flag=True, help="The one word after -- is a /bin/sh line."),
    option("--login", is_flag=True, help="By the account's login shell, as after a login."),
    option("--timeout", metavar="TIME", help="Stop it after so long: 90s, 15m, 2h30m."),
    option(
        "--leftovers",
        metavar="HOW",
        default="leave",
        help="What outlives it: leave it (default) or stop.",
    ),
)
WORK = ("cwd", "env", "shell", "login", "timeout", "leftovers")


def taken(words: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Takes those out of ``words``."""
    return {name: words.pop(name) for name in names}


def run_async(function: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
    """Runs it to its end, and returns what it returns."""
    import functools

    import anyio

    from remit.cli import _connecting, _interrupts, _stopped

    _stopped.expect()
    _connecting.reuse()
    work = functools.partial(function, *args, **options)
    return anyio.run(_interrupts.cut_short_by_ctrl_c, work)


def exit_with(function: Callable[..., Awaitable[int]], *args: Any, **options: Any) -> None:
    """Runs it, and ends with the status that it returns."""
    raise SystemExit(run_async(function, *args, **options))


def show(text: str) -> None:
    write_all(1, text.encode("utf-8", "backslashreplace"))


def width() -> int | None:
    """Of the terminal that stdout is; None where it is none."""
    if not os.isatty(1):
        return None
    try:
        return os.get_terminal_size(1).columns or None
    except OSError:
        return None


def check_stream(stream: str | None, known: Sequence[str]) -> None:
    if stream is not None and stream not in known:
        raise UsageError(f"--stream {stream!r}", hint=f"--stream {', '.join(known)}")


def view(*, tail: str | None, since: str | None, stream: str | None, **words: Any) -> View:
    """What is shown of a job's output. Raises UsageError."""
    from remit.cli import _amounts

    check_stream(stream, STREAMS)
    lines = None if tail is None else _amounts.count("--tail", tail, least=0)
    begin = None if since is None else _amounts.size("--since", since)
    from remit.cli._receive import View

    return View(tail=lines, since=begin, stream=stream, **words)
