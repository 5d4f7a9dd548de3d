"""How large modules, classes, functions and calls may be, and which are larger all the same."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from test_layers import CORE_MODULES, OUTSIDE, Module, modules

LINES = 450
METHODS = 20
FUNCTION = 50
WORDS = 8

# A promise of each: its methods are the names that docs/design.md has, or the tests of a kit.
PUBLIC = {
    "remit._jobs.group.JobGroup",
    "remit._jobs.job.Job",
    "remit._session.session.Session",
    "remit.blocking._groups.JobGroup",
    "remit.blocking._jobs.Job",
    "remit.blocking._session.Session",
    "remit.testing._placement.PlacementConformance",
    "remit.testing._transport.StreamConformance",
}
# Their keywords are the design's.
DESIGNED = {
    "remit._session.session.start",
    *("remit._session.hub.connect", "remit._session.hub.session"),
    *("remit.blocking._hub.connect", "remit.blocking._hub.session"),
}

MODULES = [*CORE_MODULES, *(found for place in OUTSIDE for found in modules(place))]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(nodes: Iterator[ast.AST] | list[ast.stmt]) -> Iterator[Function]:
    for node in nodes:
        if isinstance(node, Function) and "overload" not in map(ast.unparse, node.decorator_list):
            yield node


def parameters(function: Function) -> int:
    names = [
        argument.arg
        for part in (
            function.args.posonlyargs,
            function.args.args,
            function.args.kwonlyargs,
        )
        for argument in part
    ]
    return len([name for name in names if name not in ("self", "cls")])


def too_large(module: Module) -> Iterator[str]:
    lines = module.path.read_text().count("\n")
    if lines >= LINES:
        yield f"{module.name}: {lines} lines"
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ClassDef):
            name = f"{module.name}.{node.name}"
            methods = len(list(functions(node.body)))
            if methods >= METHODS and name not in PUBLIC:
                yield f"{name}: {methods} methods"
        if isinstance(node, ast.Call):
            words = len(node.args) + len(node.keywords)
            if words > WORDS:
                yield f"{module.name}: {ast.unparse(node.func)} is called with {words} arguments"
    for function in functions(ast.walk(module.tree)):
        name = f"{module.name}.{function.name}"
        length = (function.end_lineno or 0) - function.lineno + 1
        if length > FUNCTION:
            yield f"{name}: {length} lines"
        # A command of click is called with all that its line may hold.
        is_command = any("ommand" in ast.unparse(mark) for mark in function.decorator_list)
        if parameters(function) > WORDS and name not in DESIGNED and not is_command:
            yield f"{name}: {parameters(function)} parameters"


def test_nothing_is_larger_than_can_be_read_at_once() -> None:
    assert [words for module in MODULES for words in too_large(module)] == []
