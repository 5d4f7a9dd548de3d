"""How much a value may be when it travels as data, and the word for one that may not.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

# What one MessagePack length can say.
_MOST = (1 << 32) - 1
_MOST_BYTES = (1 << 62) - 1
_MEMORY = 1 << 29


class ValueRefused(Exception):
    """A value cannot be sent as data. ``path`` names the place in it (``result["a"][3]``; empty
    where bytes were being read), ``why`` tells what stands in the way."""

    def __init__(self, path: str, why: str) -> None:
        super().__init__(path, why)
        self.path = path
        self.why = why

    def within(self, step: str) -> None:
        """Tells that all this was found at ``step`` of a larger value."""
        self.path = step + self.path

    def __str__(self) -> str:
        return "%s: %s" % (self.path, self.why) if self.path else self.why


class Limits:
    """The most that a value may be: containers within containers, items in all of them together
    (a dict's keys and values are two each), bytes of its encoding, and bytes of memory that objects
    of the heavier types may take beside 80 for each item. Frozen."""

    __slots__ = ("count", "depth", "memory", "size")

    depth: int
    count: int
    size: int
    memory: int

    def __init__(
        self,
        depth: int = 100,
        count: int = 10_000_000,
        size: int = 1 << 32,
        memory: int = _MEMORY,
    ) -> None:
        """Raises TypeError for what is no whole number, ValueError for less than one level and for
        what no encoding can say."""
        for name, value, least, most in (
            ("depth", depth, 1, _MOST_BYTES),
            ("count", count, 0, _MOST),
            ("size", size, 1, _MOST_BYTES),
            ("memory", memory, 0, _MOST_BYTES),
        ):
            object.__setattr__(self, name, _checked(name, value, least, most))

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("limits are frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("limits are frozen")

    def __reduce__(self) -> tuple[type[Limits], tuple[int, int, int, int]]:
        return Limits, (self.depth, self.count, self.size, self.memory)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Limits):
            return NotImplemented
        return self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    def __repr__(self) -> str:
        told = "depth=%d, count=%d, size=%d" % (self.depth, self.count, self.size)
        if self.memory != _MEMORY:
            told += ", memory=%d" % self.memory
        return "Limits(%s)" % told


def _checked(name: str, value: object, least: int, most: int) -> int:
    # As `remit._amounts.count`, which no worker has.
    if isinstance(value, bool) or not isinstance(value, int):
        told = "%r" % value if isinstance(value, (bool, float, str)) else type(value).__name__
        raise TypeError("%s must be a whole number, not %.60s" % (name, told))
    if not least <= value <= most:
        told = "%d" % value if value.bit_length() < 200 else "one of %d bits" % value.bit_length()
        raise ValueError("no limits: %s must be %d to %d, not %s" % (name, least, most, told))
    return value


DEFAULT = Limits()


def described(kind: type) -> str:
    """``kind`` for people; no code of its own is run."""
    name = "%s.%s" % (type.__getattribute__(kind, "__module__"), kind.__qualname__)
    return "an object of type %s" % name.replace("builtins.", "", 1)


def step_to(key: object, field: bool = False) -> str:
    """How a path names the item of that key, or the attribute of that name."""
    if field:
        return ".%s" % (key,)
    kind = type(key)
    if kind is str:
        assert isinstance(key, str)
        short = key if len(key) <= 40 else key[:39] + "…"
        return '["%s"]' % short.encode("unicode_escape").decode("ascii").replace('"', '\\"')
    if kind in (int, float, bool, bytes, type(None)):
        shown = "…" if kind is int and isinstance(key, int) and key.bit_length() > 128 else key
        return "[%.60s]" % (shown if shown == "…" else repr(shown),)
    return "[<%s>]" % kind.__name__
