"""Commands that plugins bring: as good as ours, and none of them in the place of another."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import typer
import typer.main
from typer.models import CommandInfo, TyperInfo

from remit import RemitError
from remit._plugins import Plugins

Run = Callable[..., Any]
Brought = CommandInfo | TyperInfo


def take(app: typer.Typer, plugins: Plugins, run: Run) -> None:
    """Has each plugin add its commands to ``app``. ``run`` runs an async function."""
    taken = dict.fromkeys(_names(app), "remit")
    for plugin, hook in plugins.each("remit_cli"):
        before = _registered(app)
        callback = app.registered_callback
        hook(app=app)
        if app.registered_callback is not callback:
            app.registered_callback = callback
            plugins.report(plugin, "remit_cli callback", TypeError("the callback is remit's own"))
        for brought in _registered(app):
            if any(brought is one for one in before):
                continue
            names = _names_of(brought)
            clash = next((name for name in names if taken.get(name, plugin) != plugin), None)
            if clash is None:
                taken.update(dict.fromkeys(names, plugin))
                _make_ours(brought, plugin, run)
                continue
            _remove(app, brought)
            words = f"the command {clash!r} is taken by {taken[clash]!r}"
            plugins.report(plugin, f"remit_cli {clash}", TypeError(words))


def _registered(app: typer.Typer) -> list[Brought]:
    return [*app.registered_commands, *app.registered_groups]


def _remove(app: typer.Typer, brought: Brought) -> None:
    if isinstance(brought, CommandInfo):
        app.registered_commands.remove(brought)
    else:
        app.registered_groups.remove(brought)


def _names(app: typer.Typer) -> list[str]:
    return [name for one in _registered(app) for name in _names_of(one)]


def _names_of(brought: Brought) -> list[str]:
    """Those that a command or a group takes, as typer has them."""
    if isinstance(brought.name, str):
        return [brought.name]
    if isinstance(brought, CommandInfo):
        assert brought.callback is not None
        return [typer.main.get_command_name(brought.callback.__name__)]
    inner = brought.typer_instance
    if inner is None:
        return []
    # Without a name of its own its commands stand beside ours.
    return [inner.info.name] if isinstance(inner.info.name, str) else _names(inner)


def _make_ours(brought: Brought, plugin: str, run: Run) -> None:
    if isinstance(brought, CommandInfo):
        brought.callback = _as_ours(brought.callback, plugin, run)
    elif brought.typer_instance is not None:
        inner = brought.typer_instance
        for one in _registered(inner):
            _make_ours(one, plugin, run)


def _as_ours(callback: Callable[..., Any] | None, plugin: str, run: Run) -> Run | None:
    """It may be async, and an int that it returns is the exit status. Errors of remit are told
    where it is called from; others are bugs, and name their plugin."""
    if callback is None or getattr(callback, "_remit_taken", False):
        return callback

    @functools.wraps(callback)
    def command(*args: Any, **options: Any) -> None:
        try:
            done = callback(*args, **options)
            if inspect.isawaitable(done):
                done = run(_awaited, done)
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
