"""What a terminal is shown of a job's output: text, and its colours. Pure."""

from __future__ import annotations

import re

from remit._wire.sanitize import Filter

# ECMA-48, 8.3.117: select graphic rendition. It changes how the text after it looks, and nothing
# that stands on the screen.
_COLOUR = re.compile(rb"\x1b\[[0-9;:]{0,64}m")
# What may become one.
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;:]{0,64})?\Z")
_PLAIN = b"\x1b[0m"


class Colours:
    """Makes a stream of bytes harmless, however the stream was cut, save for colours: these end
    with their line, so that no line of anybody else's is drawn in them."""

    def __init__(self) -> None:
        self._filter = Filter()
        self._begun = b""
        self._coloured = False

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """What can be shown of ``data`` so far; ``final`` also gives out what was begun."""
        data, self._begun = self._begun + data, b""
        if not final and (begun := _BEGUN.search(data)):
            data, self._begun = data[: begun.start()], begun[0]
        shown, place = [], 0
        for colour in _COLOUR.finditer(data):
            shown.append(self._text(data[place : colour.start()], whole=True))
            shown.append(colour[0])
            self._coloured = colour[0] not in (_PLAIN, b"\x1b[m")
            place = colour.end()
        shown.append(self._text(data[place:], whole=final))
        if final and self._coloured:
            shown.append(_PLAIN)
        return b"".join(shown)

    def _text(self, data: bytes, *, whole: bool) -> bytes:
        text = self._filter.feed(data, whole)
        if self._coloured and b"\n" in text:
            line, _, rest = text.partition(b"\n")
            self._coloured = False
            return line + _PLAIN + b"\n" + rest
        return text
