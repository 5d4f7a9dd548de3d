"""Every public name says what its signature cannot: `help()` is a page, too."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import remit
import remit.abc
import remit.testing
from docs.pages import ROOT

_MODULES = [remit, remit.abc, remit.testing]
# All that plugins have, and the kit: they are read by those who write their own.
_FILES = [
    path
    for place in ("transports", "plugins", "core/remit/testing")
    for path in sorted((ROOT / place).rglob("*.py"))
]


def _members(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name in module.__all__:
        value = getattr(module, name)
        if not callable(value) or getattr(value, "__module__", "").partition(".")[0] != "remit":
            continue
        yield name, value
        if inspect.isclass(value):
            for kind in value.__mro__:
                if kind.__module__.partition(".")[0] == "remit":
                    yield from ((f"{name}.{m}", v) for m, v in vars(kind).items() if _says(m, v))


def _says(name: str, value: object) -> bool:
    described = inspect.isroutine(value) or isinstance(value, property)
    return described and not name.startswith("_")


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_every_public_name_has_a_docstring(module: ModuleType) -> None:
    assert module.__doc__
    silent = {name for name, value in _members(module) if not inspect.getdoc(value)}
    assert not silent


@pytest.mark.parametrize("path", _FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_name_of_a_plugin_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body
    assert not list(_silent(tree))


def _silent(within: ast.Module | ast.ClassDef) -> Iterator[str]:
    for node in within.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if node.name.startswith("_") or _is_overload(node):
            continue
        if ast.get_docstring(node) is None:
            yield node.name
        if isinstance(node, ast.ClassDef):
            yield from (f"{node.name}.{name}" for name in _silent(node))


def _is_overload(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(ast.unparse(mark).endswith("overload") for mark in node.decorator_list)
