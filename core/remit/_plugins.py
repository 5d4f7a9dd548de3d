"""The plugins that are there: found by entry point, checked once, a faulty one reported by name."""

from __future__ import annotations

import functools
import inspect
import logging
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import attrs
import pluggy

from remit import _entry_points, _hookspecs
from remit._entry_points import EntryPoint, is_foreign
from remit._errors import TargetError, told
from remit._public import named_as_written
from remit._wire.sanitize import one_line
from remit.abc import API, Placement, TakesBareWords, TakesOptions, Transport

# RFC 3986, 3.1; the address follows a colon.
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
# Options that every transport has; they are for the agent, and for how it is started.
COMMON_OPTIONS = frozenset({"python", "state", "via"})
# Seconds that a plugin may take to load before it is named.
PATIENCE = 2.0


class PluginWarning(UserWarning):
    """A plugin is faulty and was left out."""


@attrs.frozen
class Faulty:
    """A plugin of which something was left out, and why."""

    name: str
    problem: str


@attrs.frozen
class _Claim:
    """Who brought a thing that only one may bring."""

    plugin: str
    thing: Any


class _Manager(pluggy.PluginManager):
    """Takes the hooks of a plugin that it knows how to call, and has the others reported."""

    def __init__(self, refuse: Callable[[str, str], None]) -> None:
        super().__init__(_entry_points.GROUP)
        self.add_hookspecs(_hookspecs)
        self._refuse = refuse
        self._loading = ""

    def load(self, plugin: object, name: str) -> None:
        self._loading = name
        self.register(plugin, name=name)

    def parse_hookimpl_opts(self, plugin: object, name: str) -> Any:
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None:
            return None
        problem = self._problem(getattr(plugin, name), str(options.get("specname") or name))
        if problem is None:
            return options
        self._refuse(self._loading, problem)
        return None

    def _problem(self, function: Callable[..., object], name: str) -> str | None:
        spec = getattr(getattr(self.hook, name, None), "spec", None)
        if spec is None:
            return f"unknown hook {name!r}: it may be of a later remit"
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            return f"hook {name!r} is an async function; hooks are plain functions"
        if inspect.isgeneratorfunction(function):
            return f"hook {name!r} is a generator; hooks are plain functions"
        unknown = set(inspect.signature(function).parameters) - set(spec.argnames)
        if unknown:
            known = ", ".join(spec.argnames) or "none"
            return f"Argument(s) {unknown} of hook {name!r} are unknown; there are: {known}"
        return None


class Plugins:
    """All plugins of this process. ``faulty`` lists what was left out of them, and why: what went
    wrong first, of each plugin and hook."""

    def __init__(self, found: Sequence[EntryPoint]) -> None:
        self._manager = _Manager(self._note)
        self._faults: dict[tuple[str, str], Faulty] = {}
        self._transports: dict[str, _Claim] = {}
        self._placements: dict[str, _Claim] = {}
        self._bare_words: _Claim | None = None
        self._origins: dict[str, str] = {}  # the distributions that they came with
        self._ours: set[str] = set()
        # Things a test or a program may add to and take from.
        self.transports: dict[str, Transport] = {}
        self.placements: dict[str, Placement] = {}
        # Ours come first, whatever the order of the entry points: nobody takes their names.
        for point in sorted(found, key=is_foreign):
            if not is_foreign(point):
                self._ours.add(point.name)
            with self._guarded(point.name), _named_when_slow(point.name):
                self._register(point.load(), point.name, _origin(point))

    @property
    def faulty(self) -> list[Faulty]:
        return list(self._faults.values())

    def add(self, plugin: object, name: str) -> None:
        """Adds a plugin at run time, as an entry point would have. Raises ValueError where another
        plugin has the name."""
        self._register(plugin, name)

    def whose(self, thing: object) -> str:
        """The name of the plugin that brought a transport or a placement."""
        for claim in (*self._transports.values(), *self._placements.values()):
            if claim.thing is thing:
                return claim.plugin
        return type(thing).__module__.partition(".")[0]

    def is_ours(self, name: str) -> bool:
        """Whether that plugin comes with remit itself."""
        return name in self._ours

    # -- what they bring

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
        return None if self._bare_words is None else self._bare_words.thing

    def placement(self, name: str) -> Placement:
        """The placement of that name. Raises ValueError naming those there are."""
        try:
            return self.placements[name]
        except KeyError:
            known = ", ".join(map(repr, sorted(self.placements)))
            raise ValueError(f"no placement is called {name!r}; there are: {known}") from None

    # -- hooks

    def notify(
        self, hook: str, each: Callable[[str], Mapping[str, Any]] | None = None, **facts: Any
    ) -> None:
        """Calls every plugin's ``hook``; one that raises is reported and does not hurt the rest.
        ``each`` gives facts for one plugin, by its name."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            told = facts if each is None else each(implementation.plugin_name)
            arguments = [told[name] for name in implementation.argnames]
            with self._guarded(implementation.plugin_name, hook):
                implementation.function(*arguments)

    def listens(self, hook: str, argument: str | None = None) -> bool:
        """Whether any plugin implements ``hook``, and takes ``argument``."""
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return any(argument is None or argument in one.argnames for one in found)

    def report(self, plugin: str, where: str, exc: BaseException) -> None:
        """Says what a plugin did wrong where nobody can be given the exception: once a place."""
        self._note(plugin, told(exc), where)

    # -- how they come

    def _register(self, plugin: object, name: str, origin: str = "") -> None:
        if self._manager.has_plugin(name):
            this = f"; this one is of {origin}" if origin else ""
            raise ValueError(f"there is {self._named(name)} already{this}")
        self._manager.load(plugin, name)
        self._origins[name] = origin
        self.gather("remit_transports", self._take_transport, of=name)
        self.gather("remit_placements", self._take_placement, of=name)

    def gather(
        self, hook: str, take: Callable[[str, object], None], *, of: str | None = None
    ) -> None:
        """Calls ``take(plugin, item)`` for each item that plugins (``of``: that one) return from
        ``hook``. What is wrong with one is noted, and no fault of the others."""
        for implementation in getattr(self._manager.hook, hook).get_hookimpls():
            plugin = implementation.plugin_name
            if of in (None, plugin):
                with self._guarded(plugin, hook):
                    for number, item in enumerate(implementation.function()):
                        with self._guarded(plugin, f"{hook} {number}"):
                            take(plugin, item)

    def _take_transport(self, plugin: str, item: object) -> None:
        if not isinstance(item, Transport):
            raise TypeError(f"{item!r} is not a Transport")
        _check_api(item, item.api)
        if not isinstance(item.scheme, str) or not _SCHEME.fullmatch(item.scheme):
            raise ValueError(
                f"{item.scheme!r} is not a scheme: a letter, then a-z 0-9 + . -, small"
            )
        _check_options(item)
        self._claim(self._transports, item.scheme, _Claim(plugin, item))
        self.transports[item.scheme] = item
        if isinstance(item, TakesBareWords) and item.bare_words:
            if self._bare_words is not None:
                raise TypeError(
                    "targets without a scheme are taken by "
                    f"{self._named(self._bare_words.plugin)}; {item.scheme}: works"
                )
            self._bare_words = _Claim(plugin, item)

    def _take_placement(self, plugin: str, item: object) -> None:
        if not isinstance(item, Placement):
            raise TypeError(f"{item!r} is not a Placement")
        _check_api(item, item.api)
        if not isinstance(item.name, str) or not _WORD.fullmatch(item.name):
            raise ValueError(
                f"{item.name!r} is not a name for a placement: a letter, then A-Z0-9_.-"
            )
        if not isinstance(item.spools, bool):
            raise TypeError(f"spools of placement {item.name!r} is {item.spools!r}, not a bool")
        self._claim(self._placements, item.name, _Claim(plugin, item))
        self.placements[item.name] = item

    def _claim(self, known: dict[str, _Claim], name: str, claim: _Claim) -> None:
        first = known.setdefault(name, claim)
        if first is not claim:
            raise TypeError(f"{name!r} is taken by {self._named(first.plugin)}")

    def _named(self, plugin: str) -> str:
        origin = self._origins.get(plugin)
        return f"plugin {plugin!r}" + (f" of {origin}" if origin else "")

    @contextmanager
    def _guarded(self, name: str, where: str = "") -> Iterator[None]:
        try:
            yield
        except BaseException as exc:  # a module may call sys.exit() when imported
            if isinstance(exc, KeyboardInterrupt) and not where:
                raise  # somebody does not wait for a module that takes long to load
            self._note(name, told(exc), where)

    def _note(self, name: str, problem: str, where: str = "") -> None:
        # Once for each plugin and place: what raises at each record is told of once.
        place = (name, where or problem)
        if place not in self._faults:
            self._faults[place] = Faulty(name, problem)
            # Commands are asked for once: nothing else is meant there.
            place_said = f" (in {where})" if where not in ("", "remit_commands") else ""
            warn(f"remit plugin {name!r} is faulty: {problem}{place_said}", PluginWarning)


def warn(text: str, kind: type[Warning]) -> None:
    """Warns from where an exception would reach the wrong one, as with ``-W error``: then it is
    logged. The text is made harmless for a terminal."""
    try:
        warnings.warn(one_line(text), kind, stacklevel=2)
    except Warning:
        logging.getLogger("remit").warning("%s", one_line(text))


@contextmanager
def _named_when_slow(name: str) -> Iterator[None]:
    """Says so where loading a plugin takes long: one that hangs would hang even ``--help``."""
    words = f"remit waits for its plugin {name!r}, which takes long to load"
    timer = threading.Timer(PATIENCE, warn, (words, PluginWarning))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _origin(point: EntryPoint) -> str:
    return "" if point.dist is None else f"{point.dist.name} {point.dist.version}"


def _check_api(item: object, api: object) -> None:
    if api != API:
        raise TypeError(f"{item!r} is of api {api}, this remit speaks {API}")


def _check_options(item: Transport) -> None:
    if not isinstance(item, TakesOptions):
        return
    names: object = item.option_names
    if isinstance(names, str) or not isinstance(names, Collection):
        raise TypeError(f"option_names of {item.scheme}: is {names!r}, not a collection of names")
    for name in names:
        if not isinstance(name, str) or not _WORD.fullmatch(name):
            raise ValueError(f"option_names of {item.scheme}: {name!r} is no name")
        if name in COMMON_OPTIONS:
            raise ValueError(f"option_names of {item.scheme}: {name!r} is an option of remit's own")


@functools.cache
def plugins() -> Plugins:
    """The plugins of this process, loaded at first use."""
    return Plugins(_entry_points.installed())


named_as_written(__name__)
