"""How many tests sleep, or look again and again on a clock: those that real time is about."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
MOST_PER_100 = 1.0
SLEEPS = {f"{module}.sleep" for module in ("anyio", "asyncio", "time", "trio")}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def found_in(tree: ast.Module) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, Function) and node.name.startswith("test_"):
            yield node


def sleeps(test: Function) -> bool:
    if any("on_virtual_time" in ast.unparse(mark) for mark in test.decorator_list):
        return False
    calls = (node for node in ast.walk(test) if isinstance(node, ast.Call))
    return any(ast.unparse(call.func) in SLEEPS for call in calls)


def test_hardly_any_test_sleeps() -> None:
    count, found = 0, []
    for path in TESTS.rglob("test_*.py"):
        text = path.read_text()
        tests = list(found_in(ast.parse(text)))
        count += len(tests)
        if "virtual_time.PARAMS" not in text:
            found += [f"{path.stem}.{test.name}" for test in tests if sleeps(test)]
    assert count > 1000
    assert 100 * len(found) / count < MOST_PER_100, "\n".join(found)
