"""Imports modules from memory: the agent that the caller sends is on no disk of the target.

The caller sends this file in front of the sources, followed by a call of `install`.
"""

from __future__ import annotations

import sys
from _frozen_importlib import ModuleSpec  # importlib's own front door takes long to import
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType


class Importer:
    """Finds the modules in ``sources`` (name: source). Each is compiled when first imported."""

    def __init__(self, sources: dict[str, str]) -> None:
        self.sources: dict[str, str] = {}
        self.add(sources)

    def add(self, sources: dict[str, str]) -> None:
        """Finds these, too. What is there already stays."""
        self.sources = dict(sources, **self.sources)
        self._packages = {name.rpartition(".")[0] for name in self.sources}

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name not in self.sources:
            return None
        return ModuleSpec(name, self, is_package=name in self._packages)  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # an ordinary one will do

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__
        file = name.replace(".", "/") + ".py"
        exec(compile(self.sources[name], file, "exec", dont_inherit=True), module.__dict__)

    def get_source(self, name: str) -> str:
        """So that a traceback shows its lines."""
        return self.sources[name]


def install(sources: dict[str, str]) -> None:
    # In front: no other `remit` that may be installed on the target is meant.
    sys.meta_path.insert(0, Importer(sources))
