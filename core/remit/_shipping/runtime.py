"""The interpreter that will run a function: what is known of it, and which modules it may have."""

from __future__ import annotations

import functools
import os.path
import platform
import sys
from types import ModuleType

import attrs

from remit._worker.programs import NEW_MODULES

# Where distributions are installed, Debian's name for it among them.
_INSTALLED = frozenset({"site-packages", "dist-packages"})
# The agent has a `remit` of its own; cloudpickle goes along where functions go by value.
_OURS, _PICKLER = "remit", "cloudpickle"


# Part of the key under which programs are kept, and so hashed at each call.
@attrs.frozen(cache_hash=True)
class Runtime:
    """``implementation`` is its platform.python_implementation(); ``shipped`` the top-level names
    of the packages that it was sent, ``contents`` their digests."""

    version: tuple[int, int, int]
    implementation: str = "CPython"
    shipped: frozenset[str] = frozenset()
    contents: frozenset[bytes] = frozenset()

    @property
    def minor(self) -> tuple[int, int]:
        return self.version[:2]

    @property
    def runs_our_bytecode(self) -> bool:
        return (
            self.minor == sys.version_info[:2]
            and self.implementation == "CPython" == platform.python_implementation()
        )

    def __str__(self) -> str:
        name = "Python" if self.implementation == "CPython" else self.implementation
        return f"{name} {'.'.join(map(str, self.version))}"

    def surely_has(self, module: str) -> bool:
        """Whether every such interpreter has it: part of the language, or sent there."""
        top = _top(module)
        if top == "__main__":
            return False  # whatever file it is: there, another program is that
        if NEW_MODULES.get(top, self.minor) > self.minor and is_standard(module):
            return top in self.shipped
        return top == _OURS or top in self.shipped or is_standard(module)

    def may_have(self, module: str) -> bool:
        """Whether it is to be imported there. What is installed here is taken to be installed
        there; what is the user's own cannot be."""
        top = _top(module)
        return (
            self.surely_has(module)
            or top == _PICKLER
            or (top != "__main__" and _is_installed(module))
        )


def is_standard(module: str) -> bool:
    """Whether it comes with Python."""
    place = _place(module)
    if place is None:
        return _top(module) in sys.stdlib_module_names
    # By its file: the user's own may bear the name of one of Python's and stand in front of it.
    return place.startswith(_standard_library()) and not _is_installed(module)


@functools.cache
def _standard_library() -> tuple[str, ...]:
    import sysconfig  # slow to import

    paths = (
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("platstdlib"),
        os.path.dirname(os.path.abspath(os.__file__)),
    )
    return tuple(os.path.join(path, "") for path in paths)


def _is_installed(module: str) -> bool:
    place = _place(module)
    return place is not None and not _INSTALLED.isdisjoint(place.split(os.sep))


def _top(module: str) -> str:
    return module.partition(".")[0]


def _place(name: str) -> str | None:
    """The file of a module, or a directory of a namespace package."""
    module = sys.modules.get(name)
    if not isinstance(module, ModuleType):
        return None
    file = getattr(module, "__file__", None)
    places = [file] if isinstance(file, str) else list(getattr(module, "__path__", ()))
    return os.path.abspath(places[0]) if places else None
