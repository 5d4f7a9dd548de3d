"""Pure-Python packages as bytes, for an interpreter that does not have them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import zlib
from collections.abc import Iterator
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, ModuleSpec
from types import ModuleType
from typing import Any, cast
from zipimport import zipimporter

import attrs

from remit._errors import ShippingError
from remit._shipping.runtime import is_standard
from remit._wire import msgpack

LIMIT = 32 * 1024 * 1024  # bytes in all, before compression
_BINARY = (*EXTENSION_SUFFIXES, ".so", ".pyd", ".dylib")
_COMPILED = (*BYTECODE_SUFFIXES, ".pyo")
_DIGEST_SIZE = 32  # bytes


@attrs.frozen
class Package:
    """``name`` is that of the top-level package or module; ``body`` is for
    `remit._worker.programs.install`, and ``digest`` tells one content from another."""

    name: str
    digest: bytes
    body: bytes


def package(name_or_module: str | ModuleType) -> Package:
    """A package or single module with all its files, found as an import would find it.

    One given by name is not imported. Reads and compresses it: for a large one, not on an event
    loop. Raises ShippingError, and OSError where a file cannot be read.
    """
    spec = _spec(name_or_module)
    files: dict[str, bytes] = {}
    size, largest = 0, ("", 0)
    for path, data in _contents(spec):
        if path.endswith(_BINARY):
            raise ShippingError(
                f"{spec.name} is not pure Python: {path} is compiled for this computer",
                hint=f"pip install {spec.name} on the target, and name that Python with ?python=",
            )
        size += len(data)
        largest = max(largest, (path, len(data)), key=lambda one: one[1])
        if size > LIMIT:
            raise ShippingError(
                f"{spec.name} is larger than the {LIMIT >> 20} MiB that a shipped package may be",
                evidence=f"the largest of its files so far is {largest[0]}, {largest[1]} bytes",
                hint=f"copy its data to the target, or pip install {spec.name} there",
            )
        files[path] = data
    packed = msgpack.pack({"name": spec.name, "files": dict(sorted(files.items()))})
    digest = hashlib.blake2b(packed, digest_size=_DIGEST_SIZE).digest()
    return Package(spec.name, digest, zlib.compress(packed))


def _spec(name_or_module: str | ModuleType) -> ModuleSpec:
    name: Any = name_or_module if isinstance(name_or_module, str) else name_or_module.__name__
    if not name.replace(".", "_").isidentifier():
        raise ShippingError(f"{name!r} is not the name of a module", hint='session.ship("mypkg")')
    top = name.partition(".")[0]
    if top == "remit":
        raise ShippingError(
            "remit has a part of its own on the target, which another would break",
            hint="import it in the function: what a function needs of it is there",
        )
    if top != name:
        raise ShippingError(f"{name} is part of {top}", hint=f'session.ship("{top}") sends it all')
    if name == "__main__":
        raise ShippingError(
            "__main__ cannot be imported on the target",
            hint="its functions are sent by themselves; put what they import into a module",
        )
    if is_standard(name):
        raise ShippingError(
            f"{name} is part of Python itself", hint="every interpreter has its own: just import it"
        )
    spec: Any = getattr(name_or_module, "__spec__", None)
    try:
        spec = spec or importlib.util.find_spec(name)
    except ValueError:  # it is imported, and made by hand
        spec = None
    if spec is None:
        raise ShippingError(
            f"no module {name} can be found here",
            evidence=f"sys.path is {os.pathsep.join(sys.path)}",
            hint="give the name that you would import",
        )
    return cast(ModuleSpec, spec)


def _contents(spec: ModuleSpec) -> Iterator[tuple[str, bytes]]:
    """Path, with slashes, from above the package, and bytes of each file."""
    loader: Any = spec.loader
    if isinstance(loader, zipimporter):
        return _zipped(spec.name, loader)
    if spec.submodule_search_locations is not None:
        # Several for a namespace package; what comes first is what an import finds.
        return _trees(spec.name, list(spec.submodule_search_locations))
    return _single(spec)


def _single(spec: ModuleSpec) -> Iterator[tuple[str, bytes]]:
    origin = spec.origin or ""
    if origin.endswith(_BINARY):
        yield os.path.basename(origin), b""
    elif origin.endswith(".py"):
        with open(origin, "rb") as file:
            yield f"{spec.name}.py", file.read()
    else:
        raise ShippingError(
            f"{spec.name} has no source: it comes from {origin or 'memory'}",
            hint=f"have a Python with {spec.name} run the function, with ?python=",
        )


def _trees(name: str, roots: list[str]) -> Iterator[tuple[str, bytes]]:
    seen = set()
    for root in roots:
        for path in _files(root, name):
            inside = f"{name}/{os.path.relpath(path, root).replace(os.sep, '/')}"
            if inside not in seen:
                seen.add(inside)
                with open(path, "rb") as file:
                    # One byte more than may be: a huge file is told from one that just fits.
                    yield inside, b"" if path.endswith(_BINARY) else file.read(LIMIT + 1)


def _files(root: str, name: str) -> Iterator[str]:
    entered = set()
    for directory, directories, files in os.walk(root, followlinks=True):
        real = os.path.realpath(directory)
        # A link may lead back to where it stands.
        directories[:] = [] if real in entered else sorted(filter(_is_wanted, directories))
        if real in entered:
            continue
        entered.add(real)
        for file in sorted(files):
            path = os.path.join(directory, file)
            if not _is_text(path):
                raise ShippingError(f"{name} has a file whose name is not UTF-8: {path!r}")
            if os.path.isfile(path) and not file.endswith(_COMPILED):
                yield path


def _is_wanted(directory: str) -> bool:
    return directory != "__pycache__" and not directory.startswith(".")


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _zipped(name: str, loader: zipimporter) -> Iterator[tuple[str, bytes]]:
    import zipfile  # slow to import, and rarely wanted

    prefix = loader.prefix.replace(os.sep, "/")
    with zipfile.ZipFile(loader.archive) as archive:
        for entry in archive.infolist():
            inside = entry.filename[len(prefix) :]
            ours = inside == f"{name}.py" or inside.startswith(f"{name}/")
            wanted = all(map(_is_wanted, inside.split("/")[:-1]))
            wanted = wanted and not (entry.is_dir() or inside.endswith(_COMPILED))
            if ours and wanted and entry.filename.startswith(prefix):
                yield inside, archive.read(entry)
