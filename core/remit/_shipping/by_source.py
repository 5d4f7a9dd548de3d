"""Functions by source: as text, for an interpreter that cannot read our pickles of code.

What a function needs must be to be had there: it captures nothing but plain data, modules that
are surely there, and functions of the same kind. All that is looked at before anything is sent.
"""

from __future__ import annotations
import __future__ as futures

import ast
import contextlib
import datetime
import enum
import functools
import logging
import re
import sys
from collections.abc import Callable
from types import BuiltinMethodType, FunctionType, MethodType, ModuleType
from typing import Any

import attrs

from remit._errors import ShippingError
from remit._shipping import plain_data
from remit._shipping.captures import code_within, global_names
from remit._shipping.grammar import too_new
from remit._shipping.partials import within
from remit._shipping.runtime import Runtime, is_standard
from remit._shipping.source_text import LAMBDA, Text, find, is_source_of
from remit._wire import msgpack
from remit._worker import definitions
from remit._worker.programs import NEW_MODULES
from remit._worker.unwarned import unwarned

_OURS = "{}.{}".format(*sys.version_info)
_OUR_PYTHON = f"have a Python {_OURS} run it, as in ?python=python{_OURS}"
_CACHED = type(functools.cache(len))


def _some(item: Any) -> Any:
    yield item


# The code of what these make, and their names.
_MANAGERS = {
    make(_some).__code__: make.__name__
    for make in (contextlib.contextmanager, contextlib.asynccontextmanager)
}
_LAZY = futures.annotations.compiler_flag


def program(fn: Callable[..., Any], name: str, peer: Runtime) -> bytes:
    """What is sent for ``fn``: MessagePack, as `remit._worker.programs` reads it.

    Raises ShippingError.
    """
    plan = _Plan(name, peer)
    entry = plan.entry(fn)
    return msgpack.pack(
        {
            "entry": entry,
            "spaces": [[space.module, space.names] for space in plan.spaces.values()],
            "functions": plan.functions,
        }
    )


def arguments(args: tuple[Any, ...], peer: Runtime) -> bytes:
    """The values codec's bytes of the list of them. Raises ShippingError."""
    try:
        return plain_data.encode(list(args), "args")
    except plain_data.NotPlain as exc:
        raise ShippingError(
            f"the arguments cannot be sent to {peer} as data: {exc}",
            hint=f"pass plain data, or {_OUR_PYTHON}",
        ) from exc


@attrs.frozen
class _Space:
    """The globals of one module, as far as they are needed: name and how it is got there."""

    module: str
    names: dict[str, list[Any]] = attrs.Factory(dict)


class _Plan:
    def __init__(self, name: str, peer: Runtime) -> None:
        self._name = name
        self._peer = peer
        self._known: dict[FunctionType, int] = {}
        self._undecorated: set[FunctionType] = set()  # whose decorator is known
        self.spaces: dict[int, _Space] = {}
        self.functions: list[dict[str, Any]] = []

    def entry(self, fn: Any) -> list[Any]:
        """What is called there."""
        if type(fn) is functools.partial:
            inner = self.entry(fn.func)
            args = self._data(list(fn.args), "args of the partial")
            return ["partial", inner, args, self._data(fn.keywords, "keywords of the partial")]
        if isinstance(fn, FunctionType) and (called := within(fn)):
            return ["by-keywords", self.entry(called)]
        if decorated := self._decorated(fn):
            return decorated
        named = reference(fn)
        if isinstance(fn, MethodType) and not (named and self._peer.may_have(named[0])):
            raise self._refusal(
                "it is a method, bound to an object that is here",
                "write a function that makes the object there and calls the method",
            )
        if isinstance(fn, BuiltinMethodType) and not named:
            return ["method", self._data(fn.__self__, "the object it is bound to"), fn.__name__]
        # What is installed here may be there: if not, the job says which module is missing.
        if named and self._peer.may_have(named[0]):
            return ["from", *named]
        if isinstance(fn, FunctionType):
            return ["function", self._function(fn)]
        what = (
            f"the class {fn.__qualname__}"
            if isinstance(fn, type)
            else f"an object of type {type(fn).__name__}"
        )
        raise self._refusal(
            f"it is {what}, and no function", "write a function that makes and calls it"
        )

    def _decorated(self, fn: Any) -> list[Any] | None:
        """What a decorator of the standard library has made of a function of the user's own: the
        decorator goes by its name, what it was put around as any function does."""
        inner = getattr(fn, "__wrapped__", None)
        if not isinstance(inner, FunctionType) or self._peer.may_have(_module_of(inner)):
            return None
        if isinstance(fn, _CACHED):
            known = fn.cache_parameters()
            settings = self._data([known["maxsize"], known["typed"]], "a setting of lru_cache")
            decorator = ["functools", "lru_cache", settings]
        elif isinstance(fn, FunctionType) and fn.__code__ in _MANAGERS:
            decorator = ["contextlib", _MANAGERS[fn.__code__], b""]
        else:
            return None
        self._undecorated.add(inner)
        return ["decorated", *decorator, self.entry(inner)]

    def _refusal(self, why: str, instead: str, where: FunctionType | None = None) -> ShippingError:
        evidence = ""
        if where is not None:
            code = where.__code__
            evidence = f"{where.__qualname__} in {code.co_filename}, line {code.co_firstlineno}"
        return ShippingError(
            f"{self._name} cannot be sent to {self._peer} by source: {why}",
            evidence=evidence,
            hint=f"{instead}, or {_OUR_PYTHON}",
        )

    def _data(self, value: Any, path: str, where: FunctionType | None = None) -> bytes:
        try:
            return plain_data.encode(value, path)
        except plain_data.NotPlain as exc:
            instead = "make it inside the function"
            raise self._refusal(str(exc), instead, where) from exc

    def _function(self, fn: FunctionType) -> int:
        """Its index among ``functions``."""
        if fn in self._known:
            return self._known[fn]
        self._refuse_what_is_bound(fn)
        text = self._text(fn)
        index = self._known[fn] = len(self.functions)
        space = self.spaces.setdefault(id(fn.__globals__), _Space(_module_of(fn)))
        lazy = bool(fn.__code__.co_flags & _LAZY)
        definition = {
            "space": [*self.spaces].index(id(fn.__globals__)),
            "name": fn.__name__,
            "defined": fn.__code__.co_name,
            "qualname": fn.__qualname__,
            "lazy": lazy,
            "defaults": self._data([*(fn.__defaults__ or ())], "a default", fn),
            "keywords": self._data(fn.__kwdefaults__ or {}, "a default", fn),
            **attrs.asdict(text),
        }
        self.functions.append(definition)
        code = definitions.compiled(text.code, text.file, text.line, text.is_lambda, lazy)
        attributes = {name for inner in code_within(code) for name in inner.co_names}
        for name in global_names(code):
            if name in fn.__globals__ and name not in space.names:
                value = fn.__globals__[name]
                # Before its own turn: a function that it calls may call it.
                space.names[name] = []
                space.names[name] += self._binding(name, value, attributes, fn)
            elif isinstance(value := fn.__globals__.get(name), ModuleType):
                self._import_submodules(space.names[name], value, attributes)
        return index

    def _refuse_what_is_bound(self, fn: FunctionType) -> None:
        names = fn.__code__.co_freevars
        maker = fn.__code__.co_qualname.partition(".")[0]
        if names and isinstance(inner := getattr(fn, "__wrapped__", None), FunctionType):
            raise self._refusal(
                f"{inner.__name__} is decorated, with {maker} of {_module_of(fn)}",
                "take the decorator off, or call what it is put around",
                inner,
            )
        if names == ("__class__",):
            raise self._refusal(
                f"{fn.__name__} uses super() or __class__, which mean the class around it",
                "name the class, or write a function that makes the object there",
                fn,
            )
        if names:
            captured = " and ".join(repr(name) for name in names)
            raise self._refusal(
                f"{fn.__name__} captures {captured} from what stands around it",
                "pass that as an argument",
                fn,
            )
        if fn.__dict__:
            raise self._refusal(
                f"{fn.__name__} has attributes ({', '.join(fn.__dict__)})",
                "keep them in a global",
                fn,
            )

    def _binding(
        self, name: str, value: Any, attributes: set[str], user: FunctionType
    ) -> list[Any]:
        """How the global ``name`` is made there: the words that `remit._worker.programs` knows."""
        if isinstance(value, ModuleType):
            self._refuse_unsure_module(value.__name__, f"import {value.__name__}", user)
            binding = ["module", value.__name__, []]
            self._import_submodules(binding, value, attributes)
            return binding
        if decorated := self._decorated(value):
            return decorated
        if named := reference(value):
            module, qualname = named
            own_function = isinstance(value, FunctionType) and not self._peer.may_have(module)
            if not own_function:
                words = f"from {module} import {qualname.partition('.')[0]}"
                self._refuse_unsure_module(module, words, user)
                return ["from", module, qualname]
        if isinstance(value, FunctionType):
            return ["function", self._function(value)]
        if recipe := _recipe(value):
            return recipe
        return ["value", self._data(value, f"the global {name}", user)]

    def _refuse_unsure_module(self, module: str, words: str, user: FunctionType) -> None:
        if self._peer.surely_has(module):
            return
        top = module.partition(".")[0]
        if is_standard(module):
            since = "{}.{}".format(*NEW_MODULES[top])
            raise self._refusal(
                f"{user.__name__} uses {module}, which is new in Python {since}",
                "do without it",
                user,
            )
        instead = f'write `{words}` inside the function, or session.ship("{top}") first'
        if module == "__main__":
            instead = "make it inside the function"
        raise self._refusal(f"{user.__name__} uses {module}, which may not be there", instead, user)

    def _import_submodules(
        self, binding: list[Any], module: ModuleType, attributes: set[str]
    ) -> None:
        """`concurrent.futures` is reached through `concurrent`, and is not imported with it."""
        prefix = f"{module.__name__}."
        for name in sorted(sys.modules):
            if name.startswith(prefix) and attributes.issuperset(name[len(prefix) :].split(".")):
                binding[2] = sorted({*binding[2], name})

    def _text(self, fn: FunctionType) -> Text:
        """The source of ``fn``, when that is what runs here and what can run there."""
        is_lambda = fn.__code__.co_name == LAMBDA
        found = find(fn)
        if not found:
            raise self._refusal(
                f"the source of {fn.__name__} cannot be found",
                "write a def in a file or a notebook cell",
                fn,
            )
        text = next((text for text in found if is_source_of(text, fn)), None)
        if text is None and is_lambda:
            raise self._refusal(
                "its source cannot be told from others on its line", "write a def instead", fn
            )
        if text is None:
            raise self._refusal(
                f"the source of {fn.__name__} is not what runs here: the file was changed since, "
                "or the function stands in a class and uses its private names (__name)",
                "load it again, or write a plain function",
                fn,
            )
        tree = text.parse()
        decorators = getattr(definitions.outermost(tree), "decorator_list", ())
        if not all(map(_is_static, decorators)) and fn not in self._undecorated:
            raise self._refusal(f"{fn.__name__} is decorated", "take the decorator off", fn)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.level:
                raise self._refusal(
                    f"line {node.lineno} of {fn.__name__} has a relative import",
                    "write the module's name in full",
                    fn,
                )
        with unwarned():
            construct = too_new(f"{text.padded}\n", tree, self._peer.minor)
        if construct:
            since = "{}.{}".format(*construct.since)
            raise self._refusal(
                f"line {construct.line} has {construct.what}, which is new in Python {since}",
                "write it in an older way",
                fn,
            )
        return text


def _recipe(value: Any) -> list[Any] | None:
    """How that which modules often keep in their globals is made anew there."""
    if isinstance(value, re.Pattern):
        return [
            "call",
            "re",
            "compile",
            plain_data.encode([value.pattern, value.flags], "a pattern"),
        ]
    if type(value) in (logging.Logger, logging.RootLogger):
        names = [] if isinstance(value, logging.RootLogger) else [value.name]
        return ["call", "logging", "getLogger", plain_data.encode(names, "a logger")]
    if value is datetime.UTC:
        return ["from", "datetime", "timezone.utc"]
    if isinstance(value, BuiltinMethodType) and type(value.__self__) in (str, bytes):
        return ["method", plain_data.encode(value.__self__, "it"), value.__name__]
    if isinstance(value, enum.Enum):
        named = reference(type(value))
        if named and is_standard(named[0]):
            if value.name not in type(value).__members__:  # several flags
                return ["call", *named, plain_data.encode([value.value], "a flag")]
            return ["from", named[0], f"{named[1]}.{value.name}"]
    return None


def _is_static(decorator: ast.expr) -> bool:
    """Whether it leaves the function as it is."""
    return isinstance(decorator, ast.Name) and decorator.id == "staticmethod"


def _module_of(fn: FunctionType) -> str:
    return str(fn.__globals__.get("__name__", "__main__"))


def reference(value: Any) -> tuple[str, str] | None:
    """The module and qualified name under which ``value`` can be imported, if it can."""
    owner = getattr(value, "__objclass__", None)  # str.upper
    if isinstance(value, MethodType | BuiltinMethodType):
        owner = value.__self__  # datetime.now, dict.fromkeys, Path.home
        if isinstance(owner, ModuleType | type(None)):
            owner = None
        elif not isinstance(owner, type):
            return None
    if isinstance(owner, type):
        named = reference(owner)
        name = getattr(value, "__name__", "")
        return (named[0], f"{named[1]}.{name}") if named and hasattr(owner, name) else None
    if not callable(value) or isinstance(value, functools.partial):
        return None
    module, qualname = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    qualname = qualname or getattr(value, "__name__", None)
    if not (isinstance(module, str) and isinstance(qualname, str)):
        return None
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = getattr(found, name, None)
    return (_public(module, qualname), qualname) if found is value else None


def _public(module: str, qualname: str) -> str:
    """A private module is another one from version to version: pathlib._local, _operator."""
    inside = module.partition("._")[0].lstrip("_")
    name = qualname.partition(".")[0]
    found = getattr(sys.modules.get(inside), name, None)
    return inside if found is getattr(sys.modules[module], name) else module
