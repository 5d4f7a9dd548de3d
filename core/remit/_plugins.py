"""The plugins that are there: found by entry point, asked once, a faulty one reported by name."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import attrs
import pluggy

from remit import _hookspecs
from remit._errors import TargetError
from remit.abc import API, Placement, TakesBareWords, Transport

_T = TypeVar("_T")


class PluginWarning(UserWarning):
    """A plugin is faulty and was left out."""


@attrs.frozen
class Faulty:
    """A plugin that was left out, and why."""

    name: str
    problem: str


class Plugins:
    """All plugins of this process. ``faulty`` lists those that were left out."""

    def __init__(self, found: list[EntryPoint]) -> None:
        self._manager = pluggy.PluginManager(_hookspecs.GROUP)
        self._manager.add_hookspecs(_hookspecs)
        self.faulty: list[Faulty] = []
        for point in found:
            self._guard(point.name, functools.partial(self._load, point))
        self.transports: dict[str, Transport] = {}
        self.placements: dict[str, Placement] = {}
        self._collect()

    def _load(self, point: EntryPoint) -> None:
        self.register(point.load(), point.name)

    def register(self, plugin: object, name: str) -> None:
        """Adds a plugin; raises pluggy's errors where its hooks do not fit."""
        if self._manager.has_plugin(name):
            raise ValueError(f"another plugin is called {name!r}")
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except Exception:
            # What stays half registered would be asked with the rest, and fail with each after it.
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            raise

    def add(self, plugin: object, name: str) -> None:
        """Adds a plugin at run time, as an entry point would have."""
        self.register(plugin, name)
        self._collect()

    def transport(self, scheme: str) -> Transport:
        """The transport of that scheme. Raises TargetError naming those there are."""
        try:
            return self.transports[scheme]
        except KeyError:
            known = ", ".join(f"{name}:" for name in sorted(self.transports)) or "none"
            raise TargetError(
                f"no transport is called {scheme!r}",
                evidence=f"known   {known}",
                hint="`remit transports`, or install the plugin that brings it",
            ) from None

    def bare_word_transport(self) -> Transport | None:
        """The transport that claims targets without a scheme; None: no plugin does."""
        for transport in self.transports.values():
            if isinstance(transport, TakesBareWords) and transport.bare_words:
                return transport
        return None

    def placement(self, name: str) -> Placement:
        """The placement of that name. Raises ValueError naming those there are."""
        try:
            return self.placements[name]
        except KeyError:
            known = ", ".join(map(repr, sorted(self.placements)))
            raise ValueError(f"no placement is called {name!r}; there are: {known}") from None

    def notify(self, hook: str, **facts: Any) -> None:
        """Calls every plugin's ``hook``; one that raises is reported and does not hurt the rest."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            arguments = [facts[name] for name in implementation.argnames]
            self._guard(
                implementation.plugin_name,
                functools.partial(implementation.function, *arguments),
            )

    def listens(self, hook: str) -> bool:
        """Whether any plugin implements ``hook``."""
        return bool(getattr(self._manager.hook, hook).get_hookimpls())

    def _collect(self) -> None:
        self._gather("remit_transports", self._take_transport)
        self._gather("remit_placements", self._take_placement)

    def _gather(self, hook: str, take: Callable[[object], None]) -> None:
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            self._guard(
                implementation.plugin_name,
                functools.partial(_each, implementation.function, take),
            )

    def _take_transport(self, item: object) -> None:
        if not isinstance(item, Transport):
            raise TypeError(f"{item!r} is no Transport")
        _take(self.transports, item.scheme, item, item.api)

    def _take_placement(self, item: object) -> None:
        if not isinstance(item, Placement):
            raise TypeError(f"{item!r} is no Placement")
        _take(self.placements, item.name, item, item.api)

    def _guard(self, name: str, act: Callable[[], object]) -> None:
        try:
            act()
        except (Exception, SystemExit) as exc:  # a module may call sys.exit() when imported
            problem = f"{type(exc).__name__}: {exc}"
            if Faulty(name, problem) not in self.faulty:
                self.faulty.append(Faulty(name, problem))
                warnings.warn(
                    f"remit plugin {name!r} is faulty: {problem}", PluginWarning, stacklevel=2
                )


def _each(function: Callable[[], list[object]], take: Callable[[object], None]) -> None:
    for item in function():
        take(item)


def _take(known: dict[str, _T], name: str, item: _T, api: int) -> None:
    if api != API:
        raise TypeError(f"{item!r} is of api {api}, this remit speaks {API}")
    # Plugins are asked again after `Plugins.add`: the same one is no conflict.
    if type(known.setdefault(name, item)) is not type(item):
        raise TypeError(f"{name!r} is taken by {known[name]!r}")


@functools.cache
def plugins() -> Plugins:
    """The plugins of this process, loaded at first use."""
    return Plugins(list(entry_points(group=_hookspecs.GROUP)))
