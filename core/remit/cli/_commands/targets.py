"""What the commands take that are for targets: ``remit enter``, ``prune``, ``doctor`` …"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from remit.cli._commands import options
from remit.cli._commands.options import option
from remit.cli._group import Command, WithCommand

if TYPE_CHECKING:
    from remit import Pruned


@click.command(
    "prune",
    cls=Command,
    examples=("remit prune --older-than 7d server01", "remit prune --dry-run --max-total 10G web1"),
)
@options.target
@option("--older-than", metavar="TIME", help="Those that ended so long ago: 7d.")
@option("--max-total", metavar="SIZE", help="The oldest, until 10G are left in all.")
@option("--dry-run", is_flag=True, help="Only list them.")
@options.as_json
def prune_command(target: str, as_json: bool, dry_run: bool, **words: Any) -> None:
    """Remove jobs kept on TARGET that are over: the old ones, or the oldest."""
    from remit.cli import _prune

    def show(pruned: Sequence[Pruned]) -> None:
        listed = _prune.json(pruned) if as_json else _prune.table(pruned, options.width())
        options.show(listed)
        _prune.tell_sum(pruned, target, dry_run=dry_run)

    options.run_async(_prune.prune, target, show, dry_run=dry_run, **words)


@click.command(
    "enter",
    cls=WithCommand,
    usage="TARGET [-- COMMAND…]",
    examples=("remit enter server01", "remit enter web -- htop"),
    exits="that of the shell or command there; 255 the link failed.",
)
@options.target
@click.pass_obj
def enter_command(command: list[str] | None, /, target: str) -> None:
    """Open a terminal there.

    Inside it, remit start, jobs, receive … manage the jobs of that session. ~. leaves at once.
    """
    from remit.cli._enter import enter

    options.exit_with(enter, target, command=command)


@click.command(
    "login",
    cls=Command,
    examples=("remit login server01", "remit login --for 8h server01", "remit login --exit web1"),
)
@options.argument("target", "TARGET", shell_complete=options.complete_target)
@options.connect_timeout
@option("--for", "stay", metavar="TIME", default="1h", help="After its last use, 1h by default.")
@option("--exit", "leave", is_flag=True, help="Close it.")
def login_command(target: str, stay: str, leave: bool) -> None:
    """Open a connection to TARGET for the commands that come after.

    On this terminal, so that a password or a one-time code can be given.
    """
    from remit.cli import _amounts

    seconds = _amounts.seconds("--for", stay, positive=True)
    from remit.cli import _login

    raise SystemExit(_login.logout(target) if leave else _login.login(target, stay=seconds))


@click.command("transports", cls=Command, examples=("remit transports",))
@options.as_json
def transports_command(as_json: bool) -> None:
    """List the ways to reach a target, and faulty plugins with what is wrong with them."""
    from remit.cli import _transports
    from remit.cli._brought import brought

    brought()  # what is wrong with the commands of plugins is listed, too
    options.show(_transports.listing(as_json=as_json))


@click.command("doctor", cls=Command, examples=("remit doctor server01",))
@options.target
@options.as_json
def doctor_command(target: str, as_json: bool) -> None:
    """Look step by step at what works on TARGET."""
    from remit.cli._doctor import doctor

    options.exit_with(doctor, target, as_json=as_json)


@click.command("demo", cls=Command, examples=("remit demo", "remit demo server01"))
@options.argument("target", "[TARGET]", default="local:")
def demo_command(target: str) -> None:
    """Walk through the three workflows with real jobs, on local: unless TARGET is given."""
    from remit.cli import _demo

    raise SystemExit(_demo.demo(target))


@click.command(
    "completion",
    cls=Command,
    examples=(
        "remit completion bash > ~/.local/share/bash-completion/completions/remit",
        "remit completion zsh > ~/.zfunc/_remit",
        "remit completion fish > ~/.config/fish/completions/remit.fish",
    ),
)
@options.argument("shell", "SHELL")
@click.pass_context
def completion_command(context: click.Context, /, shell: str) -> None:
    """Print what bash, zsh or fish reads so that Tab completes remit's words.

    Commands and options, targets, names and ids of jobs.
    """
    from remit.cli import _completing

    group = context.find_root().command
    assert isinstance(group, click.Group)
    options.show(_completing.script(shell, group))
