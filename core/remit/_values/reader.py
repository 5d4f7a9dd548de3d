"""Reads a value from MessagePack, trusting none of it: nothing is set aside for a length that is
only claimed, nothing is imported or called because the bytes name it.

Containers and scalars stand here, each further type is read by a function of its own that `codec`
has put in the table. Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import array
import struct
import sys
from collections import Counter
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
from remit._values.limits import Limits, ValueRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any, Union

    # Reads the contents of an extension type, which end at the place given.
    Read = Callable[["Reader", int], Any]
    Source = Union[bytes, bytearray, memoryview]

# Shorter than this it is quicker to read bytes than through a view of something else.
_VIEW_FROM = 64 * 1024
# As keys, larger numbers are of no use but to make comparing them slow.
_MOST_KEY_DIGITS = 1024
# So many keys of one hash do not come by chance; thousands would take for ever to tell apart.
_MOST_OF_ONE_HASH = 64
_RANDOM_HASHES = frozenset((str, bytes))


class Reader:
    """Reads the one value in ``source``. Raises ValueRefused, and what the functions of the types
    raise: `codec.decode` knows all of it."""

    __slots__ = (
        "_data",
        "_depth",
        "_keys",
        "_left",
        "_limits",
        "_memory",
        "_nested",
        "_plain",
        "at",
        "exact",
        "source",
    )

    def __init__(
        self,
        source: Source,
        limits: Limits,
        plain: dict[int, Read],
        nested: dict[int, Read],
        exact: bool = False,
    ) -> None:
        """``nested`` are the extension types that count as a level of their own. ``exact``: what
        cannot be here what it was there is refused, where else the nearest would do."""
        self.source = source
        self.exact = exact
        self.at = 0
        self._data: bytes | memoryview = (
            bytes(source) if len(source) < _VIEW_FROM else memoryview(source)
        )
        self._depth = limits.depth
        self._left = limits.count
        self._memory = limits.memory
        self._limits = limits
        self._plain = plain
        self._nested = nested
        self._keys = 0

    def value(self) -> Any:
        at = self.at
        code = self._data[at]
        self.at = at + 1
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 256
        if 0xA0 <= code < 0xC0:
            return str(self.piece(code & 0x1F), "utf-8")
        return _READ[code](self, code)

    # What the functions of the types use.

    def piece(self, size: int) -> bytes | memoryview:
        """The next bytes, as they lie there."""
        end = self.at + size
        piece = self._data[self.at : end]
        if len(piece) != size:
            raise ValueRefused("", "%d bytes announced, %d there" % (size, len(piece)))
        self.at = end
        return piece

    def rest(self, end: int) -> bytes:
        """What is left of an extension type that ends at ``end``."""
        if end < self.at:
            raise ValueRefused("", "an extension type that is too short")
        return bytes(self.piece(end - self.at))

    def number(self, form: struct.Struct) -> Any:
        return form.unpack(self.piece(form.size))[0]

    def enter(self) -> None:
        self._depth -= 1
        if self._depth < 0:
            raise ValueRefused("", "nested deeper than %d" % self._limits.depth)

    def leave(self) -> None:
        self._depth += 1

    def charge(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ValueRefused("", "more than %d items" % self._limits.count)

    def weigh(self, items: int) -> None:
        """It takes up the memory of so many more items than it is charged for."""
        self._memory -= items * ITEM_MEMORY
        if self._memory < 0:
            raise ValueRefused("", "objects of more than %d bytes" % self._limits.memory)

    def announce(self, count: int) -> None:
        """So many items are said to come, of a byte at least each."""
        there = len(self._data) - self.at
        if count > there:
            raise ValueRefused("", "%d items announced in %d bytes" % (count, there))
        self.charge(count)

    def items(self) -> list[Any]:
        """A list, as part of a container that has been entered."""
        code = self._data[self.at]
        self.at += 1
        if code in _LIST_SIZES or 0x90 <= code < 0xA0:
            size = code & 0x0F if code < 0xA0 else self.number(_LIST_SIZES[code])
            self.announce(size)
            value = self.value
            return [value() for _ in range(size)]
        if code in _EXT_SIZES or code in _FIXED_EXT:
            kind, end = self._ext_head(code)
            if kind in COLUMNS:
                items: list[Any] = COLUMNS[kind](self, end)
                self._ended(end)
                return items
        raise ValueRefused("", "no list where one has to be")

    def pairs(self) -> dict[Any, Any]:
        """A map, as part of a container that has been entered."""
        code = self._data[self.at]
        self.at += 1
        if 0x80 <= code < 0x90:
            size = code & 0x0F
        elif code in _MAP_SIZES:
            size = self.number(_MAP_SIZES[code])
        else:
            raise ValueRefused("", "no map where one has to be")
        self.announce(2 * size)
        keys, values = [], []
        value = self.value
        for _ in range(size):
            self._keys += 1
            keys.append(value())
            self._keys -= 1
            values.append(value())
        self._check_keys(keys)
        table = dict(zip(keys, values))
        if len(table) != size:
            raise ValueRefused("", "two keys that are equal as data")
        return table

    def members(self) -> set[Any]:
        """Of a set, as part of one that has been entered."""
        self._keys += 1
        items = self.items()
        self._keys -= 1
        self._check_keys(items)
        members = set(items)
        if len(members) != len(items):
            raise ValueRefused("", "two members that are equal as data")
        return members

    def check_digits(self, size: int) -> None:
        """A number that is written with so many digits or bytes is about to be read."""
        if self._keys and size > _MOST_KEY_DIGITS:
            raise ValueRefused("", "a number of %d bytes as a key" % size)

    def _check_keys(self, keys: list[Hashable]) -> None:
        if len(keys) <= _MOST_OF_ONE_HASH or _RANDOM_HASHES.issuperset(map(type, keys)):
            return
        ((_, most),) = Counter(map(hash, keys)).most_common(1)
        if most > _MOST_OF_ONE_HASH:
            raise ValueRefused("", "%d keys with the same hash" % most)

    def ext(self, code: int) -> Any:
        kind, end = self._ext_head(code)
        if kind in WEIGHT:
            self.weigh(WEIGHT[kind])
        read = self._plain.get(kind)
        if read is not None:
            value = read(self, end)
        else:
            read = self._nested.get(kind)
            if read is None:
                raise ValueRefused("", "an extension type %d that is not known here" % kind)
            self.enter()
            value = read(self, end)
            self.leave()
        self._ended(end)
        return value

    def _ext_head(self, code: int) -> tuple[int, int]:
        size = _FIXED_EXT[code] if code in _FIXED_EXT else self.number(_EXT_SIZES[code])
        kind = self._data[self.at]
        self.at += 1
        end = self.at + size
        if end > len(self._data):
            there = len(self._data) - self.at
            raise ValueRefused("", "%d bytes announced, %d there" % (size, there))
        return kind, end

    def _ended(self, end: int) -> None:
        if self.at != end:
            raise ValueRefused("", "an extension type that does not end where it says")


_U8, _U16, _U32 = struct.Struct(">B"), struct.Struct(">H"), struct.Struct(">I")
_LIST_SIZES = {0xDC: _U16, 0xDD: _U32}
_MAP_SIZES = {0xDE: _U16, 0xDF: _U32}
_EXT_SIZES = {0xC7: _U8, 0xC8: _U16, 0xC9: _U32}
_FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_STR_SIZES = {0xD9: _U8, 0xDA: _U16, 0xDB: _U32}
_BIN_SIZES = {0xC4: _U8, 0xC5: _U16, 0xC6: _U32}
_NUMBER_FORMS = {
    0xCA: struct.Struct(">f"),
    0xCB: struct.Struct(">d"),
    0xCC: _U8,
    0xCD: _U16,
    0xCE: _U32,
    0xCF: struct.Struct(">Q"),
    0xD0: struct.Struct(">b"),
    0xD1: struct.Struct(">h"),
    0xD2: struct.Struct(">i"),
    0xD3: struct.Struct(">q"),
}


def _unknown(reader: Reader, code: int) -> None:
    raise ValueRefused("", "a byte 0x%02x where a value begins" % code)


def _constant(reader: Reader, code: int) -> bool | None:
    return None if code == 0xC0 else code == 0xC3


def _number(reader: Reader, code: int) -> Any:
    return reader.number(_NUMBER_FORMS[code])


def _str(reader: Reader, code: int) -> str:
    return str(reader.piece(reader.number(_STR_SIZES[code])), "utf-8")


def _bytes(reader: Reader, code: int) -> bytes:
    return bytes(reader.piece(reader.number(_BIN_SIZES[code])))


def _list(reader: Reader, code: int) -> list[Any]:
    reader.at -= 1
    reader.enter()
    items = reader.items()
    reader.leave()
    return items


def _dict(reader: Reader, code: int) -> dict[Any, Any]:
    reader.at -= 1
    reader.enter()
    table = reader.pairs()
    reader.leave()
    return table


_READ: list[Callable[[Reader, int], Any]] = [_unknown] * 256
for _codes, _read in (
    ((0xC0, 0xC2, 0xC3), _constant),
    (_NUMBER_FORMS, _number),
    (_STR_SIZES, _str),
    (_BIN_SIZES, _bytes),
    ((*range(0x90, 0xA0), *_LIST_SIZES), _list),
    ((*range(0x80, 0x90), *_MAP_SIZES), _dict),
    ((*_FIXED_EXT, *_EXT_SIZES), Reader.ext),
):
    for _code in _codes:
        _READ[_code] = _read


def numbers(data: bytes, typecode: str) -> array.array[Any]:
    """``data`` as an array of that type of number. Raises ValueError for half a number."""
    column = array.array(typecode)
    column.frombytes(data)
    if sys.byteorder == "big":
        column.byteswap()
    return column


def _numbers_column(reader: Reader, end: int) -> list[Any]:
    typecode = chr(reader.number(_U8))
    if typecode not in "bhiqd":
        raise ValueRefused("", "a list of numbers of no known type")
    column = numbers(reader.rest(end), typecode)
    reader.charge(len(column))
    return column.tolist()


_STRINGS_HEAD = struct.Struct(">BI")


def _strings_column(reader: Reader, end: int) -> list[str]:
    code, count = _STRINGS_HEAD.unpack(reader.piece(_STRINGS_HEAD.size))
    typecode = chr(code)
    if typecode not in "BHI":
        raise ValueRefused("", "lengths of no known type")
    reader.announce(count)
    lengths = numbers(bytes(reader.piece(count * array.array(typecode).itemsize)), typecode)
    text = str(reader.rest(end), "utf-8")
    if sum(lengths) != len(text):
        raise ValueRefused("", "lengths that do not add up to the text")
    strings = []
    start = 0
    for length in lengths:
        strings.append(text[start : start + length])
        start += length
    return strings


def _odd_str(reader: Reader, end: int) -> str:
    return str(reader.rest(end), "utf-8", "surrogatepass")


def _big_int(reader: Reader, end: int) -> int:
    data = reader.rest(end)
    reader.check_digits(len(data))
    return int.from_bytes(data, "big", signed=True)


def _bytearray(reader: Reader, end: int) -> bytearray:
    return bytearray(reader.piece(end - reader.at))


def _tuple(reader: Reader, end: int) -> tuple[Any, ...]:
    return tuple(reader.items())


def _set(reader: Reader, end: int) -> set[Any]:
    return reader.members()


def _frozenset(reader: Reader, end: int) -> frozenset[Any]:
    return frozenset(reader.members())


COLUMNS: dict[int, Read] = {NUMBERS: _numbers_column, STRINGS: _strings_column}
PLAIN: dict[int, Read] = {ODD_STR: _odd_str, BIG_INT: _big_int, BYTEARRAY: _bytearray}
NESTED: dict[int, Read] = {TUPLE: _tuple, SET: _set, FROZENSET: _frozenset, **COLUMNS}
