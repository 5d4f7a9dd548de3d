"""What docs/coming-from.md says of Python could be written: its calls are there, and so are their
options. Its commands are looked at as those of all pages are."""

import ast
import inspect
import re

import pytest

import remit
from docs.pages import ROOT

_TEXT = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
_CELLS = [
    line.split(" | ")[1] for line in _TEXT.splitlines() if line.startswith("| ") and "`" in line
]
_CODE = sorted({code for cell in _CELLS for code in re.findall("`([^`]+)`", cell)})
_KINDS = {"session": remit.Session, "job": remit.Job, "remit": remit}


def _statements(code: str) -> ast.Module | None:
    """None for what is no Python: commands, targets."""
    text = code.replace("…", "...").replace("={...}", "={}").replace("(...)", "()")
    text = re.sub(r"^(async (?:for|with) .*)$", r"\1: pass", text)
    body = f"async def f(**_):\n    {text}" if not re.match(r"\w+=\S*", text) else f"f({text})"
    try:
        return ast.parse(body)
    except SyntaxError:
        return None


@pytest.mark.parametrize("code", [code for code in _CODE if _statements(code)])
def test_a_call_could_be_made(code: str) -> None:
    tree = _statements(code)
    assert tree is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            kind = _KINDS.get(node.value.id)
            assert kind is None or hasattr(kind, node.attr), code
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                assert keyword.arg is None or keyword.arg in _OPTIONS, code


_OPTIONS = (
    {
        name
        for function in (remit.Session.start, remit.Session.run, remit.connect, remit.Job.receive)
        for name in inspect.signature(function).parameters
    }
    | set(remit.StartOptions.__annotations__)
    | set(remit.RunOptions.__annotations__)
)


def test_code_is_found() -> None:
    assert sum(_statements(code) is not None for code in _CODE) > 15
