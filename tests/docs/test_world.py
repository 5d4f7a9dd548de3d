"""A page that says what is not so is found out."""

import os
from pathlib import Path

import pytest

from docs.pages import Block, Section
from docs.world import NotSo, World


@pytest.fixture
def here(tmp_path: Path) -> World:
    return World(tmp_path, dict(os.environ))


def section(*blocks: tuple[str, str, str]) -> Section:
    """Of blocks given as language, text and directive."""
    return Section("page.md", "title", tuple(Block(*block, line=1) for block in blocks))


@pytest.mark.parametrize(
    "blocks",
    [
        [("console", "$ echo a\na\n$ echo b >&2\nb\n", "")],
        [("console", "$ (exit 3)\n$ echo $?\n3\n", "")],
        [("console", "$ x=1\n$ echo $x\n1\n", ""), ("console", "$ echo $x\n1\n", "")],
        [("console", "$ cat\n", "")],
        [("console", "$ echo one; echo $((1 + 1))\none\n2\n", "terminal")],
        [("console", "$ PS1='[in] \\w$ '\n[in] ~$ PS1='$ '; echo back\nback\n", "terminal")],
        [("python", "await anyio.sleep(0)\nprint(1)\n", ""), ("text", "1\n", "prints")],
        [("python", "import anyio\nasync def f(): print(1)\nanyio.run(f)\n", "")],
        [("python", "print(1)\n", "file a.py"), ("console", "$ python3 a.py\n1\n", "")],
    ],
)
def test_what_is_so_passes(here: World, blocks: list[tuple[str, str, str]]) -> None:
    here.run(section(*blocks), "asyncio")


@pytest.mark.parametrize(
    ("blocks", "why"),
    [
        ([("console", "$ echo a\nb\n", "")], "-- was\na"),
        ([("console", "$ echo a\n", "")], "-- was\na"),
        ([("console", "$ exit_of_nothing 2>/dev/null\n", "")], "ended with 127"),
        ([("console", "$ echo a\nb\n", "terminal")], "-- was\na"),
        ([("python", "raise ValueError('oops')\n", "")], "oops"),
        ([("python", "import warnings\nwarnings.warn('old')\n", "")], "old"),
        ([("python", "print(1)\n", ""), ("text", "2\n", "prints")], "printed\n1"),
        ([("python", "print(1)\n", "file a.py")], "uses a.py"),
        ([("console", "$ ./dev nothing\n", "run by .ci/run")], "does not run"),
        ([("python", "print(1)\n", "same as dev")], "another text"),
    ],
)
def test_what_is_not_so_is_found_out(
    here: World, blocks: list[tuple[str, str, str]], why: str
) -> None:
    with pytest.raises(NotSo, match=why):
        here.run(section(*blocks), "trio")
