"""What is compared with the pages, and how."""

import pytest

from docs.expected import Command, Names, commands

ONE, OTHER = "jaaaaaaaaaaaa", "jbbbbbbbbbbbb"


def test_commands_and_what_they_print_are_told_apart() -> None:
    text = "$ one\nits output\n$ two \\\n> more\n[server01] you@server01:~$ three\n"
    assert commands(text) == [
        Command("$ ", "one", "its output\n"),
        Command("$ ", "two \\\nmore", ""),
        Command("[server01] you@server01:~$ ", "three", ""),
    ]


def test_output_before_the_first_command_is_refused() -> None:
    with pytest.raises(ValueError, match="no command before 'output'"):
        commands("output\n$ one\n")


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a\nb\n", "a\nb\n"),
        ("a …\n", "a few words\n"),
        ("…\nb\n", "a\na\nb\n"),
        ("…\nb\n", "b\n"),
        ("a (x*)\n", "a (x*)\n"),
    ],
)
def test_what_is_so(expected: str, printed: str) -> None:
    assert Names().match(expected, printed)


@pytest.mark.parametrize(
    ("expected", "printed"),
    [
        ("a\nb\n", "a\n"),
        ("a\n", "a\nb\n"),
        ("a …\n", "a\nfew\n"),
        ("", "a\n"),
        ("a.c\n", "abc\n"),
        ("a  b\n", "a b\n"),
    ],
)
def test_what_is_not_so(expected: str, printed: str) -> None:
    assert not Names().match(expected, printed)


def test_an_id_of_the_page_stands_for_the_one_that_was_printed() -> None:
    names = Names()
    assert names.match(f"{ONE}\n", f"{OTHER}\n")
    assert names.in_words(f"remit stop {ONE}") == f"remit stop {OTHER}"
    assert names.match(f"{ONE} Stopped\n", f"{OTHER} Stopped\n")
    assert not names.match(f"{ONE} Stopped\n", "jcccccccccccc Stopped\n")


def test_an_id_stands_for_one_job_within_one_output() -> None:
    assert Names().match(f"{ONE} {ONE}\n", f"{OTHER} {OTHER}\n")
    assert not Names().match(f"{ONE} {ONE}\n", f"{OTHER} jcccccccccccc\n")
    assert not Names().match(f"{ONE} {OTHER}\n", "jcccccccccccc jcccccccccccc\n")


def test_an_id_that_nothing_printed_is_refused() -> None:
    with pytest.raises(ValueError, match="which no command before it printed"):
        Names().in_words(f"remit stop {ONE}")
