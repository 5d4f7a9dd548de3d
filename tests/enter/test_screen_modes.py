"""What a terminal is left like, however its output was cut; and what leaves a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.cli._screen_modes import Escapes, Modes

# What programs change, and what undoes it. The second may be typed by the program itself.
CHANGES = {
    "alternate screen": (b"\x1b[?1049h", b"\x1b[?1049l"),
    "old alternate screen": (b"\x1b[?47h", b"\x1b[?47l"),
    "mouse": (b"\x1b[?1000h", b"\x1b[?1000l"),
    "mouse, of another kind": (b"\x1b[?1006h", b"\x1b[?1006l"),
    "hidden cursor": (b"\x1b[?25l", b"\x1b[?25h"),
    "no wrapping": (b"\x1b[?7l", b"\x1b[?7h"),
    "pasting": (b"\x1b[?2004h", b"\x1b[?2004l"),
    "keypad": (b"\x1b=", b"\x1b>"),
    "colours": (b"\x1b[1;38;5;9m", b"\x1b[m"),
    "line drawing": (b"\x1b(0", b"\x1b(B"),
    "shift": (b"\x0e", b"\x0f"),
    "insert": (b"\x1b[4h", b"\x1b[4l"),
}
SAID = [b"text", b"\r\n", b"\x1b]0;a title [?1049h\x07", b"\x1b[2J", b"\x1b[3;4H", "é".encode()]
changes = st.sampled_from(sorted(CHANGES))
steps = st.lists(st.one_of(changes, st.sampled_from(SAID), st.tuples(changes)), max_size=12)


@given(steps=steps, cut=st.integers(1, 9))
def test_what_was_changed_is_undone_and_nothing_else(
    steps: list[str | bytes | tuple[str]], cut: int
) -> None:
    shown, left = b"", set[str]()
    for step in steps:
        if isinstance(step, bytes):
            shown += step
        elif isinstance(step, str):
            shown += CHANGES[step][0]
            left.add(step)
        elif step[0] != "insert":  # a program that puts it back itself
            shown += CHANGES[step[0]][1]
            left.discard(step[0])
    modes = Modes()
    for start in range(0, len(shown), cut):
        modes.feed(shown[start : start + cut])
    undone = modes.undo()
    assert {change for change in CHANGES if CHANGES[change][1] in undone} == left
    again = Modes()
    again.feed(shown + undone)
    assert "insert" in left or again.undo() == b""


def test_the_message_comes_on_the_screen_that_stays() -> None:
    modes = Modes()
    modes.feed(b"\x1b[?25l\x1b[?1049h\x1b[31m")
    assert modes.undo() == b"\x1b[?1049l\x1b[?25h\x1b[m"


@pytest.mark.parametrize("begun", [b"\x1b", b"\x1b[", b"\x1b[?10", b"\x1b]0;ti", b"\x1bPq"])
def test_what_was_begun_swallows_nothing(begun: bytes) -> None:
    modes = Modes()
    modes.feed(b"x" + begun)
    assert modes.undo() == b"\x18\x1b\\"


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_no_bytes_are_too_odd(pieces: list[bytes]) -> None:
    modes = Modes()
    for piece in pieces:
        modes.feed(piece)
    modes.undo()


@pytest.mark.parametrize(
    ("keys", "sent", "left"),
    [
        (b"~.", b"", True),
        (b"ls\r~.more", b"ls\r", True),
        (b"a~.", b"a~.", False),
        (b"~~.\r~.", b"~.\r", True),
        (b"~/bin\r", b"~/bin\r", False),
        (b"~\r~.", b"~\r", True),
        (b"\n~.", b"\n", True),
        (b"~", b"", False),
    ],
)
def test_a_tilde_and_a_dot_leave_at_the_beginning_of_a_line(
    keys: bytes, sent: bytes, left: bool
) -> None:
    assert Escapes().feed(keys) == (sent, left)
    one_by_one, typed = Escapes(), b""
    for key in keys:
        piece, gone = one_by_one.feed(bytes([key]))
        typed += piece
        if gone:
            break
    assert (typed, gone) == (sent, left)
