"""The values of a file of a job, each of the type and the size that the wire promises.

Standard library only, Python 3.6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remit._jobdir import files
from remit._wire.streams import MAX_SIZE

if TYPE_CHECKING:
    from typing import Any

MAX_TEXT = 500
_MAX_NAMED = 32
# The last second of the year 9999: nobody's calendar goes further.
_LATEST = 253402300799.0


class Fields:
    """The values of one file, each checked. ``problem`` is what is wrong with the first that is."""

    def __init__(self, name: bytes, values: dict[str, Any]) -> None:
        self.problem: str | None = None
        self._name = name.decode()
        self._values = values

    def text(self, key: str, most: int = MAX_TEXT) -> str | None:
        value = self._values.get(key)
        if isinstance(value, str):
            return value[:most]
        self._wrong(key, value)
        return None

    def texts(self, key: str) -> list[str]:
        value = self._values.get(key)
        if not isinstance(value, list):
            self._wrong(key, value)
            return []
        return [item[:MAX_TEXT] for item in value[:_MAX_NAMED] if isinstance(item, str)]

    def time(self, key: str) -> float | None:
        value = self._values.get(key)
        if isinstance(value, (int, float)) and value is not True and 0 <= value <= _LATEST:
            return float(value)
        self._wrong(key, value)
        return None

    def size(self, key: str) -> int | None:
        value = self._values.get(key)
        if type(value) is int and 0 <= value <= MAX_SIZE:
            return value
        self._wrong(key, value)
        return None

    def sizes(self, key: str) -> dict[str, int]:
        value = self._values.get(key)
        if not isinstance(value, dict):
            self._wrong(key, value)
            value = {}
        return {stream: files.number(value.get(stream)) for stream in files.STREAMS}

    def _wrong(self, key: str, value: object) -> None:
        if value is not None and self.problem is None:
            self.problem = "%s: %s is %s" % (self._name, key, shown(value))


def shown(value: object) -> str:
    """A value of JSON in a message, however large it is."""
    if isinstance(value, (dict, list)):
        return "an array" if isinstance(value, list) else "an object"
    if isinstance(value, str):
        value = value[:60]
    return repr(value)[:80]
