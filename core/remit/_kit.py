"""What the caller sends to an interpreter that is to run functions: the sources of the worker.

Where cloudpickle is what programs are written with, it goes along: what is pickled here is then
unpickled there by the same.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path

from remit import _payload

_PACKAGE = Path(__file__).parent
_SHARED = ("_msgpack", "_records", "_limits", "_struct", "_value*")
_ENVIRONMENT = "remit.agent.environment"
# What `import remit` means to a function.
_FACE = "remit.worker.inside"


@functools.cache
def kit(version: tuple[int, int], by_value: bool) -> bytes:
    """Compressed source that installs an importer for the worker's modules, for that Python."""
    prepare = _payload.preparation(version)
    sources = {name: prepare(text) for name, text in _modules().items()}
    sources["remit"] = sources[_FACE]
    importer = prepare((_PACKAGE / "agent/importer.py").read_text(encoding="utf-8"))
    if by_value:
        import cloudpickle  # slow to import, and many programs send no functions

        # Written for such Pythons as ours, so there is nothing to prepare.
        for path in Path(cloudpickle.__file__).parent.glob("*.py"):
            name = "cloudpickle" if path.stem == "__init__" else f"cloudpickle.{path.stem}"
            sources[name] = path.read_text(encoding="utf-8")
    return zlib.compress(f"{importer}\ninstall({sources!r})\n".encode(), 6)


def _modules() -> dict[str, str]:
    paths = {
        f"remit.{path.stem}": path
        for pattern in _SHARED
        for path in sorted(_PACKAGE.glob(f"{pattern}.py"))
    }
    paths[_ENVIRONMENT] = _PACKAGE / "agent/environment.py"
    paths["remit.agent"] = _PACKAGE / "agent/__init__.py"
    for path in sorted((_PACKAGE / "worker").glob("*.py")):
        name = "remit.worker" if path.stem == "__init__" else f"remit.worker.{path.stem}"
        paths[name] = path
    return {name: path.read_text(encoding="utf-8") for name, path in paths.items()}
