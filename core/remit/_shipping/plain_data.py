"""Plain data: what comes back as itself from the values codec, on any Python."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import pathlib
import uuid
from collections.abc import Iterator
from typing import Any

from remit._values import codec
from remit._values.limits import ValueRefused

_SCALARS = frozenset(
    {
        type(None),
        bool,
        int,
        float,
        complex,
        str,
        bytes,
        bytearray,
        range,
        datetime.datetime,
        datetime.date,
        datetime.time,
        datetime.timedelta,
        decimal.Decimal,
        fractions.Fraction,
        uuid.UUID,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        array.array,
    }
)
_MAPPINGS = frozenset({dict, collections.OrderedDict, collections.Counter, collections.defaultdict})
_SEQUENCES = frozenset({list, tuple, collections.deque})
# The codec knows their types; which of them it does not, it says itself.
LIBRARIES = frozenset({"numpy", "pandas", "pyarrow"})


class NotPlain(Exception):
    """The words name where in the value it stands, and what it is."""


def encode(value: Any, path: str) -> bytes:
    """``path`` is what the value is called in an error. Raises NotPlain."""
    if found := next(_odd(value, path, ()), None):
        raise NotPlain(found)
    try:
        return b"".join(codec.encode(value))
    except ValueRefused as exc:
        raise NotPlain(f"{path}: {exc}") from exc


def _odd(value: Any, path: str, around: tuple[int, ...]) -> Iterator[str]:
    """What in it would come back as something else, or not at all."""
    kind = type(value)
    if kind in _SCALARS or kind.__module__.partition(".")[0] in LIBRARIES:
        return
    if id(value) in around:
        yield f"{path} holds itself"
        return
    around = (*around, id(value))
    if kind in _MAPPINGS:
        for key, item in value.items():
            yield from _odd(key, f"a key of {path}", around)
            yield from _odd(item, f"{path}[{key!r}]", around)
    elif kind in _SEQUENCES:
        for at, item in enumerate(value):
            yield from _odd(item, f"{path}[{at}]", around)
    elif kind in (set, frozenset):
        for item in value:
            yield from _odd(item, f"{path}{{…}}", around)
    elif kind is slice:
        for name in ("start", "stop", "step"):
            yield from _odd(getattr(value, name), f"{path}.{name}", around)
    elif issubclass(kind, pathlib.PurePath):
        yield f"{path} is of type {kind.__qualname__}, which has no meaning there; pass str() of it"
    else:
        yield f"{path} is of type {kind.__qualname__}, which is no plain data"
