"""What the caller sent of functions and arguments, made into something to call. For workers.

Bodies are the caller's, whom the target obeys: nothing here guards against them. Their form is
between this module and the caller's `by_value` and `by_source`.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import importlib.util
import linecache
import pickle
import sys
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING

from remit._values import codec
from remit._values.limits import ValueRefused
from remit._wire.msgpack import unpack
from remit._worker import definitions
from remit._worker.shipped import install as install

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator


# What is given to a function is what the caller has, or is refused.
_exactly = functools.partial(codec.decode, exact=True)


class Program:
    """Something to call, in modules of its own: those that its functions come from, as far as they
    were sent. They are in `sys.modules` while it runs, unless others of those names are here."""

    def __init__(self, kind: str, body: bytes) -> None:
        """ImportError where a module is missing: see `explain_missing`."""
        self.kind = kind
        self.modules: dict[str, ModuleType] = {}
        self._shown: list[str] = []
        self._looked_at = 0  # modules
        with _loading(self.modules):
            try:
                self.function = _load(kind, body)
            except ValueRefused as exc:
                raise ArgumentsRefused(
                    "what it captures cannot be read on the target: %s" % exc
                ) from exc
        function, name = self.function, getattr(self.function, "__qualname__", ".")
        if isinstance(function, FunctionType) and name.isidentifier():
            function.__globals__.setdefault(name, function)

    def __call__(self, data: bytes | memoryview) -> Any:
        """Calls it with arguments as they were sent. Raises ArgumentsRefused."""
        with _loading(self.modules):
            args = self._arguments(data)
        self._show()  # what the arguments brought, too
        sys.modules.update({name: self.modules[name] for name in self._shown})
        return self.function(*args)

    def _arguments(self, data: bytes | memoryview) -> tuple[Any, ...]:
        try:
            if self.kind == "source":
                return tuple(_exactly(data))
            args: tuple[Any, ...] = pickle.loads(data)
            return args
        except ValueRefused as exc:
            raise ArgumentsRefused("the arguments cannot be read on the target: %s" % exc) from exc

    def leave(self) -> None:
        """Another one, which has nothing to do with it, shall not find its modules."""
        for name in self._shown:
            if sys.modules.get(name) is self.modules[name]:
                del sys.modules[name]
        if "__main__" in self._shown:
            sys.modules["__main__"] = _main

    def _show(self) -> None:
        """Finds out which of its modules can be shown, and completes those."""
        if len(self.modules) == self._looked_at:
            return
        for name in set(self.modules).difference(self._shown):
            if name == "__main__" or not _is_here(name.partition(".")[0]):
                self._shown.append(name)
                self._show_parents(name)
        self._looked_at = len(self.modules)

    def _show_parents(self, name: str) -> None:
        """An import of a module imports the packages that it is in."""
        child = name
        while "." in child:
            parent, _, last = child.rpartition(".")
            if parent not in self.modules:
                self.modules[parent] = ModuleType(parent)
                self._shown.append(parent)
            package = self.modules[parent]
            vars(package).setdefault("__path__", [])
            vars(package).setdefault(last, self.modules[child])
            child = parent


class ArgumentsRefused(TypeError):
    """The arguments of a call cannot be read here."""


def _load(kind: str, body: bytes) -> Callable[..., Any]:
    content: Any = unpack(body)
    if kind == "source":
        function: Callable[..., Any] = _Source(content).entry(content["entry"])
    else:
        pickled, sources = content
        for file, first, lines in sources:
            show_lines(file, first, lines)
        function = pickle.loads(pickled)
    return function


_main = sys.modules["__main__"]
# Those of the program that is being loaded.
_modules: dict[str, ModuleType] = {}


@contextmanager
def _loading(modules: dict[str, ModuleType]) -> Iterator[None]:
    global _modules
    before, _modules = _modules, modules
    try:
        yield
    finally:
        _modules = before


def module(name: str) -> ModuleType:
    """The module that stands for one of the caller's. Named in pickles."""
    if name not in _modules:
        _modules[name] = ModuleType(name)
    return _modules[name]


def space(name: str, names: dict[str, Any]) -> dict[str, Any]:
    """The globals of functions of the caller's module ``name``. Named in pickles."""
    found = vars(module(name))
    found.update(names)
    return found


def decoded(data: bytes) -> Any:
    """A value in the codec's bytes. Named in pickles."""
    return _exactly(data)


def _is_here(name: str) -> bool:
    """Whether a module of that name can be imported."""
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False


# Modules of Python itself that the oldest has not, and since when they are there.
NEW_MODULES = {
    "contextvars": (3, 7),
    "dataclasses": (3, 7),
    "graphlib": (3, 9),
    "zoneinfo": (3, 9),
    "tomllib": (3, 11),
    "annotationlib": (3, 14),
    "compression": (3, 14),
}


def explain_missing(exc: ImportError) -> str:
    """What is missing and what to do, for the caller."""
    here = "Python %d.%d" % sys.version_info[:2]
    name = exc.name or ""
    top = name.partition(".")[0]
    if not name:
        return str(exc)
    if not isinstance(exc, ModuleNotFoundError):
        return "%s: the %s here is another than the caller's, or its version is" % (exc, name)
    if NEW_MODULES.get(top, (0, 0)) > sys.version_info[:2]:
        since = "%d.%d" % NEW_MODULES[top]
        words = "%s has no module %s, which is new in Python %s; choose another one with python="
        return words % (here, name, since)
    if top in getattr(sys, "stdlib_module_names", ()):
        return "%s has no module %s; choose another interpreter with python=" % (here, name)
    return (
        'the module %s is not available to %s: send it with session.ship("%s") if it is pure '
        "Python, or choose an interpreter that has it with python=" % (name, here, top)
    )


def show_lines(file: str, first: int, text: str) -> None:
    """Lets tracebacks show lines of a file that is at the caller. ``first`` counts from 1."""
    # Not splitlines: a form feed in a line ends none.
    new = [line + "\n" for line in text.rstrip("\n").split("\n")]
    end = first - 1 + len(new)
    there = linecache.getlines(file)
    if there[first - 1 : end] == new:
        return
    # Without a time of change, it is never compared with a file of that name here.
    entry: Any = linecache.cache.get(file, (0, 0))
    lines = there if entry[1] is None else []
    lines += ["\n"] * (end - len(lines))
    lines[first - 1 : end] = new
    linecache.cache[file] = (len(lines), None, lines, file)


class _Source:
    """Functions by source, each in the namespace that stands for its module."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._spaces = [space(name, {"__builtins__": builtins}) for name, _ in content["spaces"]]
        self._functions = [self._function(one) for one in content["functions"]]
        # Only now: functions may name each other.
        for names, (_, wanted) in zip(self._spaces, content["spaces"]):
            for name, words in wanted.items():
                names[name] = self.entry(words)

    def entry(self, words: list[Any]) -> Any:
        """What is meant by ["function", index], ["from", module, name], ["value", data],
        ["call", module, name, args], ["module", name, [submodules]], ["method", data, name],
        ["partial", entry, args, keywords], ["by-keywords", entry] or
        ["decorated", module, name, settings, entry]."""
        kind, what = words[:2]
        if kind == "function":
            return self._functions[what]
        if kind == "value":
            return _exactly(what)
        if kind == "partial":
            args, keywords = map(_exactly, words[2:])
            return functools.partial(self.entry(what), *args, **keywords)
        if kind == "by-keywords":
            return _by_keywords(self.entry(what))
        if kind == "method":
            return getattr(_exactly(what), words[2])
        found = importlib.import_module(what)
        if kind == "from":
            return _attribute(found, words[2])
        if kind == "call":
            return _attribute(found, words[2])(*_exactly(words[3]))
        if kind == "decorated":
            decorator = getattr(found, words[2])
            if words[3]:
                decorator = decorator(*_exactly(words[3]))
            return decorator(self.entry(words[4]))
        for name in words[2]:
            importlib.import_module(name)
        return found

    def _function(self, one: dict[str, Any]) -> Any:
        show_lines(one["file"], one["first"], one["lines"])
        code = definitions.compiled(
            one["code"], one["file"], one["line"], one["is_lambda"], one["lazy"]
        )
        function: Any = definitions.define(code, one["defined"], self._spaces[one["space"]])
        function.__name__, function.__qualname__ = one["name"], one["qualname"]
        function.__defaults__ = tuple(_exactly(one["defaults"])) or None
        function.__kwdefaults__ = _exactly(one["keywords"]) or None
        return function


def _by_keywords(fn: Callable[..., Any]) -> Callable[..., Any]:
    """For calls whose keywords are data as their other arguments are, and come before those."""

    def call(keywords: dict[str, Any], *args: Any) -> Any:
        return fn(*args, **keywords)

    return call


def _attribute(module: ModuleType, name: str) -> Any:
    return functools.reduce(getattr, name.split("."), module)
