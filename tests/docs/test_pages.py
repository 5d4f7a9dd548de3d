"""The pages hold together: every block is run or is text, every link leads somewhere."""

import re
from pathlib import Path

import pytest

from docs import pages
from docs.index import anchor
from docs.pages import DIRECTIVE, ROOT, RUN, TEXT

_LINK = re.compile(r"(?<!!)\[[^\]\n]+\]\(([^)\s]+)\)")
_BESIDE = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "changes/README.md")]
_PAGES = [pytest.param(page, id=page.name) for page in [*pages.all_pages(), *_BESIDE]]


@pytest.mark.parametrize("page", _PAGES)
def test_every_block_is_run_or_is_marked_as_text(page: Path) -> None:
    for section in pages.sections(page):
        for block in section.blocks:
            assert block.language in RUN | TEXT, (
                f"{section.page}:{block.line}: a block is {sorted(RUN)} or {sorted(TEXT)}, "
                f"not {block.language!r}"
            )
            assert not block.directive or DIRECTIVE.fullmatch(block.directive), block


@pytest.mark.parametrize("page", _PAGES)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        assert leads_to.exists(), f"{page.name}: {link}"
        if anchor:
            assert anchor in _anchors(leads_to), f"{page.name}: {link}"


def test_every_page_can_be_found_from_the_first() -> None:
    seen, new = set[Path](), {ROOT / "README.md"}
    while new:
        page = new.pop()
        seen.add(page)
        linked = {
            (page.parent / link.partition("#")[0]).resolve()
            for link in _LINK.findall(_prose(page))
            if not re.match(r"[a-z]+:", link)
        }
        new |= {path for path in linked if path.suffix == ".md" and path.exists()} - seen
    assert set(pages.all_pages()) <= seen


@pytest.mark.parametrize("page", _PAGES)
def test_prose_is_wrapped_at_100_columns(page: Path) -> None:
    """Tables and blocks are as wide as they have to be, and so is a word."""
    for number, line in enumerate(_prose(page).splitlines(), 1):
        one_word = len(line.split()) == 1 or line.startswith(("|", "#", "<!--"))
        assert len(line) <= 100 or one_word, f"{page.name}: {number} of its prose: {line}"


@pytest.mark.parametrize("page", _PAGES)
def test_the_columns_of_tables_have_names(page: Path) -> None:
    """A screen reader says "blank" of an empty one."""
    for header in re.findall(r"^(\|.*)\n\|(?:-+\|)+$", _prose(page), re.MULTILINE):
        assert all(cell.strip() for cell in header.strip("|").split("|")), header


def _prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def _anchors(page: Path) -> set[str]:
    return set(map(anchor, re.findall(r"^#+ +(.+)$", _prose(page), re.MULTILINE)))


def test_the_files_that_are_named_are_there() -> None:
    """docs/architecture.md names packages and modules as ``_wire.states``."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    core = ROOT / "core" / "remit"
    for name in set(re.findall(r"`((?:_[a-z]\w+|cli)(?:\.\w+)*)`", text)):
        path = core.joinpath(*name.split("."))
        exists = path.is_dir() or path.with_suffix(".py").exists()
        assert exists or name == "_failures", name
