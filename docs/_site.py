"""The pages as a site (``nox -s site``): what stands beside docs/ is added, links follow it.

The reference of the Python names is made from their docstrings.
"""

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
# Pages that stand elsewhere in the repository, and what they are called on the site.
_BESIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
    "changes/README.md": "changes.md",
}
_API = {
    "api-remit.md": (
        "remit",
        "All that programs are given; [Python](python.md) tells how it goes together.",
    ),
    "api-abc.md": (
        "remit.abc",
        "What plugins implement: [Reference for plugins](plugin-reference.md).",
    ),
    "api-testing.md": ("remit.testing", "The kit that plugins are tested with."),
}
# A directory beside docs/ is no page of the site: its words are enough there.
_ELSEWHERE = re.compile(r"\[([^\]]+)\]\(\.\./[\w/-]+\)")
_LINK = re.compile(r"(\]\()([^)#\s]+\.md)((?:#[^)]*)?\))")


def on_config(config: Any) -> Any:
    config["mdx_configs"]["toc"] = {"slugify": _anchor, "permalink": True}
    return config


def on_files(files: Any, config: Any) -> Any:
    from mkdocs.structure.files import File

    for path, name in _BESIDE.items():
        files.append(File.generated(config, name, content=_moved(ROOT / path)))
    for name, (module, words) in _API.items():
        text = f"# {module}\n\n{words}\n\n::: {module}\n"
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    if page.file.src_uri in {*_BESIDE.values(), *_API}:
        return markdown
    return _rewritten(markdown, ROOT / "docs")


def _moved(path: Path) -> str:
    return _rewritten(path.read_text(encoding="utf-8"), path.parent)


def _rewritten(text: str, directory: Path) -> str:
    """Links to pages as they are on the site, where all of them stand in one place."""

    def there(link: re.Match[str]) -> str:
        leads_to = (directory / link[2]).resolve().relative_to(ROOT).as_posix()
        return f"{link[1]}{_BESIDE.get(leads_to, leads_to.removeprefix('docs/'))}{link[3]}"

    return _LINK.sub(there, _ELSEWHERE.sub(r"\1", text))


def _anchor(heading: str, separator: str) -> str:
    """As GitHub makes it, so that links lead to the same places there."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", separator)
