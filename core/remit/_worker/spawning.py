"""multiprocessing in a function: `spawn` and `forkserver` fork as well.

Both start an interpreter that imports the functions it is to run. Those that were sent here are in
no file: such an interpreter would end at once, and a pool would start another one for ever.
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

# The modules of multiprocessing that start a process, and the method that each stands for.
_METHODS = {
    "multiprocessing.popen_spawn_posix": "spawn",
    "multiprocessing.popen_forkserver": "forkserver",
}


class _Finder:
    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return ModuleSpec(name, self) if name in _METHODS else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # an ordinary one will do

    def exec_module(self, module: ModuleType) -> None:
        from multiprocessing import popen_fork

        class Popen(popen_fork.Popen):
            method = _METHODS[module.__name__]

        vars(module)["Popen"] = Popen


def install() -> None:
    sys.meta_path.insert(0, _Finder())
