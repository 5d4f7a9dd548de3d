"""MessagePack for the agent: what control bodies need, no more. Bytes in, values out, no I/O.

None, bool, int, float, str, bytes, list and dict, as https://github.com/msgpack/msgpack
(spec.md) writes them; no extension types. The caller uses msgspec. Standard library only,
Python 3.6: the agent carries this file as it stands.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

# Deeper than any message of ours; keeps a hostile peer from our recursion limit.
MAX_DEPTH = 32


class UnpackError(Exception):
    """These bytes are no MessagePack value of the kinds above."""


def pack(value: object) -> bytes:
    """The bytes of ``value``. Raises TypeError for what MessagePack cannot say."""
    out: list[bytes] = []
    _pack(value, out.append)
    return b"".join(out)


def _pack(value: object, put: Callable[[bytes], None]) -> None:
    # In the order in which a list of jobs has most of them.
    if value is None:
        put(b"\xc0")
    elif isinstance(value, str):
        data = value.encode("utf-8", "backslashreplace")
        size = len(data)
        put((_SHORT_STR[size] if size < 32 else head(size, None, 0, 0xD9, 0xDA, 0xDB)) + data)
    elif isinstance(value, dict):
        put(head(len(value), 0x80, 16, None, 0xDE, 0xDF))
        for key, item in value.items():
            put(_words.get(key) or _word(key))
            _pack(item, put)
    elif value is True:
        put(b"\xc3")
    elif value is False:
        put(b"\xc2")
    elif isinstance(value, float):
        put(_FLOAT(0xCB, value))
    elif isinstance(value, int):
        put(pack_int(value))
    elif isinstance(value, (bytes, bytearray, memoryview)):
        put(head(len(value), None, 0, 0xC4, 0xC5, 0xC6))
        put(bytes(value))
    elif isinstance(value, (list, tuple)):
        put(head(len(value), 0x90, 16, None, 0xDC, 0xDD))
        for item in value:
            _pack(item, put)
    else:
        raise TypeError("no MessagePack for a %s" % type(value).__name__)


_FLOAT = struct.Struct(">Bd").pack
_SHORT_STR = [bytes((0xA0 | size,)) for size in range(32)]
# Keys of maps as they were packed before: they are few, and come again in each job of a list.
_words: dict[object, bytes] = {}
_MOST_WORDS = 512


def _word(key: object) -> bytes:
    packed = pack(key)
    if type(key) is str and len(_words) < _MOST_WORDS:
        _words[key] = packed
    return packed


def head(size: int, fix: int | None, below: int, u8: int | None, u16: int, u32: int) -> bytes:
    """What stands before ``size`` bytes or items: by the codes of its forms, ``fix`` for a size
    under ``below``. Raises struct.error for a size of more than 32 bits."""
    if fix is not None and size < below:
        return bytes((fix | size,))
    if u8 is not None and size < 1 << 8:
        return bytes((u8, size))
    if size < 1 << 16:
        return struct.pack(">BH", u16, size)
    return struct.pack(">BI", u32, size)


def pack_int(value: int) -> bytes:
    """Raises TypeError for more than 64 bits."""
    if 0 <= value < 128 or -32 <= value < 0:
        return bytes((value & 0xFF,))
    if value >= 0:
        for code, form, bits in ((0xCC, ">BB", 8), (0xCD, ">BH", 16), (0xCE, ">BI", 32)):
            if value < 1 << bits:
                return struct.pack(form, code, value)
        if value < 1 << 64:
            return struct.pack(">BQ", 0xCF, value)
    elif value >= -(1 << 63):
        return struct.pack(">Bq", 0xD3, value)
    raise TypeError("no MessagePack for an integer of more than 64 bits")


def unpack(data: bytes) -> object:
    """The one value that ``data`` holds. Raises UnpackError."""
    try:
        value, end = _unpack(data, 0, MAX_DEPTH)
    except (struct.error, IndexError, UnicodeDecodeError, TypeError) as exc:
        # A TypeError is a dict key that cannot be hashed.
        raise UnpackError("cut short or malformed: %s" % exc) from exc
    if end != len(data):
        raise UnpackError("%d bytes after the value" % (len(data) - end))
    return value


# code: (struct form, size)
_NUMBERS = {
    0xCA: (">f", 4),
    0xCB: (">d", 8),
    0xCC: (">B", 1),
    0xCD: (">H", 2),
    0xCE: (">I", 4),
    0xCF: (">Q", 8),
    0xD0: (">b", 1),
    0xD1: (">h", 2),
    0xD2: (">i", 4),
    0xD3: (">q", 8),
}
# code: (kind, struct form of the size, its own size)
_SIZED = {
    0xC4: (bytes, ">B", 1),
    0xC5: (bytes, ">H", 2),
    0xC6: (bytes, ">I", 4),
    0xD9: (str, ">B", 1),
    0xDA: (str, ">H", 2),
    0xDB: (str, ">I", 4),
    0xDC: (list, ">H", 2),
    0xDD: (list, ">I", 4),
    0xDE: (dict, ">H", 2),
    0xDF: (dict, ">I", 4),
}


def _unpack(data: bytes, at: int, depth: int) -> tuple[Any, int]:
    code = data[at]
    at += 1
    kind: type
    if code < 0x80:
        return code, at
    if code >= 0xE0:
        return code - 256, at
    if code < 0x90:
        kind, size = dict, code & 0x0F
    elif code < 0xA0:
        kind, size = list, code & 0x0F
    elif code < 0xC0:
        kind, size = str, code & 0x1F
    elif code in _NUMBERS:
        form, width = _NUMBERS[code]
        return struct.unpack_from(form, data, at)[0], at + width
    elif code in _SIZED:
        kind, form, width = _SIZED[code]
        size = struct.unpack_from(form, data, at)[0]
        at += width
    elif code in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[code], at
    else:
        raise UnpackError("a value of type 0x%02x" % code)
    if kind in (bytes, str):
        end = at + size
        if end > len(data):
            raise UnpackError("%d bytes announced, %d there" % (size, len(data) - at))
        raw = data[at:end]
        return (bytes(raw) if kind is bytes else str(raw, "utf-8")), end
    if not depth:
        raise UnpackError("nested deeper than %d" % MAX_DEPTH)
    if size > len(data) - at:
        raise UnpackError("%d items announced in %d bytes" % (size, len(data) - at))
    if kind is list:
        items = []
        for _ in range(size):
            item, at = _unpack(data, at, depth - 1)
            items.append(item)
        return items, at
    table = {}
    for _ in range(size):
        key, at = _unpack(data, at, depth - 1)
        table[key], at = _unpack(data, at, depth - 1)
    return table, at
