"""Packages that the caller shipped: imported from memory, in front of all that is installed here.

Their files are to be had by importlib.resources and pkgutil.get_data; on disk there is nothing.
"""

from __future__ import annotations

import io
import sys
import zlib
from importlib.machinery import ModuleSpec
from importlib.util import decode_source
from typing import TYPE_CHECKING

from remit._wire.msgpack import unpack
from remit._worker.unwarned import unwarned

if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import IO, Any, Iterator

# Where the files seem to be. No such directory can be met by chance.
ROOT = "<shipped>/"


def install(package_body: bytes) -> None:
    """Makes a shipped package importable. The same once more changes nothing; another content
    replaces what was there, also where it had been imported: who holds the old one keeps it."""
    content: Any = unpack(zlib.decompress(package_body))
    name, files = content["name"], content["files"]
    if _importer not in sys.meta_path:
        sys.meta_path.insert(0, _importer)
        sys.path_hooks.insert(0, _Directory)
    if _importer.add(name, files):
        for imported in [one for one in sys.modules if one.partition(".")[0] == name]:
            del sys.modules[imported]


class _Importer:
    """Finds and loads the modules of all shipped packages."""

    def __init__(self) -> None:
        self._packages: dict[str, dict[str, bytes]] = {}
        self._directories: set[str] = set()

    def add(self, name: str, files: dict[str, bytes]) -> bool:
        """Whether that is news. ``files`` are by path, with slashes, from above the package."""
        if self._packages.get(name) == files:
            return False
        self._packages[name] = files
        self._directories = {
            directory
            for known in self._packages.values()
            for path in known
            for directory in _parents(path)
        }
        return True

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name.partition(".")[0] not in self._packages:
            return None
        file = self._file(name)
        directory = name.replace(".", "/")
        if file is None and directory not in self._directories:
            return None
        is_package = file is None or file.endswith("/__init__.py")
        spec = ModuleSpec(
            name,
            self,  # type: ignore[arg-type]
            origin=None if file is None else ROOT + file,
            is_package=is_package,
        )
        # What gives the module its __file__. A namespace package has none.
        spec.has_location = file is not None
        spec.cached = None
        if is_package:
            spec.submodule_search_locations = [ROOT + directory]
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None  # an ordinary one will do

    def exec_module(self, module: ModuleType) -> None:
        code = self.get_code(module.__name__)
        if code is not None:
            exec(code, module.__dict__)

    def is_package(self, name: str) -> bool:
        file = self._file(name)
        return file is None or file.endswith("/__init__.py")

    def get_filename(self, name: str) -> str:
        file = self._file(name)
        if file is None:
            raise ImportError("%s has no file" % name, name=name)
        return ROOT + file

    def get_code(self, name: str) -> CodeType | None:
        file = self._file(name)
        if file is None:
            return None  # a namespace package
        text = self.get_data(ROOT + file)
        with unwarned():
            code: CodeType = compile(text, ROOT + file, "exec", dont_inherit=True)
        return code

    def get_source(self, name: str) -> str | None:
        """So that a traceback shows its lines."""
        file = self._file(name)
        return None if file is None else decode_source(self.get_data(ROOT + file))

    def get_data(self, path: str) -> bytes:
        """A file by its path under ROOT."""
        inside = path.replace("\\", "/")[len(ROOT) :]
        try:
            return self._packages[_top(inside)][inside]
        except KeyError:
            raise FileNotFoundError("%s was not shipped" % path)

    def get_resource_reader(self, name: str) -> _Reader | None:
        return _Reader(self, name.replace(".", "/")) if self.is_package(name) else None

    def names_in(self, directory: str) -> list[str]:
        """What is in a directory of a package."""
        inside = directory + "/"
        paths = [*self._packages.get(_top(directory), ()), *self._directories]
        return sorted(
            {path[len(inside) :].partition("/")[0] for path in paths if path.startswith(inside)}
        )

    def is_directory(self, path: str) -> bool:
        return path in self._directories

    def is_file(self, path: str) -> bool:
        return path in self._packages.get(_top(path), ())

    def _file(self, name: str) -> str | None:
        """The file of a module, None where it has none."""
        stem = name.replace(".", "/")
        for file in (stem + "/__init__.py", stem + ".py"):
            if self.is_file(file):
                return file
        return None


def _top(path: str) -> str:
    first = path.partition("/")[0]
    return first[:-3] if first == path and path.endswith(".py") else first


def _parents(path: str) -> Iterator[str]:
    at = path.find("/")
    while at >= 0:
        yield path[:at]
        at = path.find("/", at + 1)


class _Directory:
    """What pkgutil asks for the modules of a package; raises ImportError for other paths."""

    def __init__(self, path: str) -> None:
        if not path.startswith(ROOT):
            raise ImportError("%s was not shipped" % path)
        self._path = path[len(ROOT) :]

    def find_spec(self, name: str, target: object = None) -> None:
        return None  # the importer was asked before

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        for name in _importer.names_in(self._path):
            if _importer.is_file(self._path + "/" + name + "/__init__.py"):
                yield prefix + name, True
            elif name.endswith(".py") and name != "__init__.py":
                yield prefix + name[:-3], False


class _Reader:
    """importlib.abc.ResourceReader for Python 3.7 to 3.9, `files` for those after."""

    def __init__(self, importer: _Importer, directory: str) -> None:
        self._importer = importer
        self._directory = directory

    def open_resource(self, resource: str) -> IO[bytes]:
        return io.BytesIO(self._importer.get_data(ROOT + self._directory + "/" + resource))

    def resource_path(self, resource: str) -> str:
        raise FileNotFoundError("%s is in memory only" % resource)

    def is_resource(self, name: str) -> bool:
        return self._importer.is_file(self._directory + "/" + name)

    def contents(self) -> Iterator[str]:
        return iter(self._importer.names_in(self._directory))

    def files(self) -> _Resource:
        return _Resource(self._importer, self._directory)


class _Resource:
    """importlib.resources.abc.Traversable: a file or directory of a package."""

    def __init__(self, importer: _Importer, path: str) -> None:
        self._importer = importer
        self._path = path
        self.name = path.rpartition("/")[2]

    def __str__(self) -> str:
        return ROOT + self._path

    def is_dir(self) -> bool:
        return self._importer.is_directory(self._path)

    def is_file(self) -> bool:
        return self._importer.is_file(self._path)

    def iterdir(self) -> Iterator[_Resource]:
        return (self.joinpath(name) for name in self._importer.names_in(self._path))

    def joinpath(self, *descendants: object) -> _Resource:
        parts = [part for one in descendants for part in str(one).split("/") if part != "."]
        return _Resource(self._importer, "/".join([self._path, *parts]))

    __truediv__ = joinpath

    def read_bytes(self) -> bytes:
        return self._importer.get_data(str(self))

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        with self.open("r", encoding=encoding, errors=errors) as file:
            text: str = file.read()
        return text

    def open(self, mode: str = "r", **how: Any) -> IO[Any]:
        """As io.TextIOWrapper takes it where the mode has no `b`; for reading only."""
        binary = io.BytesIO(self.read_bytes())
        if "b" in mode:
            return binary
        how["encoding"] = how.get("encoding") or "utf-8"
        return io.TextIOWrapper(binary, **how)


_importer = _Importer()
