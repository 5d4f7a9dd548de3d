"""Which Python can read a piece of source: what in it came with which version. Pure."""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import NamedTuple

Version = tuple[int, int]
_Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp

# A field of an f-string that ends with `=`: `{x=}`, `{x=!r}`, `{x = :>5}`.
_SELF_DOCUMENTING = re.compile(r"\{[^{}]*[^=!<>:{}]=\s*[}!:]")


class Construct(NamedTuple):
    """Something that no older Python can read. ``line`` counts from 1 in the source."""

    since: Version
    line: int
    what: str


def too_new(source: str, tree: ast.AST, version: Version) -> Construct | None:
    """The first thing in ``source`` that a Python of that version cannot read, if any.

    ``tree`` is the source as parsed. Only what this Python reads itself is known: what is
    written for a newer one would not have run here.
    """
    found = [one for one in (*_constructs(source, tree), *_nested(source)) if one.since > version]
    if found:
        return min(found, key=lambda one: one.line)
    try:
        ast.parse(source, feature_version=version)
    except SyntaxError as exc:
        # What the grammar itself knows, and the table below does not.
        return Construct(sys.version_info[:2], exc.lineno or 1, exc.msg)
    return None


def _constructs(source: str, tree: ast.AST) -> Iterator[Construct]:
    for node in ast.walk(tree):
        line = getattr(node, "lineno", 0)
        match node:
            case ast.NamedExpr():
                yield Construct((3, 8), line, "an assignment expression (:=)")
            case ast.arguments(posonlyargs=[first, *_]):
                yield Construct((3, 8), first.lineno, "positional-only parameters (/)")
            case ast.JoinedStr() if _is_self_documenting(_segment(source, node)):
                yield Construct((3, 8), line, "an f-string with {name=}")
            case ast.Return(value=ast.Tuple() as items) | ast.Yield(value=ast.Tuple() as items):
                if _is_bare(items):
                    yield Construct((3, 8), line, "a bare * in return or yield")
            case ast.For(iter=ast.Tuple() as items) | ast.AsyncFor(iter=ast.Tuple() as items):
                if _is_bare(items):
                    yield Construct((3, 9), line, "a bare * in what a for goes over")
            case ast.Match():
                yield Construct((3, 10), line, "a match statement")
            case ast.TryStar():
                yield Construct((3, 11), line, "except*")
            case ast.Subscript(slice=ast.Tuple(elts=items)) if _has_star(items):
                yield Construct((3, 11), line, "a * in an index")
            case _:
                yield from _newer_nodes(node, line)
        yield from _relaxed(source, node, line)
        for decorator in getattr(node, "decorator_list", ()):
            if not _is_plain_decorator(decorator):
                yield Construct((3, 9), decorator.lineno, "a decorator that is no plain name")


def _is_self_documenting(text: str) -> bool:
    return bool(_SELF_DOCUMENTING.search(text.replace("{{", "").replace("}}", "")))


_Loop = ast.For | ast.AsyncFor | ast.While
_Scope = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


def _relaxed(source: str, node: ast.AST, line: int) -> Iterator[Construct]:
    """What was an error before, though each part of it could be written."""
    named = "an assignment expression (:=) without parentheses"
    match node:
        case ast.Subscript(slice=ast.Tuple(elts=items)) if _has_bare_name(source, items):
            yield Construct((3, 10), line, named)
        case ast.Subscript(slice=item) if _has_bare_name(source, [item]):
            yield Construct((3, 10), line, named)
        case ast.Set(elts=items) if _has_bare_name(source, items):
            yield Construct((3, 9), line, named)
        case ast.SetComp(elt=item) if _has_bare_name(source, [item]):
            yield Construct((3, 9), line, named)
        case ast.AnnAssign(value=ast.Tuple() as items_) if _is_bare(items_):
            yield Construct((3, 8), line, "a bare * in an assignment with an annotation")
        case ast.arguments(vararg=ast.arg(annotation=ast.Starred())):
            yield Construct((3, 11), getattr(node.vararg, "lineno", line), "a * in an annotation")
        case ast.Try(finalbody=body):
            for inner in _within(body, _Loop | _Scope):
                if isinstance(inner, ast.Continue):
                    yield Construct((3, 8), inner.lineno, "a continue in a finally")
        case _ if isinstance(node, _Comprehension) and not _is_async(node):
            for inner in _within(_evaluated_inside(node), _Scope):
                if isinstance(inner, _Comprehension) and _is_async(inner):
                    since = (3, 7) if isinstance(inner, ast.GeneratorExp) else (3, 11)
                    yield Construct(since, inner.lineno, "an async comprehension within another")


def _has_bare_name(source: str, nodes: Sequence[ast.expr]) -> bool:
    return any(
        isinstance(node, ast.NamedExpr) and not _is_in_parentheses(source, node) for node in nodes
    )


def _evaluated_inside(node: _Comprehension) -> list[ast.AST]:
    """All of it but what its first `for` goes over, which the code around it evaluates."""
    first = node.generators[0]
    inside = [one for one in ast.iter_child_nodes(node) if one is not first]
    return [*inside, first.target, *first.ifs]


def _is_async(node: _Comprehension) -> bool:
    if any(generator.is_async for generator in node.generators):
        return True
    inside = _within(_evaluated_inside(node), _Scope | _Comprehension)
    return any(isinstance(one, ast.Await) for one in inside)


def _within(nodes: Sequence[ast.AST], barrier: UnionType) -> Iterator[ast.AST]:
    """They and all in them, but for what is in a node of ``barrier``."""
    for node in nodes:
        yield node
        if not isinstance(node, barrier):
            yield from _within([*ast.iter_child_nodes(node)], barrier)


def _is_in_parentheses(source: str, node: ast.expr) -> bool:
    lines = source.split("\n")
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode().rstrip()
    return before.endswith("(")


def _newer_nodes(node: ast.AST, line: int) -> Iterator[Construct]:
    """What this Python may be too old to have a class for."""
    match type(node).__name__:
        case "TypeAlias":
            yield Construct((3, 12), line, "a type statement")
        case "TypeVar" | "ParamSpec" | "TypeVarTuple":
            has_default = getattr(node, "default_value", None) is not None
            yield Construct((3, 13 if has_default else 12), line, "type parameters")
        case "TemplateStr":
            yield Construct((3, 14), line, "a template string")


def _segment(source: str, node: ast.expr) -> str:
    return ast.get_source_segment(source, node) or ""


def _has_star(items: list[ast.expr]) -> bool:
    return any(isinstance(item, ast.Starred) for item in items)


def _is_bare(items: ast.Tuple) -> bool:
    """Whether one of them has a star and no parentheses stand around them."""
    first = items.elts[0] if items.elts else items
    started = (first.lineno, first.col_offset) == (items.lineno, items.col_offset)
    return first is not items and started and _has_star(items.elts)


def _is_plain_decorator(node: ast.expr) -> bool:
    """Dotted names, called at most once: the grammar up to 3.8."""
    if isinstance(node, ast.Call):
        node = node.func
    while isinstance(node, ast.Attribute):
        node = node.value
    return isinstance(node, ast.Name)


def _nested(source: str) -> Iterator[Construct]:
    """What f-strings may hold between braces from 3.12 on: their own quotes, backslashes,
    comments, line ends (PEP 701). An older Python has no tokens for their insides, and could not
    have read them either."""
    start, end = getattr(tokenize, "FSTRING_START", -1), getattr(tokenize, "FSTRING_END", -1)
    middle = getattr(tokenize, "FSTRING_MIDDLE", -1)
    quotes: list[str] = []  # of the f-strings that are open here
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == end:
            quotes.pop()
            continue
        text = token.string
        opens = token.type in (start, tokenize.STRING)
        quote = text[min(text.find(mark) for mark in "'\"" if mark in text) :] if opens else ""
        quote = quote[:3] if quote[:3] in ("'''", '"""') else quote[:1]
        if quotes and (what := _only_since_3_12(token, quote, quotes, token.type == middle)):
            yield Construct((3, 12), token.start[0], f"an f-string with {what} in its braces")
        if token.type == start:
            quotes.append(quote)


def _only_since_3_12(
    token: tokenize.TokenInfo, quote: str, quotes: list[str], is_text: bool
) -> str | None:
    """What is wrong with a token inside f-strings of those quotes; ``quote`` is its own."""
    of_one_line = len(quotes[-1]) == 1
    if is_text:
        return "a backslash" if len(quotes) > 1 and "\\" in token.string else None
    if quote and quotes[-1][0] == quote[0] and (of_one_line or quote == quotes[-1]):
        return "its own quotes"
    if token.type == tokenize.STRING and "\\" in token.string:
        return "a backslash"
    if token.type == tokenize.COMMENT:
        return "a comment"
    return "a line end" if token.type == tokenize.NL and of_one_line else None
