"""Values of classes that travel as records: named tuples, dataclasses, enums, exceptions.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import operator
import sys
import types
from typing import TYPE_CHECKING

from remit._values.codes import ENUM, EXCEPTION, STRUCT, TUPLE_STRUCT
from remit._values.limits import ValueRefused
from remit._values.placeholders import EnumMember, ExceptionRecord, Struct, type_name

if TYPE_CHECKING:
    from typing import Any

    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

_NIL = 0xC0


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


def write_struct(writer: Writer, value: object, name: str, fields: dict[str, Any]) -> None:
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


def fields_of(value: object, names: list[str]) -> dict[str, Any]:
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
    fields = fields_of(value, list(value._fields))
    try:
        items = tuple(value)
    except Exception as exc:
        raise ValueRefused("", "going through it raised %s" % said(exc)) from exc
    _write_tuple_struct(writer, value, type_name(type(value)), fields, items)


def _struct_sequence(writer: Writer, value: Any) -> None:
    kind = type(value)
    # Of three fields of a stat_result each has a place without a name, and a name without a place.
    names = [name for name, one in vars(kind).items() if type(one) is types.MemberDescriptorType]
    items = tuple.__getitem__(value, slice(None))
    _write_tuple_struct(writer, value, type_name(kind), fields_of(value, names), items)


def _dataclass(writer: Writer, value: Any) -> None:
    names = [field.name for field in sys.modules["dataclasses"].fields(value)]
    write_struct(writer, value, type_name(type(value)), fields_of(value, names))


def _attrs(writer: Writer, value: Any) -> None:
    names = [field.name for field in type(value).__attrs_attrs__]
    write_struct(writer, value, type_name(type(value)), fields_of(value, names))


def _struct(writer: Writer, value: Struct) -> None:
    fields, items = dict(value.fields), value._items
    if items is None:
        write_struct(writer, value, value.type_name, fields)
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
    name = text_of(reader.value())
    fields = reader.pairs()
    for field in fields:
        text_of(field)
    return name, fields


def text_of(value: object) -> str:
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
    kind = text_of(reader.value())
    name = reader.value()
    return EnumMember(kind, name if name is None else text_of(name), reader.value())


def _exception(writer: Writer, value: BaseException) -> None:
    _exception_record(writer, ExceptionRecord.of(value))


def _exception_record(writer: Writer, value: ExceptionRecord) -> None:
    writer.enter(value, 7)
    writer.begin(EXCEPTION)
    for text in (value.type, value.message, value.traceback):
        writer.value(text_of(text))
    writer.charge(len(value.notes) + len(value.exceptions))
    writer.items(value.notes)
    writer.value(value.cause)
    writer.value(value.context)
    writer.items(value.exceptions)
    writer.end()
    writer.leave(value)


def _read_exception(reader: Reader, end: int) -> ExceptionRecord:
    reader.charge(7)
    kind, message, traceback = (text_of(reader.value()) for _ in range(3))
    notes = tuple(map(text_of, reader.items()))
    cause, context = (_link(reader.value()) for _ in range(2))
    members = tuple(filter(None, map(_link, reader.items())))
    return ExceptionRecord(kind, message, traceback, notes, cause, context, members)


def _link(value: object) -> ExceptionRecord | None:
    if value is not None and type(value) is not ExceptionRecord:
        raise ValueRefused("", "no exception where one has to be")
    return value


def said(exc: Exception) -> str:
    record = ExceptionRecord.of(exc)
    return "%s: %s" % (record.type, record.message) if record.message else record.type


WRITERS: dict[type, Write] = {
    Struct: _struct,
    EnumMember: _enum_member,
    ExceptionRecord: _exception_record,
}
NESTED: dict[int, Read] = {
    ENUM: _read_enum,
    STRUCT: _read_struct,
    TUPLE_STRUCT: _read_tuple_struct,
    EXCEPTION: _read_exception,
}
