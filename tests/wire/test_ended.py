"""How a process ended: what the kernel tells of real ones, in the words of both ends."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._wire import ended
from remit._wire.ended import Ended


def status_of(end: int) -> int:
    """The wait status of a child that exits with it, or ends by the signal of that number, below
    0."""
    pid = os.fork()
    if not pid:
        if end < 0:
            os.kill(os.getpid(), -end)
        os._exit(end & 0xFF)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("number", [0, 1, 127, 128, 255])
def test_an_exit_status(number: int) -> None:
    status = status_of(number)
    assert ended.of_status(status) == Ended(number, None, False)
    assert ended.shell_status(status) == number


@pytest.mark.parametrize(
    ("number", "name"),
    [
        (signal.SIGKILL, "SIGKILL"),
        (signal.SIGTERM, "SIGTERM"),
        (signal.SIGRTMIN, "SIGRTMIN"),
        (signal.SIGRTMIN + 1, f"SIG{signal.SIGRTMIN + 1}"),
        (signal.SIGRTMAX, "SIGRTMAX"),
    ],
)
def test_a_signal(number: int, name: str) -> None:
    status = status_of(-number)
    assert ended.of_status(status)[:2] == (None, name)
    assert ended.shell_status(status) == 128 + number


def test_nobody_knows() -> None:
    assert ended.of_status(None) == Ended(None, None, False)


@given(st.integers(0, 0xFFFF))
def test_there_is_one_of_the_two_at_most_and_a_shell_says_the_same(status: int) -> None:
    how = ended.of_status(status)
    assert None in how[:2]
    if os.WIFEXITED(status):
        assert how == Ended(ended.shell_status(status), None, False)
    elif os.WIFSIGNALED(status):
        assert ended.shell_status(status) == 128 + ended.signal_number(how.signal)
        assert how.core == os.WCOREDUMP(status)


@given(st.integers(1, 126))
def test_a_name_leads_back_to_its_number(number: int) -> None:
    name = ended.signal_name(number)
    assert ended.is_signal_name(name)
    assert ended.signal_number(name) == number


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGRT35", 35), ("SIG35", 35), ("SIGCLD", signal.SIGCHLD), ("SIGEMT", 127), ("SIG999", 127)],
)
def test_names_of_other_systems_and_of_earlier_supervisors(name: str, number: int) -> None:
    assert ended.is_signal_name(name)
    assert ended.signal_number(name) == number


@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("SIGINT", 2),
        ("SIG2", 2),
        ("SIGRTMIN+2", signal.SIGRTMIN + 2),
        ("SIGRTMAX-1", signal.SIGRTMAX - 1),
        ("SIGRTMAX+1", None),
        ("SIG0", None),
        ("SIG65", None),
        ("SIGEMT", None),
    ],
)
def test_only_what_there_is_can_be_sent(name: str, number: int | None) -> None:
    assert ended.is_signal_name(name)
    assert ended.known_signal(name) == number


@given(st.text(max_size=30) | st.integers() | st.none() | st.binary(max_size=10))
def test_a_name_can_stand_in_any_line(value: object) -> None:
    if ended.is_signal_name(value):
        assert isinstance(value, str)
        assert value.isascii()
        assert value.isprintable()
        assert 0 < ended.signal_number(value) <= 127
