"""The pages, taken apart into sections and fenced blocks. No I/O but reading the files."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
# Shown, not run: what a program prints or reads, and diagrams.
TEXT = frozenset({"text", "ini", "toml", "json", "mermaid"})
RUN = frozenset({"console", "python"})
# What a comment before a block may say; the package's own words tell what each means.
DIRECTIVE = re.compile("prints|terminal|in the checkout|(file|same as|with|plugin|run by) \\S+")

_HEADING = re.compile(r"#{1,2} +(.+)")
_FENCE = re.compile(r"```(.*)")
_DIRECTIVE = re.compile(r"<!-- test: (.+?) -->")


class Block(NamedTuple):
    """A fenced block. ``directive`` is what the comment before it says, or empty."""

    language: str
    text: str
    directive: str
    line: int

    def argument(self, directive: str) -> str | None:
        """What follows ``directive`` in this block's own, None where it has another."""
        word, space, rest = self.directive.partition(f"{directive} ")
        return rest if space and not word else None


class Section(NamedTuple):
    """All under one heading of the first or second level."""

    page: str  # its path in the repository
    title: str
    blocks: tuple[Block, ...]

    @property
    def runnable(self) -> bool:
        return any(block.language in RUN for block in self.blocks)

    @property
    def has_programs(self) -> bool:
        """Whether some of it is run on each event loop."""
        return any(b.language == "python" and not b.directive for b in self.blocks)

    @property
    def text(self) -> str:
        """What is run in it."""
        return "\n".join(block.text for block in self.blocks if block.language in RUN)


# The reference, in the order in which it is read.
REFERENCE = ("states.md", "targets.md", "commands.md", "python.md", "plugin-reference.md")


def reference() -> str:
    """All pages of the reference, one after another."""
    return "\n".join((ROOT / "docs" / name).read_text(encoding="utf-8") for name in REFERENCE)


def all_pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def sections(page: Path) -> list[Section]:
    """Raises ValueError where a fence is not closed, or a directive stands before no block."""
    name = str(page.relative_to(ROOT))
    found: list[Section] = []
    title, blocks = name, list[Block]()
    lines = enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
    directive = ""
    for number, line in lines:
        if heading := _HEADING.fullmatch(line):
            found.append(Section(name, title, tuple(blocks)))
            title, blocks = heading[1], []
        elif fence := _FENCE.fullmatch(line.strip()):
            text = "".join(f"{inner}\n" for inner in _until_fence(lines, name, number))
            blocks.append(Block(fence[1].strip(), text, directive, number))
            directive = ""
        elif directive and line.strip():
            raise ValueError(f"{name}:{number}: a test comment that stands before no block")
        elif comment := _DIRECTIVE.fullmatch(line.strip()):
            directive = comment[1]
    found.append(Section(name, title, tuple(blocks)))
    return found


def _until_fence(lines: Iterator[tuple[int, str]], name: str, start: int) -> Iterator[str]:
    for _, line in lines:
        if line.strip() == "```":
            return
        yield line
    raise ValueError(f"{name}:{start}: a block that is not closed")
