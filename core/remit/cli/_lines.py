"""What a function said beside its output, as lines that people and programs can read. Pure."""

from __future__ import annotations

import logging

from remit import Gap, LogRecord, Progress, WarningRecord
from remit._wire.sanitize import harmless, one_line

_NUMBERS_AND_TEXT = frozenset((type(None), bool, int, float, str))


def value(data: object) -> str:
    """One line: JSON where ``data`` is what JSON can say, else its repr. Harmless either way."""
    try:
        if is_json(data):
            import json

            text = json.dumps(data, ensure_ascii=False, allow_nan=False)
            return "".join(map(_escaped, text)) if harmless(text) != text else text
        return one_line(repr(data))
    except (ValueError, RecursionError) as exc:
        # An integer of very many digits, or objects of a library within each other.
        return one_line(f"<{type(data).__name__} that cannot be shown: {exc}>")


def talk(data: object) -> str:
    """A log record, a warning, progress or a gap, as lines for stderr."""
    match data:
        case LogRecord():
            return _said(f"{logging.getLevelName(data.level)} {data.logger}: {data.message}")
        case WarningRecord():
            return _said(f"{data.category}: {data.message} ({data.filename}:{data.lineno})")
        case Progress():
            total = "" if data.total is None else f"/{data.total:g}"
            return _said(f"progress {data.done:g}{total} {data.text}".rstrip())
        case Gap():
            return f"remit: {data.size} bytes are missing here"
    return one_line(str(data))


def _said(text: str) -> str:
    """Further lines of one record are set in, so that they are nobody else's."""
    return harmless(text).replace("\r", "\\r").replace("\n", "\n  ")


def is_json(data: object) -> bool:
    """Whether JSON tells it as it is: a tuple would come out as a list, a NaN as no JSON."""
    kind = type(data)
    if isinstance(data, dict):
        return kind is dict and all(type(key) is str and is_json(one) for key, one in data.items())
    if isinstance(data, list):
        return kind is list and all(map(is_json, data))
    if isinstance(data, float):
        return kind is float and data - data == 0  # neither infinite nor a NaN
    return kind in _NUMBERS_AND_TEXT


def _escaped(character: str) -> str:
    """As JSON escapes it, where a terminal would take it as an order."""
    return character if harmless(character) == character else f"\\u{ord(character):04x}"
