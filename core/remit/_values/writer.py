"""Writes a value as MessagePack: containers and scalars here, each further type by a function of
its own that `codec` has put in the tables.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import array
import struct
import sys
import weakref
from typing import TYPE_CHECKING

from remit._values.codes import (
    BIG_INT,
    BYTEARRAY,
    FROZENSET,
    ITEM_MEMORY,
    NUMBERS,
    ODD_STR,
    SET,
    STRINGS,
    TUPLE,
    WEIGHT,
)
from remit._values.limits import Limits, ValueRefused, described, step_to
from remit._wire.msgpack import head, pack_int

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any, Union

    Buffer = Union[bytearray, memoryview]
    Write = Callable[["Writer", Any], None]
    Kind = Callable[[type], "Write | None"]
    Check = Callable[[bytes, Limits], None]

# A buffer of this size travels as it is; a smaller one is cheaper copied.
_SHARED_FROM = 64 * 1024
# Where the contents of an array begin, as seen from the start of the encoding: any type of number
# can be read in place, and no row begins in the middle of a cache line.
ALIGNMENT = 64
# A list of at least so many items is looked at: one kind of number or nothing but str?
_COLUMN_FROM = 16
_FLOAT = struct.Struct(">Bd").pack
_EXT = struct.Struct(">BIB")
_EXT_SIZE = struct.Struct(">I")
_MOST_EXT = (1 << 32) - 1
_FIXED_EXT = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
# Keys that are as different when they are read as they were, and whose hashes are: numbers below
# the prime that Python's hash of numbers is the remainder by (on computers of 32 bits, too).
_TEXT = frozenset((str, bytes))
_PLAIN_KEYS = frozenset((str, bytes, int, float, bool, type(None)))
_SMALL_KEY = (1 << 31) - 1


class Writer:
    """Gathers the encoding of one value. After a refusal it is of no more use."""

    __slots__ = (
        "_active",
        "_before",
        "_checks_keys",
        "_left",
        "_limits",
        "_marks",
        "_memory",
        "_parts",
        "buf",
        "known",
    )

    def __init__(self, limits: Limits, known: Known, checks_keys: bool = True) -> None:
        self.buf = bytearray()
        self.known = known
        self._parts: list[Buffer] = []
        self._before = 0  # bytes in the parts
        self._left = limits.count
        self._memory = limits.memory
        self._limits = limits
        self._active: set[int] = set()
        self._checks_keys = checks_keys
        self._marks: list[tuple[bytearray, int, int]] = []

    def value(self, value: object) -> None:
        self.known[type(value)](self, value)

    def finish(self) -> list[Buffer]:
        self.check_room(0)
        if self.buf or not self._parts:
            self._parts.append(self.buf)
        return self._parts

    # What the functions of the types use.

    def enter(self, value: object, count: int) -> None:
        """A container with ``count`` items begins."""
        active = self._active
        if id(value) in active:
            raise ValueRefused("", "it contains itself")
        if len(active) >= self._limits.depth:
            raise ValueRefused("", "nested deeper than %d" % self._limits.depth)
        active.add(id(value))
        self.charge(count)

    def leave(self, value: object) -> None:
        self._active.remove(id(value))

    def charge(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueRefused("", "more than %d items" % self._limits.count)
        self.check_room(count)

    def weigh(self, items: int) -> None:
        """It takes up the memory of so many more items than it is charged for."""
        self._memory -= items * ITEM_MEMORY
        if self._memory < 0:
            raise ValueRefused("", "objects of more than %d bytes" % self._limits.memory)

    @property
    def room(self) -> int:
        """How many more items there may be."""
        return self._left

    def check_room(self, size: int) -> None:
        """Refuses a value that ``size`` more bytes would make too large."""
        if self._before + len(self.buf) + size > self._limits.size:
            raise ValueRefused("", "more than %d bytes" % self._limits.size)

    def begin(self, code: int) -> None:
        """An extension type begins, whose size is not known yet."""
        if code in WEIGHT:
            self.weigh(WEIGHT[code])
        buf = self.buf
        self._marks.append((buf, len(buf), self._before + len(buf)))
        buf += _EXT.pack(0xC9, 0, code)

    def end(self) -> None:
        buf, at, start = self._marks.pop()
        size = self._before + len(self.buf) - start - _EXT.size
        if size > _MOST_EXT:
            raise ValueRefused("", "more than 4 GiB in one piece")
        _EXT_SIZE.pack_into(buf, at + 1, size)

    def ext(self, code: int, body: bytes) -> None:
        """An extension type whose contents are small, or have to be copied anyway."""
        size = len(body)
        if code in WEIGHT:
            self.weigh(WEIGHT[code])
        fixed = _FIXED_EXT.get(size)
        if fixed is not None:
            self.buf += bytes((fixed, code))
        elif size > _MOST_EXT:
            raise ValueRefused("", "more than 4 GiB in one piece")
        else:
            self.buf += head(size, None, 0, 0xC7, 0xC8, 0xC9) + bytes((code,))
        self.contents(body)

    def contents(self, data: bytes | bytearray | memoryview) -> None:
        """Bytes as they are; large ones are not copied. ``data`` is contiguous, its items bytes."""
        size = len(data)
        self.check_room(size)
        if size < _SHARED_FROM:
            self.buf += data
            return
        if self.buf:
            self._parts.append(self.buf)
        self._parts.append(memoryview(data))
        self._before += len(self.buf) + size
        self.buf = bytearray()

    def aligned(self, data: memoryview) -> None:
        """The contents of an array: how many zeros, so many zeros, the contents."""
        zeros = -(self._before + len(self.buf) + 1) % ALIGNMENT
        self.buf.append(zeros)
        self.buf += bytes(zeros)
        self.contents(data)

    def items(self, items: Collection[Any], step: str = "[%d]") -> None:
        """A list, as part of a container that has been entered. ``step`` names one in a path."""
        count = len(items)
        if count >= _COLUMN_FROM:
            kinds = set(map(type, items))
            if len(kinds) == 1 and _column(self, kinds.pop(), items):
                return
        self.buf += head(count, 0x90, 16, None, 0xDC, 0xDD)
        known = self.known
        index = 0
        try:
            for item in items:
                known[type(item)](self, item)
                index += 1
        except ValueRefused as refused:
            refused.within(step % index if "%" in step else step)
            raise
        if index != count:
            raise ValueRefused("", "it changed while it was read")

    def pairs(self, table: Mapping[Any, Any], fields: bool = False) -> None:
        """A map, as part of a container that has been entered. ``fields``: paths name its keys as
        attributes."""
        count = len(table)
        self.buf += head(count, 0x80, 16, None, 0xDE, 0xDF)
        known = self.known
        key: object = None
        written = -1
        try:
            for key, item in table.items():
                known[type(key)](self, key)
                written += 1
                known[type(item)](self, item)
                written += 1
        except ValueRefused as refused:
            # An even number: the key itself was written.
            refused.within(step_to(key, fields) if written % 2 == 0 else "{key}")
            raise
        if written != 2 * count - 1:
            raise ValueRefused("", "it changed while it was read")
        self.check_keys(table)

    def check_keys(self, keys: Collection[Any], step: str = "{key}") -> None:
        """Refuses keys and members that would be equal when they are read, though they are not
        here, or could not be keys there: so by reading them."""
        if not self._checks_keys or _stay_apart(keys):
            return
        # Keys within these are read, and so checked, with them.
        writer = Writer(self._limits, self.known, checks_keys=False)
        writer.items(list(keys), step)
        try:
            self.known.check_keys(b"".join(writer.finish()), self._limits)
        except ValueRefused as refused:
            refused.within(step)
            raise


def _stay_apart(keys: Collection[Any]) -> bool:
    kinds = set(map(type, keys))
    if kinds <= _TEXT:
        return True
    return kinds <= _PLAIN_KEYS and all(
        -_SMALL_KEY < key < _SMALL_KEY for key in keys if type(key) is int
    )


class Known(dict):  # type: ignore[type-arg]
    """By exact type, what writes it; ``find`` is asked for those that are not there."""

    __slots__ = ("_find", "_found", "check_keys")

    def __init__(self, known: dict[type, Write], find: Kind, check_keys: Check) -> None:
        """``check_keys`` reads an encoding of a list of keys; raises ValueRefused where they could
        not be keys of one dict."""
        super().__init__(known)
        self._find = find
        self.check_keys = check_keys
        # Classes come and go.
        self._found: weakref.WeakKeyDictionary[type, Write] = weakref.WeakKeyDictionary()

    def __missing__(self, kind: type) -> Write:
        write = self._found.get(kind)
        if write is None:
            write = self._find(kind)
            if write is None:
                raise ValueRefused("", "%s cannot be sent as data" % described(kind))
            self._found[kind] = write
        return write


def _none(writer: Writer, value: None) -> None:
    writer.buf.append(0xC0)


def _bool(writer: Writer, value: bool) -> None:
    writer.buf.append(0xC3 if value else 0xC2)


def _int(writer: Writer, value: int) -> None:
    if 0 <= value < 128:
        writer.buf.append(value)
    elif -(1 << 63) <= value < 1 << 64:
        writer.buf += pack_int(value)
    else:
        writer.ext(BIG_INT, big_int(value))


def big_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)


def _float(writer: Writer, value: float) -> None:
    writer.buf += _FLOAT(0xCB, value)


def _str(writer: Writer, value: str) -> None:
    try:
        data = value.encode()
    except UnicodeEncodeError:
        writer.ext(ODD_STR, value.encode("utf-8", "surrogatepass"))
        return
    size = len(data)
    if size < 32:
        writer.buf.append(0xA0 | size)
        writer.buf += data
        return
    if size > _MOST_EXT:
        raise ValueRefused("", "more than 4 GiB in one piece")
    writer.buf += head(size, None, 0, 0xD9, 0xDA, 0xDB)
    writer.contents(data)


def _bytes(writer: Writer, value: bytes) -> None:
    if len(value) > _MOST_EXT:
        raise ValueRefused("", "more than 4 GiB in one piece")
    writer.buf += head(len(value), None, 0, 0xC4, 0xC5, 0xC6)
    writer.contents(value)


def _bytearray(writer: Writer, value: bytearray) -> None:
    writer.begin(BYTEARRAY)
    writer.contents(value)
    writer.end()


def _memoryview(writer: Writer, value: memoryview) -> None:
    if value.nbytes > _MOST_EXT:
        raise ValueRefused("", "more than 4 GiB in one piece")
    writer.buf += head(value.nbytes, None, 0, 0xC4, 0xC5, 0xC6)
    flat = value.c_contiguous and value.nbytes
    writer.contents(value.cast("B") if flat else memoryview(value.tobytes()))


def _list(writer: Writer, value: list[Any]) -> None:
    writer.enter(value, len(value))
    writer.items(value)
    writer.leave(value)


def _tuple(writer: Writer, value: tuple[Any, ...]) -> None:
    writer.enter(value, len(value))
    writer.begin(TUPLE)
    writer.items(value)
    writer.end()
    writer.leave(value)


def _set(writer: Writer, value: set[Any]) -> None:
    _members(writer, value, SET)


def _frozenset(writer: Writer, value: frozenset[Any]) -> None:
    _members(writer, value, FROZENSET)


def _members(writer: Writer, value: set[Any] | frozenset[Any], code: int) -> None:
    writer.enter(value, len(value))
    writer.begin(code)
    writer.items(value, step="{...}")
    writer.check_keys(value, "{...}")
    writer.end()
    writer.leave(value)


def _dict(writer: Writer, value: dict[Any, Any]) -> None:
    writer.enter(value, 2 * len(value))
    writer.pairs(value)
    writer.leave(value)


WRITERS: dict[type, Write] = {
    type(None): _none,
    bool: _bool,
    int: _int,
    float: _float,
    str: _str,
    bytes: _bytes,
    bytearray: _bytearray,
    memoryview: _memoryview,
    list: _list,
    tuple: _tuple,
    set: _set,
    frozenset: _frozenset,
    dict: _dict,
}


def _column(writer: Writer, kind: type, items: Collection[Any]) -> bool:
    """Writes a list of one kind in one piece, where there is a way to."""
    if kind is str:
        return _strings(writer, items)
    if kind is float:
        typecode = "d"
    elif kind is int:
        # As many bits as the largest has, were they all of its sign.
        bits = max(max(items), ~min(items)).bit_length()
        if bits > 63:
            return False
        typecode = "b" if bits < 8 else "h" if bits < 16 else "i" if bits < 32 else "q"
    else:
        return False
    column = array.array(typecode, items)
    writer.begin(NUMBERS)
    writer.buf.append(ord(typecode))
    writer.contents(little_endian(column))
    writer.end()
    return True


def _strings(writer: Writer, items: Collection[str]) -> bool:
    lengths = array.array("I", map(len, items))
    # One long str may stand in the list many times.
    writer.check_room(sum(lengths))
    try:
        text = "".join(items).encode()
    except UnicodeEncodeError:
        return False
    most = max(lengths)
    typecode = "B" if most < 1 << 8 else "H" if most < 1 << 16 else "I"
    writer.begin(STRINGS)
    writer.buf += struct.pack(">BI", ord(typecode), len(lengths))
    writer.contents(little_endian(array.array(typecode, lengths)))
    writer.contents(text)
    writer.end()
    return True


def little_endian(column: array.array[Any]) -> memoryview:
    """The contents of ``column``, which is changed on computers that write it otherwise."""
    if sys.byteorder == "big":
        column.byteswap()
    return memoryview(column).cast("B") if column else memoryview(b"")
