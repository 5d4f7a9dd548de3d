"""Text that a job or another program wrote, made harmless for a terminal. Pure.

What a terminal would take as an order is shown as an escape, as the command line of the caller
does it. Standard library only, Python 3.6.
"""

from __future__ import annotations

import codecs

# C0 without tab, newline and carriage return; DEL and C1; what turns the direction of text or
# breaks lines in some terminals; and lone surrogates, which are bytes that were no UTF-8.
_ORDERS = [
    *range(0x09),
    *(0x0B, 0x0C),
    *range(0x0E, 0x20),
    *range(0x7F, 0xA0),
    *(0x061C, 0x200E, 0x200F),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
]
_ESCAPES = {code: ("\\x%02x" if code < 0x100 else "\\u%04x") % code for code in _ORDERS}
_ESCAPES.update({code: "\\u%04x" % code for code in range(0xD800, 0xE000)})
_ESCAPES.update({0xDC00 + byte: "\\x%02x" % byte for byte in range(0x80, 0x100)})
_BREAKS = {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}


def harmless(text: str) -> str:
    """``text`` with tabs and line ends as they are, and without any other control character."""
    return text.translate(_ESCAPES)


def one_line(text: str) -> str:
    """``text`` as one harmless line: tabs and line ends are shown as escapes too."""
    return harmless(text).translate(_BREAKS)


class Filter:
    """Makes a stream of bytes harmless, however the stream was cut. UTF-8 stays as it is."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """What can be shown of ``data`` so far; ``final`` also gives out half a character."""
        return harmless(self._decoder.decode(data, final)).encode("utf-8")
