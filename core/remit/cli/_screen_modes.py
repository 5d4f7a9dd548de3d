"""What a program has done to a terminal, so that it can be undone without the program. Pure."""

from __future__ import annotations

import re

# A sequence that is longer holds text, as a title or a picture does, and changes no mode.
_LONGEST = 256
_SEQUENCE = re.compile(
    rb"\x1b(?:\[(?P<private>[?>=<]?)(?P<numbers>[0-9;:]*)(?P<more>[ !\"$']?)(?P<final>[@-~])"
    rb"|\](?P<text>[^\x07\x1b]*)(?:\x07|\x1b\\)|(?P<single>[=>c])|(?P<set>[()][0AB]))"
    rb"|(?P<shift>[\x0e\x0f])"
)
# The beginning of one, at the end of what has come.
_BEGUN = re.compile(rb"\x1b(?:\[[0-9;:?>=< !\"$']*|[\]P_^X][^\x07\x1b]*\x1b?|[()])?\Z")
# Modes that are on unless a program turns them off: wrapping lines, the cursor.
_USUALLY_ON = frozenset({7, 25})
# Screens of their own, which are left first: the rest is for the one that stays.
_SCREENS = (1049, 1047, 47)


class Modes:
    """Reads what is shown, and tells what to write so that the terminal is as it was."""

    def __init__(self) -> None:
        self._rest = b""
        self._changed: set[int] = set()  # private modes that are not as they usually are
        self._others: dict[str, bytes] = {}  # what else is to be undone, by what it is

    def feed(self, data: bytes) -> None:
        data = self._rest + data
        for found in _SEQUENCE.finditer(data):
            self._take(found)
        begun = _BEGUN.search(data, max(0, len(data) - _LONGEST))
        self._rest = begun[0] if begun is not None else b""

    def undo(self) -> bytes:
        """Nothing where nothing was changed."""
        words = [b"\x18\x1b\\"] if self._rest else []  # whatever was begun is over
        words += [b"\x1b[?%dl" % mode for mode in _SCREENS if mode in self._changed]
        for mode in sorted(self._changed.difference(_SCREENS)):
            words.append(b"\x1b[?%d%s" % (mode, b"h" if mode in _USUALLY_ON else b"l"))
        words += self._others.values()
        return b"".join(words)

    def _take(self, found: re.Match[bytes]) -> None:
        if found["final"]:
            numbers = [int(word[:6] or 0) for word in re.split(rb"[;:]", found["numbers"])]
            self._control(found["private"], numbers, found["more"], found["final"])
        elif found["single"] == b"c":  # everything anew
            self._changed.clear()
            self._others.clear()
        elif found["single"]:
            self._note("keypad", b"\x1b>", found["single"] == b"=")
        elif found["set"]:
            undone = b"\x1b" + found["set"][:1] + b"B"
            self._note("set " + found["set"][:1].decode(), undone, found["set"][1:] != b"B")
        elif found["shift"]:
            self._note("shift", b"\x0f", found["shift"] == b"\x0e")

    def _control(self, private: bytes, numbers: list[int], more: bytes, final: bytes) -> None:
        if private == b"?" and final in b"hl":
            for mode in numbers:
                if (final == b"h") is (mode in _USUALLY_ON):
                    self._changed.discard(mode)
                else:
                    self._changed.add(mode)
        elif final == b"m" and not private:
            self._note("colours", b"\x1b[m", numbers[-1] != 0)
        elif final == b"m" and private == b">":
            self._note("keys", b"\x1b[>4m", numbers[-1] != 0)
        elif final == b"r" and not private:
            # Ours would move the cursor: it is kept where it is.
            self._note("region", b"\x1b7\x1b[r\x1b8", numbers != [0])
        elif final == b"u" and private in (b">", b"="):
            self._note("keyboard", b"\x1b[<9u", True)
        elif final == b"q" and more == b" ":
            self._note("cursor", b"\x1b[0 q", numbers != [0])
        elif final == b"h" and not private and 4 in numbers:
            self._note("insert", b"\x1b[4l", True)

    def _note(self, what: str, undone: bytes, changed: bool) -> None:
        if changed:
            self._others[what] = undone
        else:
            self._others.pop(what, None)


class Escapes:
    """Finds ``~.`` at the beginning of a line, as ssh(1) does: typed, it leaves. ``~~`` is one."""

    def __init__(self) -> None:
        self._line_begins = True
        self._held = False

    def feed(self, keys: bytes) -> tuple[bytes, bool]:
        """What is to be sent of it, and whether we are to leave."""
        sent = bytearray()
        for key in keys:
            if self._held:
                self._held = False
                if key == ord("."):
                    return bytes(sent), True
                sent.append(ord("~"))
                if key == ord("~"):
                    self._line_begins = False
                    continue
            elif self._line_begins and key == ord("~"):
                self._held = True
                continue
            sent.append(key)
            self._line_begins = key in b"\r\n"
        return bytes(sent), False
