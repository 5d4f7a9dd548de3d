"""Which Python can read a piece of source."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from remit._shipping import grammar
from remit._shipping.grammar import too_new
from testbed import pythons

READABLE_BY_ALL = '''\
def plain(a, *rest, b=1, **more):
    """Text with := and {x=} in it."""
    with open(a) as one, open(b) as other:
        print(f"{a!r:>{b}} {a:=^10} {more['x']} x={a!r}", *rest)
    first, *others = rest
    return {**more, "a": [*rest]}
'''
CONSTRUCTS = [
    ("if (n := 1): pass", (3, 8), "an assignment expression (:=)"),
    ("def f(a, /, b): pass", (3, 8), "positional-only parameters (/)"),
    ("f'{x=}'", (3, 8), "an f-string with {name=}"),
    ("f'{x + 1 = !r}'", (3, 8), "an f-string with {name=}"),
    ("def f(a):\n    return 1, *a", (3, 8), "a bare * in return or yield"),
    ("def f(a):\n    yield *a, 1", (3, 8), "a bare * in return or yield"),
    ("for x in *a, 1: pass", (3, 9), "a bare * in what a for goes over"),
    ("@a[0].b\ndef f(): pass", (3, 9), "a decorator that is no plain name"),
    ("with (a as b, c as d): pass", (3, 9), "Parenthesized context managers"),
    ("match x:\n    case 1: pass", (3, 10), "a match statement"),
    ("try: pass\nexcept* OSError: pass", (3, 11), "except*"),
    ("a[*b]", (3, 11), "a * in an index"),
]


@pytest.mark.parametrize("version", [(3, minor) for minor in range(6, 12)], ids=str)
def test_what_all_can_read(version: tuple[int, int]) -> None:
    assert too_new(READABLE_BY_ALL, ast.parse(READABLE_BY_ALL), version) is None


@pytest.mark.parametrize(("line", "since", "what"), CONSTRUCTS)
def test_it_names_the_line_and_the_construct(line: str, since: tuple[int, int], what: str) -> None:
    source = f"\n\n{line}\n"
    found = too_new(source, ast.parse(source), (since[0], since[1] - 1))
    assert found is not None
    assert 3 <= found.line <= 4
    assert found.what.startswith(what)
    assert too_new(source, ast.parse(source), since) is None


def test_the_first_of_several_is_named() -> None:
    source = "a\nx = (n := 1)\nmatch x:\n    case 1: pass\n"
    found = too_new(source, ast.parse(source), (3, 6))
    assert found == ((3, 8), 2, "an assignment expression (:=)")


# What only a newer Python than the oldest that remit itself runs on can read at all.
NEWER = [
    ("type X = int", "(3, 12) 1 a type statement"),
    ("def f[T](x: T): pass", "(3, 12) 1 type parameters"),
    ("f'{x['a']}'", "(3, 12) 1 an f-string with its own quotes in its braces"),
    ('f"{", ".join(x)}"', "(3, 12) 1 an f-string with its own quotes in its braces"),
    ("f\"{'\\n'.join(x)}\"", "(3, 12) 1 an f-string with a backslash in its braces"),
    ("f\"{f'\\n'}\"", "(3, 12) 1 an f-string with a backslash in its braces"),
    ("f'{x # why\n}'", "(3, 12) 1 an f-string with a comment in its braces"),
    ("f'{x\n}'", "(3, 12) 1 an f-string with a line end in its braces"),
    ("f'{x[\"a\"]}'", "None"),
    ("f'''{x['a']}\n{\nx}\\n'''", "None"),
    ("f'\\n{x}' 'y' \"z\\n\"", "None"),
    ("f'{x:{y}}' + f\"{x!r:>10}\"", "None"),
]
_TELL = """
import ast, runpy, sys
too_new = runpy.run_path(sys.argv[1])["too_new"]
found = too_new(sys.argv[2], ast.parse(sys.argv[2]), (3, 11))
print(found and "{0.since} {0.line} {0.what}".format(found))
"""


@pytest.mark.parametrize(
    "python", [one for one in pythons.found() if one.minor >= 12], ids=lambda one: one.version
)
@pytest.mark.parametrize(("source", "told"), NEWER)
def test_on_a_newer_caller(python: pythons.Interpreter, source: str, told: str) -> None:
    assert grammar.__file__ is not None
    words: list[str | Path] = [python.path, "-I", "-c", _TELL, Path(grammar.__file__), source]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == told


# What could be written early, and what became possible later, side by side.
RELAXED = [
    "a[x:=1]",
    "a[(x:=1)]",
    "a[1, x:=1]",
    "{x:=1, 2}",
    "{x:=1}",
    "{y:=x for x in l}",
    "{(y:=x) for x in l}",
    "[y:=x for x in l]",
    "[x:=1, 2]",
    "for x in l:\n try: pass\n finally: continue",
    "for x in l:\n try: pass\n finally:\n  for y in x: continue",
    "async def f():\n return [[x async for x in y] for y in z]",
    "async def f():\n return [[x async for x in y] async for y in z]",
    "async def f():\n return [[await x for x in y] for y in z]",
    "async def f():\n return list([x async for x in y] for y in z)",
    "async def f():\n return [(x async for x in y) for y in z]",
    "async def f():\n return [x for y in z for x in [a async for a in y]]",
    "async def f():\n return [x for x in [a async for a in z]]",
    "async def f():\n return [await g(y) for y in z]",
    "async def f():\n return {k: [v async for v in y] for k, y in z}",
    "async def f():\n return [[await x for x in y] for y in z]",
    "async def f():\n return [[await x for x in y] async for y in z]",
    "async def f():\n return [lambda: [a for a in y] for y in z]",
    "f'{{x=}}'",
    "f'{{{x=}}}'",
    "f'{{{x}=}}'",
    "f'{x}={{y=}}'",
    "async def f():\n return f'{await x}'",
    "def f():\n return [(yield x) for x in y]",
    "a = *b, c",
    "{*a, *b}",
    "def f():\n return (*a, b)",
    "f(x for x in y, 1)",
    "for x in (*a, 1): pass",
    "print(a)\nglobal a",
    "lambda a, /: a",
    "with (open(a)) as b: pass",
    "{**a, 'x': 1}",
    "x: int = *a, 1",
    "def f():\n yield (*a, 1)",
    "[y for x in l if (y := x)]",
    "try: pass\nexcept (A, B): pass",
    "del (a, b)",
    "x = ...",
    "def f():\n x = 1\n def g():\n  nonlocal x\n  x = 2",
    "f(**a, b=1)",
    "f(*a, *b, c, **d, **e)",
    "1_000",
    "a[1, *b]",
    "def f(*a: *b): pass",
    "return_ = lambda: (*a, 1)",
    "async def f():\n yield 1\n return",
    "for i in range(3):\n try: pass\n finally:\n  while 1: break",
    "for x in l:\n try: pass\n finally:\n  with a: continue",
    "for x in l:\n try: pass\n finally:\n  if x: continue",
    "f(x=(y:=1))",
    "f(y:=1)",
    "f'{(x:=1)}'",
    "def f(a=(b:=1)): pass",
    "match = 1",
    "_async = 1",
    "with (a as b): pass",
    "try: pass\nexcept* A: pass",
    "{y:=1 for x in l if x}",
    "a[(x:=1):2]",
    "a[b:(x:=1)]",
]
_COMPILE = """
import json, sys
told = []
for source in json.load(sys.stdin):
    try:
        compile(source, "source", "exec", dont_inherit=True)
        told.append(True)
    except SyntaxError:
        told.append(False)
print(json.dumps(told))
"""


@functools.cache
def library_functions() -> list[str]:
    """Functions of the standard library: those in which we see something new, and some others."""
    found = []
    for path in sorted(Path(os.__file__).parent.glob("*.py"))[::4]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for at, node in enumerate(ast.walk(tree)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                text = "if 1:\n" + "".join(lines[node.lineno - 1 : node.end_lineno])
                text = text if node.col_offset else text.partition("\n")[2]
                if at % 25 == 0 or too_new(text, ast.parse(text), (3, 6)) is not None:
                    found.append(text)
    return found


@pytest.mark.parametrize(
    "python",
    [one for one in pythons.found() if one.minor <= sys.version_info.minor],
    ids=lambda one: one.version,
)
def test_the_compilers_agree(python: pythons.Interpreter) -> None:
    """What is let through compiles there, and what is refused does not."""
    sources = [source + "\n" for source in (*RELAXED, *library_functions()) if readable(source)]
    assert len(sources) > 100
    done = subprocess.run(
        [python.path, "-W", "ignore", "-I", "-c", _COMPILE],
        input=json.dumps(sources),
        capture_output=True,
        text=True,
        check=True,
    )
    for source, compiles in zip(sources, json.loads(done.stdout), strict=True):
        found = too_new(source, ast.parse(source), (3, python.minor))
        assert (found is None) == compiles, (source, found)


def readable(source: str) -> bool:
    try:
        compile(source + "\n", "source", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return True
