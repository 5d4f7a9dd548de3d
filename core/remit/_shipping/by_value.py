"""Functions by value: pickled with all they capture, for an interpreter of the same version.

What is the user's own goes along whole, what is installed goes by its name. cloudpickle would
have the user's modules registered for that, in one place for the whole process: here each pickle
decides for itself, so that nothing is left behind and other threads see nothing of it.
"""

from __future__ import annotations

import functools
import io
import linecache
import pickle
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar

import cloudpickle
from cloudpickle.cloudpickle import _decompose_typevar, _dynamic_class_reduce, _make_typevar

from remit._errors import ShippingError
from remit._shipping import plain_data, rebuilt
from remit._shipping.captures import MISSING, captured_cells, captured_globals, code_within
from remit._shipping.runtime import Runtime
from remit._wire import msgpack
from remit._worker import programs

# How the importer of this side found a module; it is another one there.
_OF_OUR_IMPORT = frozenset({"__builtins__", "__cached__", "__loader__", "__spec__"})
# What has a name and a module: all that is not data. Asked of each object, hence no union type.
_NAMED = (FunctionType, type, TypeVar)
_SCALARS = frozenset({type(None), bool, int, float, complex, str, bytes})


def program(fn: Callable[..., Any], name: str, peer: Runtime) -> bytes:
    """What is sent for ``fn``: MessagePack of [pickle, [[file, first line, lines], …]].

    The lines are for tracebacks. Raises ShippingError.
    """
    pickled, codes = _dump(fn, peer, f"{name} cannot be sent", fn)
    return msgpack.pack([pickled, [*_lines(codes)]])


def arguments(args: tuple[Any, ...], peer: Runtime) -> bytes:
    """The pickle of them. Raises ShippingError."""
    for value in args:
        if type(value) not in _SCALARS:
            break
    else:
        return pickle.dumps(args, pickle.HIGHEST_PROTOCOL)
    return _dump(args, peer, "the arguments cannot be sent", args)[0]


def _dump(value: Any, peer: Runtime, refusal: str, culprits: Any) -> tuple[bytes, list[CodeType]]:
    try:
        return _pickled(value, peer)
    except Exception as exc:  # whatever a __reduce__ of the user's may raise
        found = _culprit(culprits, peer)
        where = f"{found}: " if found else ""
        raise ShippingError(
            f"{refusal}: {where}{exc}",
            hint="make it inside the function, or pass what it can be made from",
        ) from exc


def _pickled(value: Any, peer: Runtime) -> tuple[bytes, list[CodeType]]:
    """Raises whatever pickling raises, and PicklingError for what would not be found there."""
    out = io.BytesIO()
    pickler = _Pickler(out, peer)
    pickler.dump(value)
    pickled = out.getvalue()
    if pickler.has_others:
        _Names(io.BytesIO(pickled), peer).load()
    return pickled, pickler.codes


class _Names(pickle.Unpickler):
    """Looks at the names in a pickle, and makes nothing of it."""

    def __init__(self, file: io.BytesIO, peer: Runtime) -> None:
        super().__init__(file)
        self._peer = peer

    def find_class(self, module: str, name: str) -> Any:
        if not self._peer.may_have(module):
            raise pickle.PicklingError(
                f"{module}.{name} would be looked up by its name, and {module} is not on the target"
            )
        return _Anything


class _AnyType(type):
    def __call__(cls, *args: object, **keywords: object) -> Any:
        return cls

    def __setitem__(cls, key: object, value: object) -> None: ...


def _takes(*_: object) -> None: ...


class _Anything(metaclass=_AnyType):
    """Stands for whatever a name means, and for all that is made with it, classes too."""

    def __new__(cls, *args: object, **keywords: object) -> Any:
        return cls

    __setstate__ = append = extend = add = staticmethod(_takes)


class _Space(dict[str, Any]):
    """What functions of one module have as globals: there it is those of a module, too."""


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def __init__(self, file: io.BytesIO, peer: Runtime) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._peer = peer
        self.codes: list[CodeType] = []  # of the functions that go by value
        self.has_others = False  # things that pickle by their own ways

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is _Space:
            return programs.space, (str(obj.get("__name__", "__main__")), dict(obj))
        if type(obj) is CodeType:
            return CodeType, _code_arguments(obj)
        if (made := rebuilt.reduced(obj, self._is_own)) is not None:
            return made
        if isinstance(obj, ModuleType):
            return NotImplemented if self._peer.may_have(obj.__name__) else _module(obj)
        if not isinstance(obj, _NAMED):
            return self._data(obj)
        if _is_public(obj):
            return getattr, (sys.modules["remit"], obj.__name__)
        if self._is_own(obj):
            if isinstance(obj, FunctionType):
                return self._dynamic_function_reduce(obj)
            if isinstance(obj, type):
                return _dynamic_class_reduce(obj)
            return _make_typevar, _decompose_typevar(obj)
        return super().reducer_override(obj)

    def _data(self, obj: Any) -> Any:
        if type(obj).__module__.partition(".")[0] in plain_data.LIBRARIES:
            # Pickled they would need the same generation of their library there.
            try:
                return programs.decoded, (plain_data.encode(obj, "it"),)
            except plain_data.NotPlain:
                pass
        self.has_others = True
        return NotImplemented

    def _is_own(self, obj: Any) -> bool:
        module = getattr(obj, "__module__", None)
        return isinstance(module, str) and not self._peer.may_have(module)

    def _dynamic_function_reduce(self, func: FunctionType) -> Any:
        self.codes.append(func.__code__)
        self.globals_ref.setdefault(id(func.__globals__), _Space())
        return super()._dynamic_function_reduce(func)


def _code_arguments(code: CodeType) -> tuple[object, ...]:
    """What CodeType is called with to make it again, from Python 3.11 on.

    cloudpickle 3.1.3 calls every file `<dynamic-code>`; tracebacks are to name the real one.
    """
    return (
        code.co_argcount,
        code.co_posonlyargcount,
        code.co_kwonlyargcount,
        code.co_nlocals,
        code.co_stacksize,
        code.co_flags,
        code.co_code,
        code.co_consts,
        code.co_names,
        code.co_varnames,
        code.co_filename,
        code.co_name,
        code.co_qualname,
        code.co_firstlineno,
        code.co_linetable,
        code.co_exceptiontable,
        code.co_freevars,
        code.co_cellvars,
    )


def _is_public(obj: FunctionType | type | TypeVar) -> bool:
    """Whether it is one of remit's public names. The private module it comes from is not there."""
    module = getattr(obj, "__module__", None)
    ours = isinstance(module, str) and module.startswith("remit.")
    return ours and getattr(sys.modules["remit"], obj.__name__, None) is obj


def _module(module: ModuleType) -> Any:
    """A module of the user's own: made anew under its name, with what is in it now.

    Its contents are its state, not an argument: they may refer to the module itself.
    """
    state = {name: value for name, value in vars(module).items() if name not in _OF_OUR_IMPORT}
    return programs.module, (module.__name__,), state


def _lines(codes: list[CodeType]) -> Iterator[list[object]]:
    """The source lines of each, as far as they are to be had."""
    for code in codes:
        reached = [
            number
            for inner in code_within(code)
            for first, last, *_ in inner.co_positions()
            for number in (first, last)
            if number
        ]
        first, last = code.co_firstlineno, max(reached, default=code.co_firstlineno)
        if lines := linecache.getlines(code.co_filename)[first - 1 : last]:
            yield [code.co_filename, first, "".join(lines)]


def _culprit(value: Any, peer: Runtime, seen: frozenset[int] = frozenset()) -> str:
    """Which of the things that ``value`` reaches is what cannot be pickled, for people."""
    seen |= {id(value)}
    for name, inner in _within(value):
        if inner is not MISSING and id(inner) not in seen:
            try:
                _pickled(inner, peer)
            except Exception:
                deeper = _culprit(inner, peer, seen)
                return f"{name}, {deeper}" if deeper else f"{name} (of type {type(inner).__name__})"
    return ""


def _within(value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case tuple():
            yield from ((f"args[{at}]", item) for at, item in enumerate(value))
        case FunctionType():
            yield from ((f"the captured {name!r}", v) for name, v in captured_cells(value).items())
            yield from ((f"the global {name!r}", v) for name, v in captured_globals(value).items())
            yield from (("a default", item) for item in value.__defaults__ or ())
        case MethodType():
            yield "the object it is bound to", value.__self__
        case functools.partial():
            yield "the function of the partial", value.func
            yield from (("an argument of the partial", item) for item in value.args)
            yield from ((f"the partial's {name!r}", v) for name, v in value.keywords.items())
        case _:
            yield from ((f"its {name!r}", v) for name, v in getattr(value, "__dict__", {}).items())
