"""Values of the standard library's further types, and of the classes that travel as records.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import array
import math
import operator
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
    ENUM,
    EXCEPTION,
    FRACTION,
    ORDERED_DICT,
    POSIX_PATH,
    RANGE,
    SLICE,
    STRUCT,
    TUPLE_STRUCT,
    UUID,
    WINDOWS_PATH,
)
from remit._values.limits import ValueRefused
from remit._values.placeholders import EnumMember, ExceptionRecord, Struct, type_name
from remit._values.reader import numbers
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
_NIL = 0xC0
_SIGNED, _UNSIGNED, _FLOATS = "bhilq", "BHILQ", "fd"


def record_of(kind: type) -> Write | None:
    """What writes instances of a class of this kind, where they can be a record."""
    if issubclass(kind, BaseException):
        return _exception
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(kind, enum.Enum):
        return _enum
    if issubclass(kind, tuple):
        return _tuple_kind(kind)
    if issubclass(kind, (dict, list, set, frozenset, str, int, float, bytes, bytearray)):
        # What it holds besides its fields would be lost.
        return None
    dataclasses = sys.modules.get("dataclasses")
    if dataclasses is not None and dataclasses.is_dataclass(kind):
        return _dataclass
    if isinstance(getattr(kind, "__attrs_attrs__", None), tuple):
        return _attrs
    return None


def _tuple_kind(kind: type) -> Write | None:
    names = getattr(kind, "_fields", None)
    if isinstance(names, tuple) and all(type(name) is str for name in names):
        return _named_tuple if vars(kind).get("__len__") is None else _lazy_tuple
    # What C has like a named tuple: PyStructSequence.
    return _struct_sequence if type(getattr(kind, "n_sequence_fields", None)) is int else None


def _write_struct(writer: Writer, value: object, name: str, fields: dict[str, Any]) -> None:
    writer.enter(value, 2 * len(fields))
    writer.begin(STRUCT)
    writer.value(name)
    writer.pairs(fields, fields=True)
    writer.end()
    writer.leave(value)


def _write_tuple_struct(
    writer: Writer, value: object, name: str, fields: dict[str, Any], items: tuple[Any, ...]
) -> None:
    """The items follow the fields, where they are not just their values; else there is None."""
    values = tuple(fields.values())
    same = len(items) == len(values) and all(map(operator.is_, items, values))
    writer.enter(value, 2 * len(fields) + (0 if same else len(items)))
    writer.begin(TUPLE_STRUCT)
    writer.value(name)
    writer.pairs(fields, fields=True)
    if same:
        writer.value(None)
    else:
        writer.items(items)
    writer.end()
    writer.leave(value)


def _fields(value: object, names: list[str]) -> dict[str, Any]:
    fields = {}
    for name in names:
        try:
            fields[name] = getattr(value, name)
        except Exception as exc:
            raise ValueRefused(
                ".%s" % name, "it has no value there (%s)" % type(exc).__name__
            ) from None
    return fields


def _named_tuple(writer: Writer, value: Any) -> None:
    kind = type(value)
    if len(kind._fields) != len(value):
        raise ValueRefused("", "a named tuple of another length than its names")
    items = tuple.__getitem__(value, slice(None))
    _write_tuple_struct(writer, value, type_name(kind), dict(zip(kind._fields, items)), items)


def _lazy_tuple(writer: Writer, value: Any) -> None:
    """Of a class that finds out some of its items when they are asked for, such as
    ``platform.uname_result``."""
    fields = _fields(value, list(value._fields))
    try:
        items = tuple(value)
    except Exception as exc:
        raise ValueRefused("", "going through it raised %s" % _said(exc)) from exc
    _write_tuple_struct(writer, value, type_name(type(value)), fields, items)


def _struct_sequence(writer: Writer, value: Any) -> None:
    kind = type(value)
    # Of three fields of a stat_result each has a place without a name, and a name without a place.
    names = [name for name, one in vars(kind).items() if type(one) is types.MemberDescriptorType]
    items = tuple.__getitem__(value, slice(None))
    _write_tuple_struct(writer, value, type_name(kind), _fields(value, names), items)


def _dataclass(writer: Writer, value: Any) -> None:
    names = [field.name for field in sys.modules["dataclasses"].fields(value)]
    _write_struct(writer, value, type_name(type(value)), _fields(value, names))


def _attrs(writer: Writer, value: Any) -> None:
    names = [field.name for field in type(value).__attrs_attrs__]
    _write_struct(writer, value, type_name(type(value)), _fields(value, names))


def _struct(writer: Writer, value: Struct) -> None:
    fields, items = dict(value.fields), value._items
    if items is None:
        _write_struct(writer, value, value.type_name, fields)
    else:
        _write_tuple_struct(writer, value, value.type_name, fields, items)


def _read_struct(reader: Reader, end: int) -> Struct:
    return Struct(*_name_and_fields(reader))


def _read_tuple_struct(reader: Reader, end: int) -> Struct:
    name, fields = _name_and_fields(reader)
    if reader.source[reader.at] == _NIL:
        reader.at += 1
        return Struct(name, fields, tuple(fields.values()))
    return Struct(name, fields, tuple(reader.items()))


def _name_and_fields(reader: Reader) -> tuple[str, dict[str, Any]]:
    name = _text(reader.value())
    fields = reader.pairs()
    for field in fields:
        _text(field)
    return name, fields


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueRefused("", "no text where there has to be some")
    assert isinstance(value, str)
    return value


def _enum(writer: Writer, value: Any) -> None:
    # Flags without a name of their own have None, or one that is put together.
    name = value.name if type(value.name) is str else None
    _write_enum(writer, value, EnumMember(type_name(type(value)), name, value.value))


def _enum_member(writer: Writer, value: EnumMember) -> None:
    _write_enum(writer, value, value)


def _write_enum(writer: Writer, value: object, member: EnumMember) -> None:
    writer.enter(value, 3)
    writer.begin(ENUM)
    writer.value(member.type_name)
    writer.value(member.name)
    try:
        writer.value(member.value)
    except ValueRefused as refused:
        refused.within(".value")
        raise
    writer.end()
    writer.leave(value)


def _read_enum(reader: Reader, end: int) -> EnumMember:
    reader.charge(3)
    kind = _text(reader.value())
    name = reader.value()
    return EnumMember(kind, name if name is None else _text(name), reader.value())


def _exception(writer: Writer, value: BaseException) -> None:
    _exception_record(writer, ExceptionRecord.of(value))


def _exception_record(writer: Writer, value: ExceptionRecord) -> None:
    writer.enter(value, 7)
    writer.begin(EXCEPTION)
    for text in (value.type, value.message, value.traceback):
        writer.value(_text(text))
    writer.charge(len(value.notes) + len(value.exceptions))
    writer.items(value.notes)
    writer.value(value.cause)
    writer.value(value.context)
    writer.items(value.exceptions)
    writer.end()
    writer.leave(value)


def _read_exception(reader: Reader, end: int) -> ExceptionRecord:
    reader.charge(7)
    kind, message, traceback = (_text(reader.value()) for _ in range(3))
    notes = tuple(map(_text, reader.items()))
    cause, context = (_link(reader.value()) for _ in range(2))
    members = tuple(filter(None, map(_link, reader.items())))
    return ExceptionRecord(kind, message, traceback, notes, cause, context, members)


def _link(value: object) -> ExceptionRecord | None:
    if value is not None and type(value) is not ExceptionRecord:
        raise ValueRefused("", "no exception where one has to be")
    return value


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
    _write_struct(writer, value, type_name(type(value)), _fields(value, names))


def _namespace(writer: Writer, value: types.SimpleNamespace) -> None:
    _write_struct(writer, value, type_name(type(value)), dict(vars(value)))


def _iterated(writer: Writer, value: Iterable[Any]) -> None:
    """What is there to be gone through once, as a list: it may be code of the user's that runs."""
    try:
        items = list(islice(value, writer.room + 1))
    except Exception as exc:
        raise ValueRefused("", "going through it raised %s" % _said(exc)) from exc
    writer.value(items)


def _said(exc: Exception) -> str:
    record = ExceptionRecord.of(exc)
    return "%s: %s" % (record.type, record.message) if record.message else record.type


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
        raise ValueRefused("", "a defaultdict whose default is code; dict(it) can travel")
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
    if name is not None and _text(name) not in _FACTORIES:
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
        raise ValueRefused("", "an array of characters; its text can travel")
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
    Struct: _struct,
    **dict.fromkeys(map(type, ({}.keys(), {}.values(), {}.items())), _iterated),
    **dict.fromkeys((zip, map, filter, enumerate, reversed, type(reversed([]))), _iterated),
    types.SimpleNamespace: _namespace,
    EnumMember: _enum_member,
    ExceptionRecord: _exception_record,
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
    ENUM: _read_enum,
    STRUCT: _read_struct,
    TUPLE_STRUCT: _read_tuple_struct,
    EXCEPTION: _read_exception,
    RANGE: _read_range,
    SLICE: _read_slice,
    ORDERED_DICT: _read_ordered_dict,
    DEFAULT_DICT: _read_default_dict,
    COUNTER: _read_counter,
    DEQUE: _read_deque,
}
