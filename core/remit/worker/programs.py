"""What the caller sent of functions and arguments, made into something to call. For workers.

Bodies are the caller's, whom the target obeys: nothing here guards against them. Their form is
between this module and the caller's `_by_value` and `_by_source`.
"""

from __future__ import annotations

import builtins
import functools
import importlib
import linecache
import pickle
import sys
from typing import TYPE_CHECKING

from remit import _values
from remit._msgpack import unpack
from remit.worker import definitions
from remit.worker.shipped import install as install

if TYPE_CHECKING:
    from typing import Any, Callable


# What is given to a function is what the caller has, or is refused.
_exactly = functools.partial(_values.decode, exact=True)


def load(kind: str, body: bytes) -> Callable[..., Any]:
    """The callable of a program. ImportError where a module is missing: see `explain_missing`."""
    content: Any = unpack(body)
    if kind == "source":
        function: Callable[..., Any] = _Source(content).entry(content["entry"])
    else:
        pickled, sources = content
        for file, first, lines in sources:
            show_lines(file, first, lines)
        function = pickle.loads(pickled)
    return function


def load_arguments(kind: str, data: bytes | memoryview) -> tuple[Any, ...]:
    if kind == "source":
        return tuple(_exactly(data))
    args: tuple[Any, ...] = pickle.loads(data)
    return args


def explain_missing(exc: ImportError) -> str:
    """What is missing and what to do, for the caller."""
    here = "Python %d.%d" % sys.version_info[:2]
    name = exc.name or ""
    top = name.partition(".")[0]
    if not name:
        return str(exc)
    if not isinstance(exc, ModuleNotFoundError):
        return "%s: the %s here is another than the caller's, or its version is" % (exc, name)
    if top in getattr(sys, "stdlib_module_names", ()):
        return "%s has no module %s; choose another interpreter with python=" % (here, name)
    return (
        'the module %s is not there for %s: send it with session.ship("%s") if it is pure Python, '
        "or choose an interpreter that has it with python=" % (name, here, top)
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
        self._spaces: list[dict[str, Any]] = [
            {"__name__": module, "__builtins__": builtins} for module, _ in content["spaces"]
        ]
        self._functions = [self._function(one) for one in content["functions"]]
        # Only now: functions may name each other.
        for space, (_, names) in zip(self._spaces, content["spaces"]):
            for name, words in names.items():
                space[name] = self.entry(words)

    def entry(self, words: list[Any]) -> Any:
        """What is meant by ["function", index], ["from", module, name], ["value", data],
        ["call", module, name, args], ["module", name, [submodules]] or
        ["partial", entry, args, keywords]."""
        kind, what = words[:2]
        if kind == "function":
            return self._functions[what]
        if kind == "value":
            return _exactly(what)
        if kind == "partial":
            args, keywords = map(_exactly, words[2:])
            return functools.partial(self.entry(what), *args, **keywords)
        module = importlib.import_module(what)
        if kind == "from":
            return functools.reduce(getattr, words[2].split("."), module)
        if kind == "call":
            return getattr(module, words[2])(*_exactly(words[3]))
        for name in words[2]:
            importlib.import_module(name)
        return module

    def _function(self, one: dict[str, Any]) -> Any:
        show_lines(one["file"], one["first"], one["lines"])
        code = definitions.compiled(
            one["code"], one["file"], one["line"], one["is_lambda"], one["lazy"]
        )
        space = self._spaces[one["space"]]
        function: Any = definitions.define(code, one["defined"], space)
        function.__name__, function.__qualname__ = one["name"], one["qualname"]
        function.__defaults__ = tuple(_exactly(one["defaults"])) or None
        function.__kwdefaults__ = _exactly(one["keywords"]) or None
        return function
