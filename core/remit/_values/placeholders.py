"""What stands for an object whose class is not sent along: plain records, never code.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import re
import traceback
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
# Python shows each exception that led to another; a loop that retries can chain thousands.
_MOST_LINKS = 16
# Groups may hold one member many times, and members have links and groups of their own.
_MOST_RECORDS = 2000
_BECAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_MEANWHILE = "\nDuring handling of the above exception, another exception occurred:\n\n"


def type_name(kind: type) -> str:
    """``module.qualname``; a builtin's name alone."""
    if kind.__module__ == "builtins":
        return kind.__qualname__
    return "%s.%s" % (kind.__module__, kind.__qualname__)


class _Record:
    """Equal to one of the same kind with the same slots; slots are set once."""

    __slots__: tuple[str, ...] = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a %s is not to be changed" % type(self).__name__)

    def __delattr__(self, name: str) -> None:
        raise AttributeError("a %s is not to be changed" % type(self).__name__)

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._values()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._values() == other._values()

    def __hash__(self) -> int:
        return hash(self._values())

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__, ", ".join(map(repr, self._values())))


def _set(record: _Record, name: str, value: object) -> None:
    object.__setattr__(record, name, value)


class Struct(_Record):
    """The fields of an instance of a dataclass, an attrs class or a named tuple, or of what the
    standard library returns like one (``os.stat_result``, ``CompletedProcess``).

    ``type_name`` is ``module.qualname`` of its class, ``fields`` a read-only mapping in the order
    of declaration. Each field is an attribute, too, save where its name is one of a Struct's own or
    begins and ends with an underscore (names of that form tell Python and tools what an object can
    do); ``struct["name"]`` gives any. Hashable where its fields are.

    One that stands for a named tuple can be indexed and unpacked as that could: ``struct[0]``,
    ``x, y = struct``.
    """

    __slots__ = ("_items", "fields", "type_name")

    type_name: str
    fields: Mapping[str, Any]
    _items: tuple[Any, ...] | None

    def __init__(
        self, type_name: str, fields: Mapping[str, Any], items: tuple[Any, ...] | None = None
    ) -> None:
        """``items`` are those of a named tuple; they may be others than its fields' values."""
        _set(self, "type_name", type_name)
        _set(self, "fields", MappingProxyType(dict(fields)))
        _set(self, "_items", items)

    def __getattr__(self, name: str) -> Any:
        # Slots that are not set yet (in a copy under way) come by here, too.
        if name not in Struct.__slots__ and not (name.startswith("_") and name.endswith("_")):
            try:
                return self.fields[name]
            except KeyError:
                pass
        raise AttributeError("%s has no field %r" % (self._shown_type(), name))

    def __getitem__(self, name: str | int | slice) -> Any:
        return self.fields[name] if isinstance(name, str) else self._sequence()[name]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._sequence())

    def _sequence(self) -> tuple[Any, ...]:
        if self._items is None:
            raise TypeError("%s stands for no tuple and has no items" % self._shown_type())
        return self._items

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *filter(_NAME.match, self.fields)]

    def _shown_type(self) -> str:
        return "Struct %r" % self.type_name

    def __reduce__(self) -> tuple[Any, ...]:
        made = Struct, (self.type_name, dict(self.fields))
        return made if self._items is None else (*made, self._items)

    def __setstate__(self, items: tuple[Any, ...]) -> None:
        _set(self, "_items", items)

    def __eq__(self, other: object) -> bool:
        if type(other) is not Struct:
            return NotImplemented
        return (self.type_name, self.fields) == (other.type_name, other.fields)

    def __hash__(self) -> int:
        # Equal mappings may differ in order.
        return hash((self.type_name, frozenset(self.fields.items())))

    def __repr__(self) -> str:
        shown = [repr(self.type_name)]
        shown += [
            # A name from elsewhere may hold anything.
            "%s=%r" % (name, value) if _NAME.match(name) else "**{%r: %r}" % (name, value)
            for name, value in self.fields.items()
        ]
        return "Struct(%s)" % ", ".join(shown)


class EnumMember(_Record):
    """A member of an Enum: ``type_name`` of its class, ``name`` (None for a combination of flags
    that has none) and ``value``."""

    __slots__ = ("name", "type_name", "value")

    type_name: str
    name: str | None
    value: Any

    def __init__(self, type_name: str, name: str | None, value: object) -> None:
        _set(self, "type_name", type_name)
        _set(self, "name", name)
        _set(self, "value", value)

    def _values(self) -> tuple[Any, ...]:
        return self.type_name, self.name, self.value


class ExceptionRecord(_Record):
    """An exception as data.

    ``type`` is its class (``ValueError``, ``zlib.error``), ``message`` its text, ``traceback`` the
    text of its own traceback with source lines, ``notes`` what was added to it; ``cause`` and
    ``context`` are records of what led to it, as Python would show it (never both), and
    ``exceptions`` the members of an exception group. ``str()`` gives the whole text as Python
    prints it.
    """

    __slots__ = ("cause", "context", "exceptions", "message", "notes", "traceback", "type")

    type: str
    message: str
    traceback: str
    notes: tuple[str, ...]
    cause: ExceptionRecord | None
    context: ExceptionRecord | None
    exceptions: tuple[ExceptionRecord, ...]

    def __init__(
        self,
        type: str,
        message: str,
        traceback: str = "",
        notes: tuple[str, ...] = (),
        cause: ExceptionRecord | None = None,
        context: ExceptionRecord | None = None,
        exceptions: tuple[ExceptionRecord, ...] = (),
    ) -> None:
        _set(self, "type", type)
        _set(self, "message", message)
        _set(self, "traceback", traceback)
        _set(self, "notes", notes)
        _set(self, "cause", cause)
        _set(self, "context", context)
        _set(self, "exceptions", exceptions)

    @classmethod
    def of(cls, exc: BaseException) -> ExceptionRecord:
        """The record of ``exc`` with what led to it: the 16 links nearest to it. A group's record
        says in its notes how many members it had no room for (2000 records in all). Never raises
        for an exception that cannot tell its own message."""
        return _record_of(exc, (), [_MOST_RECORDS])

    def _values(self) -> tuple[Any, ...]:
        links = (self.cause, self.context, self.exceptions)
        return (self.type, self.message, self.traceback, self.notes, *links)

    def __str__(self) -> str:
        text = self.traceback
        record = self
        while True:
            if record.cause is not None:
                text = record.cause.traceback + _BECAUSE + text
                record = record.cause
            elif record.context is not None:
                text = record.context.traceback + _MEANWHILE + text
                record = record.context
            else:
                return text

    def __repr__(self) -> str:
        return "ExceptionRecord(%r, %r)" % (self.type, self.message)


def _record_of(exc: BaseException, above: tuple[int, ...], room: list[int]) -> ExceptionRecord:
    """``above`` are those that this one is part of: it can be no part of itself. ``room`` holds
    how many records there may still be."""
    room[0] -= 1
    above = (*above, id(exc))

    def link(other: object) -> ExceptionRecord | None:
        if not isinstance(other, BaseException) or id(other) in above:
            return None
        return _record_of(other, above, room) if room[0] > 0 and len(above) < _MOST_LINKS else None

    cause = link(exc.__cause__)
    context = None if exc.__cause__ or exc.__suppress_context__ else link(exc.__context__)
    members = getattr(exc, "exceptions", ())
    if not isinstance(members, tuple):
        members = ()
    found = [record for record in map(link, members) if record is not None]
    notes = getattr(exc, "__notes__", ())
    if not isinstance(notes, (list, tuple)):
        notes = ()
    texts = [str.__str__(note) for note in notes if isinstance(note, str)]
    if len(found) < len(members):
        texts.append("%d of %d members left out" % (len(members) - len(found), len(members)))
    return ExceptionRecord(
        type_name(type(exc)),
        _message(exc),
        _traceback(exc),
        tuple(texts),
        cause,
        context,
        tuple(found),
    )


def _message(exc: BaseException) -> str:
    try:
        return str.__str__(str(exc))
    except Exception:
        return "<its message cannot be read>"


def _traceback(exc: BaseException) -> str:
    try:
        lines = traceback.format_exception(type(exc), exc, exc.__traceback__, chain=False)
    except Exception as problem:
        name = type(problem).__name__
        return "%s: <its traceback cannot be read: %s>\n" % (type_name(type(exc)), name)
    return "".join(lines)
