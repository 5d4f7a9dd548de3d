"""Each command line that a page tells of could be typed: its command and its options are there."""

import re
import shlex

import pytest

from docs import pages
from remit.cli._commands import commands

_COMMANDS = commands()
# In the text, not in blocks: those are run.
_COMMAND = re.compile(r"`(remit [a-z][^`]*)`")
# For people: what a word stands for, and that there may be more; options that are spoken of.
_NOT_TYPED = re.compile(r"[…\[]|^remit \w+( --[\w-]+)*$")


def _told() -> list[str]:
    found = set()
    for page in pages.all_pages():
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        found |= {" ".join(command.split()) for command in _COMMAND.findall(prose)}
    return sorted(command for command in found if not _NOT_TYPED.search(command))


def _words(line: str) -> list[str]:
    """As a shell would have them, without a file that stands behind ``<`` or ``>`` at the end."""
    return shlex.split(re.sub(r" [<>] \w[\w.]*$", "", line.replace(r"\|", "|")))[1:]


@pytest.mark.parametrize("line", _told())
def test_a_command_that_is_told_of_could_be_typed(line: str) -> None:
    name, *words = _words(line)
    with _COMMANDS[name].make_context(name, list(words)) as context:
        pass  # raises what click says of words that it does not know
    assert context.obj or "--" not in words


def test_commands_are_found() -> None:
    assert len(_told()) > 30
