"""``remit`` itself, as click has it: commands that are imported once they are called, help in which
each command ends with what it may exit with, and mistakes told as all of remit's are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from remit.cli import _help
from remit.cli._commands import COMMANDS, load
from remit.cli._help import show
from remit.cli._report import UsageError

_AS_ROOT = "--sudo=root"


class Command(click.Command):
    """One of remit's own. ``examples`` are lines to type, ``exits`` says with which status it ends
    where that is not 0, 1, 2 or 255 as everywhere."""

    def __init__(
        self, name: str, *, examples: Sequence[str] = (), exits: str = "", **more: Any
    ) -> None:
        more.update(options_metavar="[OPTION…]", add_help_option=False)
        super().__init__(name, **more)
        self.examples = examples
        self.exits = exits

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples:
                    formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        formatter.write_paragraph()
        formatter.write_text(f"Exit status: {self.exits or _help.EXITS}")

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [*super().get_params(ctx), *EVERYWHERE]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # A USER is written with "=", so that no target is taken for one.
        return super().parse_args(ctx, [_AS_ROOT if word == "--sudo" else word for word in args])

    def invoke(self, ctx: click.Context) -> Any:
        user = ctx.params.pop("sudo", None)
        if user is not None:
            from remit.cli import _sudo

            _sudo.through(ctx.params, user)
        return super().invoke(ctx)


class WithCommand(Command):
    """Its last words, after ``--``, are a command for the target: it finds them as ``ctx.obj``,
    None where there is no ``--``. ``usage`` is what follows its options."""

    def __init__(self, name: str, *, usage: str, **more: Any) -> None:
        super().__init__(name, **more)
        self.usage = usage

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [self.options_metavar or "", self.usage]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.obj = None
        if "--" in args:
            cut = args.index("--")
            ctx.obj, args = args[cut + 1 :], args[:cut]
        return super().parse_args(ctx, args)


class Remit(click.Group):
    """All commands, those of plugins too. ``brought`` gives these, by name; it is asked where no
    command of ours is meant."""

    def __init__(self, brought: Callable[[], dict[str, click.Command]]) -> None:
        super().__init__(
            "remit",
            params=[*EVERYWHERE, VERSION],
            add_help_option=False,
            context_settings={"max_content_width": 100},
        )
        self._brought = brought

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS, *self._brought()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return self._brought().get(cmd_name)
        return load(cmd_name)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        lines = {name: command.get_short_help_str(80) for name, command in self._brought().items()}
        formatter.write(_help.overview(lines))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, *rest = args
        command = self.get_command(ctx, name)
        if command is None:
            import difflib

            near = difflib.get_close_matches(name, self.list_commands(ctx))
            raise UsageError(f"there is no command {name!r}", hint=_or("remit --help", near))
        return name, command, rest

    def run(self, words: Sequence[str]) -> None:
        """Runs the words. Raises SystemExit with a status where a command does, UsageError for
        words that no command takes, and what the command raises."""
        with _told_as_ours(), self.make_context("remit", list(words)) as context:
            self.invoke(context)


def _show_help(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        show(ctx.get_help() + "\n")
        raise SystemExit(0)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        show(_help.version())
        raise SystemExit(0)


def _more_words(ctx: click.Context, param: click.Parameter, value: int) -> None:
    if value:
        from remit.cli import _logging

        _logging.show(value)


# What every command takes.
EVERYWHERE: list[click.Parameter] = [
    click.Option(
        ["-v", "--verbose"],
        count=True,
        expose_value=False,
        callback=_more_words,
        help="Say on stderr what remit does; -vv says more.",
    ),
    click.Option(
        ["-h", "--help"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_show_help,
        help="Show this.",
    ),
]


VERSION = click.Option(
    ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_show_version
)


@contextmanager
def _told_as_ours() -> Iterator[None]:
    """What click says of wrong words, in the form of all of remit's errors."""
    try:
        yield
    except click.exceptions.Exit as exc:
        raise SystemExit(exc.exit_code) from None
    except click.UsageError as exc:
        _refuse(exc)
    except click.ClickException as exc:
        raise UsageError(exc.format_message()) from None


def _refuse(exc: click.UsageError) -> NoReturn:
    context = exc.ctx
    path = "remit" if context is None else context.command_path
    usage = "" if context is None else context.get_usage().partition(": ")[2]
    message, near = _words(exc)
    raise UsageError(
        message, evidence=usage and f"usage   {usage}", hint=_or(f"{path} --help", near)
    )


def _words(exc: click.UsageError) -> tuple[str, Sequence[str]]:
    """What is wrong, and what may have been meant."""
    if isinstance(exc, click.NoSuchOption):
        return f"there is no option {exc.option_name}", _alike(exc)
    if isinstance(exc, click.MissingParameter) and exc.param is not None:
        return f"{exc.param.make_metavar(exc.ctx)} is missing", ()  # type: ignore[arg-type]
    if isinstance(exc, click.BadParameter) and exc.param is not None:
        return f"{exc.param.opts[0]}: {exc.message}", ()
    text = exc.format_message().rstrip(".")
    return text[:1].lower() + text[1:], ()


def _alike(exc: click.NoSuchOption) -> list[str]:
    """Of what click offers that which is alike without its dashes, which all options share."""
    import difflib

    asked = exc.option_name.lstrip("-")
    names = {name.lstrip("-"): name for name in exc.possibilities or ()}
    return [names[name] for name in difflib.get_close_matches(asked, names)]


def _or(command: str, near: Sequence[str]) -> str:
    """Did you mean, and where to look."""
    return " or ".join([*near, f"`{command}`"])
