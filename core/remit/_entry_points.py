"""The entry points of a group, found by reading ``entry_points.txt`` of each distribution alone.

`importlib.metadata` finds the same, and takes longer to be imported than all of the reading takes.
It is asked only for what is no directory, and where an importer keeps distributions of its own.
"""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from importlib.machinery import PathFinder
from typing import NamedTuple, Protocol


class Distribution(Protocol):
    """What was installed. Its name is as its author wrote it, or as the installer did."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...


class EntryPoint(Protocol):
    """A plugin that may be loaded: `importlib.metadata.EntryPoint` is one."""

    @property
    def name(self) -> str: ...
    @property
    def dist(self) -> Distribution | None: ...
    def load(self) -> object:
        """Imports it. Raises what its module raises."""


class _Installed(NamedTuple):
    name: str
    version: str


class _Found(NamedTuple):
    name: str
    value: str
    dist: Distribution

    def load(self) -> object:
        module, _, attributes = self.value.partition("[")[0].partition(":")
        found: object = importlib.import_module(module.strip())
        for attribute in filter(None, attributes.strip().split(".")):
            found = getattr(found, attribute)
        return found


# The group, and the distribution that remit itself comes with.
GROUP = "remit"


@functools.cache
def installed() -> Sequence[EntryPoint]:
    """The plugins that are installed."""
    return find(GROUP)


def is_foreign(point: EntryPoint) -> bool:
    """Whether it is brought by another distribution than this one."""
    return point.dist is None or point.dist.name != GROUP


def find(group: str, path: Sequence[str] | None = None) -> list[EntryPoint]:
    """Those of all distributions on ``path`` (`sys.path`). Of two with one name the first counts,
    as for an import."""
    if path is None and any(_keeps_distributions(finder) for finder in sys.meta_path):
        from importlib import metadata

        return list(metadata.entry_points(group=group))
    seen: set[str] = set()
    points: list[EntryPoint] = []
    for entry in dict.fromkeys(sys.path if path is None else path):
        for name, place in _distributions(entry or "."):
            if name in seen:
                continue
            seen.add(name)
            if found := list(_points(_read(place, "entry_points.txt"), group)):
                dist = _installed(place)
                points += [_Found(*words, dist) for words in found]
        if entry and os.path.isfile(entry):
            points += _in_archive(entry, group)
    return points


def _keeps_distributions(finder: object) -> bool:
    return finder is not PathFinder and hasattr(finder, "find_distributions")


def _distributions(entry: str) -> Iterator[tuple[str, str]]:
    """The name of each, and the directory where its metadata are."""
    try:
        names = os.listdir(entry)
    except OSError:
        return
    if entry.endswith(".egg"):
        yield _normal(os.path.basename(entry).partition("-")[0]), os.path.join(entry, "EGG-INFO")
    for directory in names:
        if directory.endswith((".dist-info", ".egg-info")):
            name = directory.rpartition(".")[0].partition("-")[0]
            yield _normal(name), os.path.join(entry, directory)


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _installed(place: str) -> _Installed:
    """As its metadata call it."""
    text = _read(place, "METADATA") or _read(place, "PKG-INFO")
    head = dict(line.partition(": ")[::2] for line in text.partition("\n\n")[0].splitlines())
    return _Installed(head.get("Name", ""), head.get("Version", ""))


def _in_archive(entry: str, group: str) -> list[EntryPoint]:
    from importlib import metadata

    dists = metadata.distributions(path=[entry])
    return [point for dist in dists for point in dist.entry_points.select(group=group)]


def _read(place: str, name: str) -> str:
    """Empty where it cannot be read."""
    try:
        with open(os.path.join(place, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _points(text: str, group: str) -> Iterator[tuple[str, str]]:
    if group not in text:
        return
    section = None
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line.strip("[]")
        elif section == group and line and not line.startswith("#"):
            name, equals, value = line.partition("=")
            if equals:
                yield name.strip(), value.strip()
