"""Commands that plugins bring: as good as ours, and none of them in the place of another."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from remit import RemitError, _entry_points
from remit.cli._commands import COMMANDS

if TYPE_CHECKING:
    import click

    from remit._plugins import Plugins

Run = Callable[..., Any]


@functools.cache
def brought() -> dict[str, click.Command]:
    """Those of all plugins, by name. No plugin is loaded where all of them are remit's own, which
    bring none."""
    if not any(map(_entry_points.is_foreign, _entry_points.installed())):
        return {}
    from remit._plugins import plugins
    from remit.cli._commands import options

    return _commands(plugins(), options.run_async)


def _commands(plugins: Plugins, run: Run) -> dict[str, click.Command]:
    """``run`` runs an async function."""
    import click

    found: dict[str, click.Command] = {}
    owners = dict.fromkeys(COMMANDS, "remit")

    def take(plugin: str, item: object) -> None:
        if not isinstance(item, click.Command):
            raise TypeError(f"{item!r} is no click.Command")
        name = item.name
        if not name:
            raise ValueError(f"{item!r} has no name")
        if name in owners:
            raise TypeError(f"the command {name!r} is taken by {owners[name]!r}")
        _make_ours(item, plugin, run)
        owners[name] = plugin
        found[name] = item

    plugins.gather("remit_commands", take)
    return found


def _make_ours(command: click.Command, plugin: str, run: Run) -> None:
    import click

    command.callback = _as_ours(command.callback, plugin, run)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _make_ours(inner, plugin, run)


def _as_ours(callback: Callable[..., Any] | None, plugin: str, run: Run) -> Run | None:
    """It may be async, and an int that it returns is the exit status. Errors of remit are told
    where it is called from; others are bugs, and name their plugin."""
    if callback is None or getattr(callback, "_remit_taken", False):
        return callback

    import inspect

    import click

    @functools.wraps(callback)
    def command(*args: Any, **options: Any) -> None:
        try:
            done = callback(*args, **options)
            if inspect.isawaitable(done):
                done = run(_awaited, done)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BaseException as exc:
            only = _only(exc)
            if not isinstance(only, (RemitError, OSError, SystemExit, KeyboardInterrupt)):
                only.add_note(f"in a command of the plugin {plugin!r}")
            raise only from only.__cause__
        if isinstance(done, int) and not isinstance(done, bool):
            raise SystemExit(done)

    command._remit_taken = True  # type: ignore[attr-defined]
    return command


async def _awaited(done: Awaitable[Any]) -> Any:
    return await done


def _only(exc: BaseException) -> BaseException:
    """What a task group wrapped, where that is one exception."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        exc = exc.exceptions[0]
    return exc
