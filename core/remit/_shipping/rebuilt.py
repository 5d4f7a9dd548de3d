"""What pickles by its name though it is the user's own: made anew there from what it is made of."""

from __future__ import annotations

import functools
import typing
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any

from remit._worker import asserts, rebuilt

Reduced = tuple[Any, ...]
# The globals of code that pytest has rewritten name this module of it.
_REWRITING = "_pytest.assertion.rewrite"


def reduced(obj: Any, is_own: Callable[[Any], bool]) -> Reduced | None:
    """As a ``__reduce__`` gives it. None for all that needs no such help."""
    recipe = _RECIPES.get(type(obj))
    if recipe is None:
        return None
    return recipe(obj) if type(obj) in _ALWAYS or is_own(obj) else None


def _cached(obj: Any) -> Reduced:
    parameters = obj.cache_parameters()
    return rebuilt.cached, (obj.__wrapped__, parameters["maxsize"], parameters["typed"])


def _cached_property(obj: Any) -> Reduced:
    # Not its lock. Its name was told to it when its class was made, which will not happen again.
    return functools.cached_property, (obj.func,), {"attrname": obj.attrname}


def _new_type(obj: Any) -> Reduced:
    state = {"__module__": obj.__module__, "__qualname__": obj.__qualname__}
    return typing.NewType, (obj.__name__, obj.__supertype__), state


def _named(obj: Any) -> Reduced:
    return type(obj), (obj.__name__,)


def _alias(obj: Any) -> Reduced:
    return rebuilt.alias, (obj.__name__, obj.__value__, obj.__type_params__)


def _function(obj: FunctionType) -> Reduced | None:
    code = obj.__code__
    if code is not _DISPATCHING:
        return None
    registry: Any = obj.registry  # type: ignore[attr-defined]
    return rebuilt.dispatching, (registry[object], dict(registry))


def _module(obj: ModuleType) -> Reduced | None:
    if obj.__name__ != _REWRITING:
        return None
    return rebuilt.module, (asserts.__name__,)


_dispatching: Any = functools.singledispatch(len)
_DISPATCHING = _dispatching.__code__
_ALWAYS = frozenset({functools.cached_property, ModuleType})
_RECIPES: dict[type, Callable[[Any], Reduced | None]] = {
    type(functools.cache(len)): _cached,
    functools.cached_property: _cached_property,
    typing.NewType: _new_type,
    typing.ParamSpec: _named,
    typing.TypeVarTuple: _named,
    FunctionType: _function,
    ModuleType: _module,
}
if hasattr(typing, "TypeAliasType"):
    _RECIPES[typing.TypeAliasType] = _alias
