"""What the caller sends to an interpreter that is to run functions: the sources of the worker.

Where cloudpickle is what programs are written with, it goes along: what is pickled here is then
unpickled there by the same.
"""

from __future__ import annotations

import functools
import zlib
from pathlib import Path

from remit._link import agent_payload

_SENT = ("_worker", "_values")
# What it needs of what the agent has as well, and the packages that these are in.
_SHARED = {
    "_wire": (
        "remit._wire",
        "remit._wire.calls",
        "remit._wire.msgpack",
        "remit._wire.records",
    ),
    "_agent": ("remit._agent", "remit._agent.base", "remit._agent.base.environment"),
}
_IMPORTER = "remit._agent.base.importer"
# What `import remit` means to a function.
_FACE = "remit._worker.inside"


@functools.cache
def kit(version: tuple[int, int], by_value: bool) -> bytes:
    """Compressed source that installs an importer for the worker's modules, for that Python."""
    prepare = agent_payload.preparation(version)
    sources = {name: prepare(text) for name, text in _modules().items()}
    sources["remit"] = sources[_FACE]
    importer = prepare(agent_payload.modules()[_IMPORTER])
    if by_value:
        import cloudpickle  # slow to import, and many programs send no functions

        # Written for such Pythons as ours, so there is nothing to prepare.
        for path in Path(cloudpickle.__file__).parent.glob("*.py"):
            name = "cloudpickle" if path.stem == "__init__" else f"cloudpickle.{path.stem}"
            sources[name] = path.read_text(encoding="utf-8")
    return zlib.compress(f"{importer}\ninstall({sources!r})\n".encode(), 6)


def _modules() -> dict[str, str]:
    sources: dict[str, str] = {}
    for package in _SENT:
        sources.update(agent_payload.sources_of(package))
    for package, names in _SHARED.items():
        there = agent_payload.sources_of(package)
        # Beside the worker's own, these bear no remarks there.
        sources.update({name: agent_payload.bare(there[name]) for name in names})
    return sources
