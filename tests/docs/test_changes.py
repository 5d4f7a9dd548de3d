"""Each line for users is in a file that a release finds."""

import re
import tomllib
from pathlib import Path

import pytest

from docs.pages import ROOT

CHANGES = ROOT / "changes"
_BESIDE = {"README.md", "template.md.jinja"}
_FRAGMENTS = sorted(path for path in CHANGES.iterdir() if path.name not in _BESIDE)
_CONFIG = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
_KINDS = [kind["directory"] for kind in _CONFIG["type"]]


@pytest.mark.parametrize("path", _FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_is_named_as_a_release_looks_for_it(path: Path) -> None:
    assert re.fullmatch(rf"\d+(-[a-z0-9-]+)?\.({'|'.join(_KINDS)})\.md", path.name)
    assert path.read_text(encoding="utf-8").strip()


def test_kinds_are_those_that_the_readme_tells() -> None:
    told = (CHANGES / "README.md").read_text(encoding="utf-8").partition("KIND is ")[2]
    assert sorted(re.findall("`(\\w+)`", told.partition(". ")[0])) == sorted(_KINDS)


def test_a_release_has_a_place_to_go_to() -> None:
    assert (
        (ROOT / _CONFIG["filename"]).read_text(encoding="utf-8").endswith(_CONFIG["start_string"])
    )
    assert set(_CONFIG["ignore"]) == _BESIDE
