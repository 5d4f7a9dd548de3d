"""What `remit._shipping.rebuilt` names in pickles: makes things of the caller's anew."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable


def cached(function: Callable[..., Any], maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def dispatching(default: Callable[..., Any], registry: dict[type, Callable[..., Any]]) -> Any:
    made = functools.singledispatch(default)
    for kind, function in registry.items():
        made.register(kind, function)
    return made


def alias(name: str, value: object, parameters: tuple[Any, ...]) -> Any:
    import typing

    made: Any = typing.TypeAliasType(name, value, type_params=parameters)  # type: ignore[attr-defined]
    return made


def module(name: str) -> ModuleType:
    return importlib.import_module(name)
