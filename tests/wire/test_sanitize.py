"""Text of a job on its way to a terminal inside an entered session."""

from remit._wire import sanitize


def test_whatever_it_is_it_gives_a_terminal_no_orders() -> None:
    everything = "".join(map(chr, range(0x110000)))
    shown = sanitize.harmless(everything)
    assert all(char.isprintable() or char in "\t\n\r" or ord(char) >= 0xA0 for char in shown)
    assert "\x1b" not in shown


def test_one_line_stays_one() -> None:
    assert sanitize.one_line("a\nb") == r"a\nb"
