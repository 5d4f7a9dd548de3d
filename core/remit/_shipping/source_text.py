"""The source of a function: found, cut out, and told to be what runs here."""

from __future__ import annotations
import __future__ as futures

import ast
import dis
import functools
import inspect
import linecache
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType, FunctionType
from typing import Any

import attrs

from remit._shipping.captures import code_within
from remit._worker.unwarned import unwarned

LAMBDA = "<lambda>"
_FUTURES = functools.reduce(
    int.__or__, (getattr(futures, name).compiler_flag for name in futures.all_feature_names)
)


@attrs.frozen
class Text:
    """A function's source. ``lines`` are whole ones, from ``first`` on; ``code`` is the function
    alone, to be compiled as if it began on ``line``."""

    file: str
    first: int
    lines: str
    code: str
    line: int
    is_lambda: bool

    def parse(self) -> ast.AST:
        with unwarned():
            return ast.parse(self.padded, self.file, "eval" if self.is_lambda else "exec")

    @property
    def padded(self) -> str:
        """The code, at the line where it belongs."""
        return "\n" * (self.line - 1) + self.code


def find(fn: FunctionType) -> list[Text]:
    """What may be its source. For a lambda all that begin on its line; else one, or none."""
    return list(_lambdas(fn) if fn.__code__.co_name == LAMBDA else _definitions(fn))


def _definitions(fn: FunctionType) -> Iterator[Text]:
    code = fn.__code__
    try:
        # Of the code: of the function, it would be that of what a decorator wrapped.
        lines, first = inspect.getsourcelines(code)
    except (OSError, TypeError, SyntaxError, IndexError):
        return
    text = "".join(lines)
    indented = text[:1].isspace()
    # Under an `if` rather than dedented: the lines of strings in it stay as they are.
    under_if = "if 1:\n" + text
    yield Text(
        code.co_filename,
        first,
        text,
        under_if if indented else text,
        first - 1 if indented else first,
        is_lambda=False,
    )


def _lambdas(fn: FunctionType) -> Iterator[Text]:
    """All that begin on its line."""
    file, first = fn.__code__.co_filename, fn.__code__.co_firstlineno
    linecache.checkcache(file)
    lines = linecache.getlines(file, fn.__globals__)
    whole = "".join(lines)
    try:
        with unwarned():
            tree = ast.parse(whole)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda) and node.lineno == first:
            cut = ast.get_source_segment(whole, node)
            # In parentheses, as it may go over several lines, and on its own column.
            code = f"({' ' * (node.col_offset - 1)}{cut}\n)"
            text = "".join(lines[first - 1 : node.end_lineno])
            yield Text(file, first, text, code, first, is_lambda=True)


def is_source_of(text: Text, fn: FunctionType) -> bool:
    """Whether compiling it gives the code of ``fn``."""
    running = fn.__code__
    try:
        tree: Any = text.parse()
        with unwarned():
            made = compile(
                tree,
                text.file,
                "eval" if text.is_lambda else "exec",
                flags=running.co_flags & _FUTURES,
                dont_inherit=True,
            )
    except (SyntaxError, ValueError):
        return False
    # Within: what has type parameters is made by code of its own around it.
    return any(_is_same(code, running, _is_rewritten(fn)) for code in code_within(made))


def _is_rewritten(fn: FunctionType) -> bool:
    """Whether its module went through a loader that changes code, as that of pytest does with
    assertions: then the source says the same in other words."""
    spec = getattr(sys.modules.get(fn.__module__), "__spec__", None)
    return spec is not None and type(spec.loader) is not SourceFileLoader


def _is_same(made: CodeType, running: CodeType, loosely: bool) -> bool:
    if made.co_name != running.co_name:
        return False
    arguments = made.co_argcount + made.co_kwonlyargcount
    if made.co_varnames[:arguments] != running.co_varnames[:arguments]:
        return False
    if _steps(made) == _steps(running):
        return True
    return loosely and set(made.co_names) <= set(running.co_names)


# How a call of an attribute is compiled depends on whether the module imports its owner, and the
# rest of the module is not looked at; where a jump leads to depends on the size of what is between.
_LEFT_OUT = frozenset({"PUSH_NULL", "PRECALL", "EXTENDED_ARG", "NOP"})
_JUMPS = frozenset({*dis.hasjrel, *dis.hasjabs})


def _steps(code: CodeType) -> list[Any]:
    """What it does, in a form that can be compared, and tells 1 from 1.0."""
    steps: list[Any] = []
    for step in dis.get_instructions(code):
        value = None if step.opcode in _JUMPS else step.argval
        if value == code.co_qualname and not code.co_flags & inspect.CO_OPTIMIZED:
            # The body of a class tells its name in full, longer where more stands around it.
            value = code.co_name
        if isinstance(value, CodeType):
            steps.append((value.co_name, _steps(value)))
        elif step.opname not in _LEFT_OUT:
            name = "LOAD_ATTR" if step.opname == "LOAD_METHOD" else step.opname
            comparable = value if isinstance(value, frozenset) else repr(value)
            steps.append((name, type(value), comparable))
    return steps
