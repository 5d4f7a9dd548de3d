"""Values as data: MessagePack with extension types, written by `encode` and read by `decode`.

docs/values.md tells what each type is on the wire and what comes back. Nothing in an encoding is
code, and reading one runs none. Standard library only when imported, Python 3.6: both ends of a
session use it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from remit._values import arrays, arrow, scalars, stdlib, structs, tables, times
from remit._values import reader as reading
from remit._values import writer as writing
from remit._values.limits import DEFAULT, Limits, ValueRefused
from remit._values.reader import Reader
from remit._values.writer import Known, Writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from remit._values.reader import Read, Source
    from remit._values.writer import Buffer, Write


def _pandas(pandas: ModuleType) -> dict[type, Write]:
    return {**tables.types(pandas), **scalars.types(pandas)}


# By module, what writes the types that it has.
_LIBRARIES: dict[str, Callable[[ModuleType], dict[type, Write]]] = {
    **stdlib.LIBRARIES,
    "numpy": arrays.types,
    "pandas": _pandas,
}
_PLAIN: dict[int, Read] = {**reading.PLAIN, **stdlib.PLAIN, **times.PLAIN}
_NESTED: dict[int, Read] = {
    **reading.NESTED,
    **stdlib.NESTED,
    **structs.NESTED,
    **arrays.NESTED,
    **tables.NESTED,
    **scalars.NESTED,
    **arrow.NESTED,
}


def _find(kind: type) -> Write | None:
    for name, types in _LIBRARIES.items():
        module = sys.modules.get(name)
        try:
            write = None if module is None else types(module).get(kind)
        except AttributeError:  # another thread is still importing it
            continue
        if write is not None:
            return write
    return (
        arrays.scalar_of(kind)
        or tables.kind_of(kind)
        or arrow.kind_of(kind)
        or structs.record_of(kind)
    )


def _check_keys(data: bytes, limits: Limits) -> None:
    """Raises ValueRefused where the values in an encoded list could not be keys of one dict."""
    try:
        Reader(data, limits, _PLAIN, _NESTED).members()
    except TypeError as exc:
        raise ValueRefused("", "it can be no key where it is read (%s)" % exc) from None


_WRITERS = {**writing.WRITERS, **stdlib.WRITERS, **structs.WRITERS, **times.WRITERS}
_KNOWN = Known(_WRITERS, _find, _check_keys)


def encode(value: object, limits: Limits = DEFAULT) -> list[Buffer]:
    """The encoding of ``value``, in pieces to be sent one after the other.

    Contents of bytes, bytearrays, memoryviews and arrays from 64 KiB on are not copied: the pieces
    show them as they are when they are sent. Raises ValueRefused, with the path to what cannot
    travel or is too much.
    """
    writer = Writer(limits, _KNOWN)
    try:
        writer.value(value)
        return writer.finish()
    except ValueRefused as refused:
        refused.within("result")
        raise
    except RecursionError:
        raise ValueRefused(
            "result", "nested deeper than this Python's stack has room for"
        ) from None
    except RuntimeError as exc:
        # What Python says of a dict or a set that another thread writes to.
        raise ValueRefused("result", "it could not be read: %s" % exc) from exc


def decode(data: Source, limits: Limits = DEFAULT, exact: bool = False) -> Any:
    """The value in ``data``. Raises ValueRefused, and nothing else, whatever the bytes are.

    ``exact``: a moment in a zone that is not known here, or has another offset here, is refused. It
    is otherwise the same moment with the offset that it had there.

    Arrays of numpy's are views into ``data`` where it can be written to, and keep it whole; else
    copies. All of them can be written to. Besides the contents of bytes, text and arrays the value
    takes up at most ``limits.memory`` and 80 bytes for each of ``limits.count``.
    """
    if isinstance(data, memoryview):
        data = data.cast("B")
    size = len(data)
    if size > limits.size:
        raise ValueRefused("", "%d bytes, of %d at most" % (size, limits.size))
    reader = Reader(data, limits, _PLAIN, _NESTED, exact)
    try:
        value = reader.value()
    except ValueRefused as refused:
        raise ValueRefused("", "at byte %d: %s" % (reader.at, refused.why)) from refused.__cause__
    except RecursionError:
        raise ValueRefused("", "nested deeper than this Python's stack has room for") from None
    except MemoryError:
        raise ValueRefused("", "there is not enough memory for it") from None
    except IndexError as exc:
        raise ValueRefused("", "at byte %d: cut short" % reader.at) from exc
    except Exception as exc:
        # Whatever Python, numpy, pandas or Arrow say of contents that make no sense.
        why = "at byte %d: malformed (%s)" % (reader.at, type(exc).__name__)
        raise ValueRefused("", why) from exc
    if reader.at != size:
        raise ValueRefused("", "%d bytes after the value" % (size - reader.at))
    return value
