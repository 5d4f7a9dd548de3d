"""Callables and arguments as bytes for another interpreter. No I/O with the target.

By value where it runs our bytecode, else by source; what cannot go is refused here, before
anything runs. `remit._worker.programs` is the other end. What can be shipped: docs/functions.md.
"""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Literal

import attrs

from remit._errors import ShippingError
from remit._shipping import by_source, by_value
from remit._shipping.captures import Snapshot, snapshot
from remit._shipping.runtime import Runtime as Runtime

Kind = Literal["value", "source"]

_MOST_KEPT = 256
# What is larger is made again rather than held.
_LARGEST_KEPT = 64 * 1024
_DIGEST_SIZE = 32  # bytes


@attrs.frozen
class Program:
    """``name`` is for people; ``body`` is what a worker loads once, known to it by ``digest``."""

    name: str
    kind: Kind
    body: bytes
    digest: bytes


@attrs.frozen
class _Kept:
    code: CodeType  # held, so that its id remains its own
    reached: Snapshot
    program: Program


_kept: dict[tuple[int, Runtime, Kind], _Kept] = {}
_keeping = threading.Lock()


def program(fn: Callable[..., Any], peer: Runtime, *, kind: Kind | None = None) -> Program:
    """What to send for ``fn``. ``kind`` forces the way; None takes the one that fits ``peer``.

    Raises ShippingError. A function that reaches nothing that could have changed is not looked at
    twice, and neither is another of the same code that reaches the same.
    """
    kind = kind or ("value" if peer.runs_our_bytecode else "source")
    if type(fn) is BuiltinFunctionType and isinstance(fn.__self__, ModuleType):
        return _builtin(fn, peer, kind)
    if type(fn) is not FunctionType:
        return _make(fn, peer, kind)
    key = (id(fn.__code__), peer, kind)
    kept = _kept.get(key)
    if kept is not None and kept.reached.holds(fn):
        return kept.program
    # Before it is made: what changes meanwhile is then seen at the next call.
    reached = snapshot(fn, functools.partial(_goes_by_name, peer))
    made = _make(fn, peer, kind)
    if reached is not None and len(made.body) <= _LARGEST_KEPT:
        with _keeping:
            _kept.pop(key, None)
            _kept[key] = _Kept(fn.__code__, reached, made)
            if len(_kept) > _MOST_KEPT:
                del _kept[next(iter(_kept))]
    return made


def arguments(args: tuple[Any, ...], peer: Runtime, kind: Kind) -> bytes:
    """What to send for positional arguments. Raises ShippingError."""
    way = by_value.arguments if kind == "value" else by_source.arguments
    return way(args, peer)


@functools.lru_cache(_MOST_KEPT)
def _builtin(fn: Callable[..., Any], peer: Runtime, kind: Kind) -> Program:
    """Of a module, which is fixed: only its name is sent."""
    return _make(fn, peer, kind)


def _make(fn: Callable[..., Any], peer: Runtime, kind: Kind) -> Program:
    if not callable(fn):
        raise ShippingError(f"a {type(fn).__name__} cannot be called", hint="pass a function")
    name = _name(fn)
    way = by_value.program if kind == "value" else by_source.program
    body = way(fn, name, peer)
    return Program(name, kind, body, hashlib.blake2b(body, digest_size=_DIGEST_SIZE).digest())


def _name(fn: Any) -> str:
    if isinstance(fn, functools.partial):
        return _name(fn.func)
    if isinstance(fn, MethodType):
        fn = fn.__func__
    named = fn if isinstance(getattr(fn, "__qualname__", None), str) else type(fn)
    module = getattr(named, "__module__", None)
    return f"{module}.{named.__qualname__}" if module else str(named.__qualname__)


def _goes_by_name(peer: Runtime, value: Any) -> bool:
    """Whether only its name is sent, so that what it holds does not matter."""
    if isinstance(value, ModuleType):
        return peer.may_have(value.__name__)
    if isinstance(value, BuiltinFunctionType):
        return isinstance(value.__self__, ModuleType | type(None))
    named = by_source.reference(value)
    return named is not None and peer.may_have(named[0])
