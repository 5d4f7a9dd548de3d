"""Values of the standard library's further types.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import array
import math
import re
import struct
import sys
import types
from itertools import islice
from typing import TYPE_CHECKING

from remit._values.codes import (
    ARRAY,
    COMPLEX,
    COMPLEX_FORM,
    COUNTER,
    DECIMAL,
    DEFAULT_DICT,
    DEQUE,
    FRACTION,
    ORDERED_DICT,
    POSIX_PATH,
    RANGE,
    SLICE,
    UUID,
    WINDOWS_PATH,
)
from remit._values.limits import ValueRefused
from remit._values.placeholders import type_name
from remit._values.reader import numbers
from remit._values.structs import fields_of, said, text_of, write_struct
from remit._values.writer import big_int, little_endian

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

# A fraction is checked to be in lowest terms, which takes the square of its size.
_MOST_FRACTION = 16 * 1024
# 18 digits: the most that any Decimal's exponent has.
_DECIMAL = re.compile(
    rb"[+-]?(?:Infinity|s?NaN[0-9]*|[0-9]+(?:\.[0-9]+)?(?:E[+-]?[0-9]{1,18})?)\Z", re.ASCII
)
_U32 = struct.Struct(">I")
# What a defaultdict may make: a name on the wire, and what it stands for.
_FACTORIES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (bool, bytes, dict, float, frozenset, int, list, set, str, tuple)
}
_SIGNED, _UNSIGNED, _FLOATS = "bhilq", "BHILQ", "fd"


def _complex(writer: Writer, value: complex) -> None:
    writer.ext(COMPLEX, COMPLEX_FORM.pack(value.real, value.imag))


def _read_complex(reader: Reader, end: int) -> complex:
    return complex(*COMPLEX_FORM.unpack(reader.rest(end)))


def _range(writer: Writer, value: range) -> None:
    _write_parts(writer, value, RANGE, ("start", "stop", "step"))


def _slice(writer: Writer, value: slice) -> None:
    _write_parts(writer, value, SLICE, ("start", "stop", "step"))


def _write_parts(writer: Writer, value: object, code: int, names: tuple[str, ...]) -> None:
    writer.enter(value, len(names))
    writer.begin(code)
    for name in names:
        try:
            writer.value(getattr(value, name))
        except ValueRefused as refused:
            refused.within(".%s" % name)
            raise
    writer.end()
    writer.leave(value)


def _read_range(reader: Reader, end: int) -> range:
    reader.charge(3)
    parts = [reader.value() for _ in range(3)]
    if not all(type(part) is int for part in parts):
        raise ValueRefused("", "a range of no integers")
    return range(*parts)


def _read_slice(reader: Reader, end: int) -> slice:
    reader.charge(3)
    return slice(*[reader.value() for _ in range(3)])


def _completed_process(subprocess: ModuleType) -> dict[type, Write]:
    return {subprocess.CompletedProcess: _completed}


def _completed(writer: Writer, value: Any) -> None:
    names = ["args", "returncode", "stdout", "stderr"]
    write_struct(writer, value, type_name(type(value)), fields_of(value, names))


def _namespace(writer: Writer, value: types.SimpleNamespace) -> None:
    write_struct(writer, value, type_name(type(value)), dict(vars(value)))


def _iterated(writer: Writer, value: Iterable[Any]) -> None:
    """What is there to be gone through once, as a list: it may be code of the user's that runs."""
    try:
        items = list(islice(value, writer.room + 1))
    except Exception as exc:
        raise ValueRefused("", "going through it raised %s" % said(exc)) from exc
    writer.value(items)


def _collections(collections: ModuleType) -> dict[type, Write]:
    return {
        collections.OrderedDict: _ordered_dict,
        collections.defaultdict: _default_dict,
        collections.Counter: _counter,
        collections.deque: _deque,
    }


def _ordered_dict(writer: Writer, value: dict[Any, Any]) -> None:
    _write_dict(writer, value, ORDERED_DICT)


def _counter(writer: Writer, value: dict[Any, Any]) -> None:
    _write_dict(writer, value, COUNTER)


def _default_dict(writer: Writer, value: Any) -> None:
    make = value.default_factory
    name = None if make is None else getattr(make, "__name__", "")
    if name is not None and _FACTORIES.get(name) is not make:
        raise ValueRefused("", "a defaultdict whose default is code; dict(it) can be sent")
    _write_dict(writer, value, DEFAULT_DICT, name)


def _write_dict(writer: Writer, value: dict[Any, Any], code: int, *before: str | None) -> None:
    if getattr(value, "__dict__", None):
        raise ValueRefused("", "a %s with attributes of its own" % type(value).__name__)
    writer.enter(value, 2 * len(value))
    writer.begin(code)
    for item in before:
        writer.value(item)
    writer.pairs(value)
    writer.end()
    writer.leave(value)


def _read_ordered_dict(reader: Reader, end: int) -> Any:
    from collections import OrderedDict

    return OrderedDict(reader.pairs())


def _read_counter(reader: Reader, end: int) -> Any:
    from collections import Counter

    return Counter(reader.pairs())


def _read_default_dict(reader: Reader, end: int) -> Any:
    from collections import defaultdict

    name = reader.value()
    if name is not None and text_of(name) not in _FACTORIES:
        raise ValueRefused("", "a defaultdict of no known default")
    return defaultdict(name and _FACTORIES[name], reader.pairs())


def _deque(writer: Writer, value: Any) -> None:
    writer.enter(value, len(value))
    writer.begin(DEQUE)
    writer.value(value.maxlen)
    writer.items(value)
    writer.end()
    writer.leave(value)


def _read_deque(reader: Reader, end: int) -> Any:
    from collections import deque

    most = reader.value()
    items = reader.items()
    if most is not None and (type(most) is not int or most < len(items)):
        raise ValueRefused("", "a deque that is longer than it may be")
    return deque(items, most)


def _decimals(decimal: ModuleType) -> dict[type, Write]:
    return {decimal.Decimal: _decimal}


def _decimal(writer: Writer, value: object) -> None:
    # A context may ask for small letters.
    writer.ext(DECIMAL, str(value).replace("e", "E").encode("ascii"))


def _read_decimal(reader: Reader, end: int) -> Any:
    from decimal import Decimal

    text = reader.rest(end)
    reader.check_digits(len(text))
    if not _DECIMAL.match(text):
        raise ValueRefused("", "no decimal number")
    value = Decimal(text.decode("ascii"))
    if value.is_nan() != (b"NaN" in text):
        # Too large an exponent, and a context that lets that pass.
        raise ValueRefused("", "no decimal number")
    return value


def _fractions(fractions: ModuleType) -> dict[type, Write]:
    return {fractions.Fraction: _fraction}


def _fraction(writer: Writer, value: Any) -> None:
    numerator, denominator = big_int(value.numerator), big_int(value.denominator)
    if max(len(numerator), len(denominator)) > _MOST_FRACTION:
        raise ValueRefused("", "a fraction of more than %d bytes" % _MOST_FRACTION)
    writer.ext(FRACTION, _U32.pack(len(numerator)) + numerator + denominator)


def _read_fraction(reader: Reader, end: int) -> Any:
    from fractions import Fraction

    size = reader.number(_U32)
    data = reader.rest(end)
    reader.check_digits(len(data))
    if not 0 < size < len(data) <= 2 * _MOST_FRACTION:
        raise ValueRefused("", "a fraction of no sound size")
    numerator = int.from_bytes(data[:size], "big", signed=True)
    denominator = int.from_bytes(data[size:], "big", signed=True)
    if denominator < 1 or math.gcd(numerator, denominator) != 1:
        raise ValueRefused("", "a fraction that is not in lowest terms")
    return Fraction(numerator, denominator)


def _uuids(uuid: ModuleType) -> dict[type, Write]:
    return {uuid.UUID: _uuid}


def _uuid(writer: Writer, value: Any) -> None:
    writer.ext(UUID, value.bytes)


def _read_uuid(reader: Reader, end: int) -> Any:
    from uuid import UUID

    return UUID(bytes=reader.rest(end))


def _paths(pathlib: ModuleType) -> dict[type, Write]:
    return {
        pathlib.PurePosixPath: _posix_path,
        pathlib.PosixPath: _posix_path,
        pathlib.PureWindowsPath: _windows_path,
        pathlib.WindowsPath: _windows_path,
    }


def _posix_path(writer: Writer, value: object) -> None:
    writer.ext(POSIX_PATH, str(value).encode("utf-8", "surrogatepass"))


def _windows_path(writer: Writer, value: object) -> None:
    writer.ext(WINDOWS_PATH, str(value).encode("utf-8", "surrogatepass"))


def _read_posix_path(reader: Reader, end: int) -> Any:
    from pathlib import PurePosixPath

    return PurePosixPath(str(reader.rest(end), "utf-8", "surrogatepass"))


def _read_windows_path(reader: Reader, end: int) -> Any:
    from pathlib import PureWindowsPath

    return PureWindowsPath(str(reader.rest(end), "utf-8", "surrogatepass"))


def _array(writer: Writer, value: array.array[Any]) -> None:
    if value.typecode not in _SIGNED + _UNSIGNED + _FLOATS:
        raise ValueRefused("", "an array of characters; its text can be sent")
    writer.begin(ARRAY)
    writer.buf += bytes((ord(value.typecode), value.itemsize))
    writer.aligned(little_endian(value[:] if sys.byteorder == "big" else value))
    writer.end()


def _read_array(reader: Reader, end: int) -> array.array[Any]:
    code, size, zeros = reader.piece(3)
    reader.piece(zeros)
    typecode = chr(code)
    # The types of C are not of one size everywhere.
    alike = "".join(kinds for kinds in (_SIGNED, _UNSIGNED, _FLOATS) if typecode in kinds)
    fitting = [kind for kind in alike and typecode + alike if array.array(kind).itemsize == size]
    if not fitting:
        raise ValueRefused("", "an array of numbers that are not known here")
    return numbers(reader.rest(end), fitting[0])


WRITERS: dict[type, Write] = {
    complex: _complex,
    range: _range,
    slice: _slice,
    array.array: _array,
    **dict.fromkeys(map(type, ({}.keys(), {}.values(), {}.items())), _iterated),
    **dict.fromkeys((zip, map, filter, enumerate, reversed, type(reversed([]))), _iterated),
    types.SimpleNamespace: _namespace,
}
# Types of modules that are only looked for when they are there: a value of theirs cannot be
# without its module.
LIBRARIES = {
    "collections": _collections,
    "decimal": _decimals,
    "fractions": _fractions,
    "pathlib": _paths,
    "subprocess": _completed_process,
    "uuid": _uuids,
}
PLAIN: dict[int, Read] = {
    COMPLEX: _read_complex,
    DECIMAL: _read_decimal,
    FRACTION: _read_fraction,
    UUID: _read_uuid,
    POSIX_PATH: _read_posix_path,
    WINDOWS_PATH: _read_windows_path,
    ARRAY: _read_array,
}
NESTED: dict[int, Read] = {
    RANGE: _read_range,
    SLICE: _read_slice,
    ORDERED_DICT: _read_ordered_dict,
    DEFAULT_DICT: _read_default_dict,
    COUNTER: _read_counter,
    DEQUE: _read_deque,
}
