"""``functools.partial`` as the function and its arguments, which are data: a function that is
called with ever other ones is one program, and sent once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

# Python 3.14 has arguments that are to be filled in later: such a partial travels as it is.
_PLACEHOLDER = getattr(functools, "Placeholder", None)


def unfolded(
    fn: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What to send for ``fn(*args)``."""
    if type(fn) is not functools.partial or vars(fn):
        return fn, args
    if any(arg is _PLACEHOLDER for arg in fn.args if _PLACEHOLDER is not None):
        return fn, args
    whole = (*fn.args, *args)
    if not fn.keywords:
        return fn.func, whole
    return _by_keywords(fn.func), (fn.keywords, *whole)


def _by_keywords(fn: Callable[..., Any]) -> Callable[..., Any]:
    def call(keywords: dict[str, Any], *args: Any) -> Any:
        return fn(*args, **keywords)

    named = fn if hasattr(fn, "__qualname__") else type(fn)
    call.__qualname__, call.__module__ = named.__qualname__, named.__module__
    return call


_CODE = _by_keywords(len).__code__


def within(fn: FunctionType) -> Callable[..., Any] | None:
    """What a function that `unfolded` made calls; None of any other."""
    if fn.__code__ is not _CODE or fn.__closure__ is None:
        return None
    inner: Callable[..., Any] = fn.__closure__[0].cell_contents
    return inner
