"""JSON for the job directory: text files that outlive remit. Bytes in, values out, no I/O.

RFC 8259 with no extras: no NaN, no comments. Debian's python3-minimal has no ``json``, and where
there is one its import costs more than the agent's whole start; the C scanner under it is taken
where it stands alone. Standard library only, Python 3.6.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64
from typing import TYPE_CHECKING

try:
    from _json import make_scanner
except ImportError:  # python3-minimal
    make_scanner = None  # type: ignore[assignment,misc]

if TYPE_CHECKING:
    from typing import Any

# Deeper than any file of ours; keeps a hostile one from our recursion limit.
MAX_DEPTH = 64
# Digits of a whole number: what more of them cost grows with their square.
MAX_DIGITS = 1000

_SPACE = " \t\n\r"
_DIGITS = frozenset("0123456789")
_UNESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# Control characters of both sets, so that `cat` of a file does nothing to a terminal.
_ESCAPES = {code: "\\u%04x" % code for code in [*range(32), *range(127, 160)]}
_ESCAPES.update({ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n", ord("\t"): "\\t"})


class JSONError(ValueError):
    """These bytes are no JSON text."""


def dumps(value: object) -> bytes:
    """The JSON text of ``value``, with one line for each key of an outermost object.

    Raises TypeError for what JSON cannot say. What is no valid Unicode in a str is escaped.
    """
    if isinstance(value, dict) and value:
        lines = ["%s: %s" % (_key(key), _text(item)) for key, item in value.items()]
        text = "{\n " + ",\n ".join(lines) + "\n}\n"
    else:
        text = _text(value) + "\n"
    # A lone surrogate becomes \udc80, which is also how JSON escapes it.
    return text.encode("utf-8", "backslashreplace")


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError("a key of type %s" % type(key).__name__)
    return _text(key)


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return '"' + value.translate(_ESCAPES) + '"'
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise TypeError("no JSON for %r" % value)
        return float.__repr__(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_text, value)) + "]"
    if isinstance(value, dict):
        items = ["%s: %s" % (_key(key), _text(item)) for key, item in value.items()]
        return "{" + ", ".join(items) + "}"
    raise TypeError("no JSON for a %s" % type(value).__name__)


def from_bytes(value: bytes) -> Any:
    """How bytes stand in a file: a str where they are UTF-8, else ``{"b64": …}``."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": b2a_base64(value, newline=False).decode("ascii")}


def to_bytes(value: Any) -> bytes:
    """The inverse of `from_bytes`. Raises JSONError."""
    if isinstance(value, str):
        try:
            return value.encode("utf-8")
        except UnicodeEncodeError as exc:
            raise JSONError("a text that is no valid Unicode") from exc
    text = value.get("b64") if isinstance(value, dict) else None
    if isinstance(text, str):
        try:
            return a2b_base64(text)
        except (Base64Error, ValueError) as exc:
            raise JSONError("malformed base64: %s" % exc) from exc
    raise JSONError("neither a text nor base64")


def loads(data: bytes) -> Any:
    """The value that ``data`` is the text of. Raises JSONError, and nothing else."""
    try:
        text = data.decode("utf-8")
        at = _skip(text, 0)
        value, at = _scan(text, at)
        at = _skip(text, at)
    except JSONError:
        raise
    except (ValueError, IndexError, RecursionError, StopIteration) as exc:
        raise JSONError("malformed or cut short: %s" % exc) from exc
    except SystemError:
        # The C scanner of 3.10 and 3.11 has lost its words: it takes json.decoder for imported.
        raise JSONError("malformed or cut short") from None
    if at != len(text):
        raise JSONError("something follows the value")
    return value


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _scan_here(text: str, at: int, depth: int = MAX_DEPTH) -> tuple[Any, int]:
    """The value that begins at ``at``, and where it ends."""
    char = text[at]
    if char == '"':
        return _scan_string(text, at + 1)
    if char == "{" or char == "[":
        if not depth:
            raise JSONError("nested deeper than %d" % MAX_DEPTH)
        at = _skip(text, at + 1)
        if char == "{":
            return _scan_object(text, at, depth - 1)
        return _scan_array(text, at, depth - 1)
    for word, value in (("null", None), ("true", True), ("false", False)):
        if text.startswith(word, at):
            return value, at + len(word)
    return _scan_number(text, at)


def _scan_object(text: str, at: int, depth: int) -> tuple[dict[str, Any], int]:
    table: dict[str, Any] = {}
    if text[at] == "}":
        return table, at + 1
    while True:
        if text[at] != '"':
            raise JSONError("a key that is no string")
        key, at = _scan_string(text, at + 1)
        at = _skip(text, at)
        if text[at] != ":":
            raise JSONError("a key without a value")
        table[key], at = _scan_here(text, _skip(text, at + 1), depth)
        at = _skip(text, at)
        if text[at] == "}":
            return table, at + 1
        if text[at] != ",":
            raise JSONError("no comma between two members")
        at = _skip(text, at + 1)


def _scan_array(text: str, at: int, depth: int) -> tuple[list[Any], int]:
    items: list[Any] = []
    if text[at] == "]":
        return items, at + 1
    while True:
        item, at = _scan_here(text, at, depth)
        items.append(item)
        at = _skip(text, at)
        if text[at] == "]":
            return items, at + 1
        if text[at] != ",":
            raise JSONError("no comma between two items")
        at = _skip(text, at + 1)


def _scan_string(text: str, at: int) -> tuple[str, int]:
    parts = []
    while True:
        end = text.index('"', at)
        escape = text.find("\\", at, end)
        stop = end if escape < 0 else escape
        part = text[at:stop]
        if not part.isprintable() and min(part) < " ":
            raise JSONError("a control character in a string")
        parts.append(part)
        if escape < 0:
            return "".join(parts), end + 1
        char = text[escape + 1]
        if char == "u":
            code, at = _scan_unit(text, escape + 2)
            if 0xD800 <= code < 0xDC00 and text.startswith("\\u", at):
                low, after = _scan_unit(text, at + 2)
                if 0xDC00 <= low < 0xE000:
                    code, at = 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00)), after
            parts.append(chr(code))
        elif char in _UNESCAPED:
            parts.append(_UNESCAPED[char])
            at = escape + 2
        else:
            raise JSONError("an escape that JSON has not")


def _scan_unit(text: str, at: int) -> tuple[int, int]:
    digits = text[at : at + 4]
    if len(digits) < 4 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
        raise JSONError("a \\u without four digits")
    return int(digits, 16), at + 4


def _scan_number(text: str, start: int) -> tuple[object, int]:
    at = start + (text[start] == "-")
    whole = _skip_digits(text, at)
    if whole == at or (text[at] == "0" and whole > at + 1):
        raise JSONError("no value where one should be")
    end = whole
    if text.startswith(".", end) and _skip_digits(text, end + 1) > end + 1:
        end = _skip_digits(text, end + 1)
    if text[end : end + 1] in ("e", "E"):
        exponent = end + 1 + (text[end + 1 : end + 2] in ("+", "-"))
        if _skip_digits(text, exponent) > exponent:
            end = _skip_digits(text, exponent)
    return (_whole_number if end == whole else float)(text[start:end]), end


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise JSONError("a number of %d digits" % len(digits))
    return int(digits)


def _skip_digits(text: str, at: int) -> int:
    while at < len(text) and text[at] in _DIGITS:
        at += 1
    return at


class _Rules:
    """What the C scanner asks of its context: JSON, and nothing that is not JSON."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = staticmethod(_whole_number)
    memo = {}  # type: ignore[var-annotated]  # noqa: RUF012  (3.6 to 3.8 ask for it)

    @staticmethod
    def parse_constant(name: str) -> object:
        raise JSONError("%s is no JSON" % name)


_scan = _scan_here if make_scanner is None else make_scanner(_Rules())  # type: ignore[arg-type]
