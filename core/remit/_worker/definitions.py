"""Functions from their source text. The caller looks at what comes of it before it is sent.

Of the outermost function neither the annotations nor the defaults are evaluated: what they name
is at the caller. The annotations of the functions inside it go as well, since they say nothing
that a call depends on, and an older Python may not understand them.
"""

from __future__ import annotations
import __future__ as futures

import ast
from types import CodeType
from typing import TYPE_CHECKING

from remit._worker.unwarned import unwarned

if TYPE_CHECKING:
    from typing import Any, Callable

_DEF, _LAMBDA = "exec", "eval"


def compiled(code: str, file: str, line: int, is_lambda: bool, lazy: bool) -> CodeType:
    """Code that makes the function. ``code`` holds nothing but one def, or one indented under an
    `if`, or an expression that is a lambda; it begins on ``line`` of ``file``.

    ``lazy`` says that it was written under `from __future__ import annotations`. Raises
    SyntaxError.
    """
    mode = _LAMBDA if is_lambda else _DEF
    with unwarned():
        tree: Any = ast.parse("\n" * (line - 1) + code, file, mode)
    outermost(tree).decorator_list = []  # put on by who sends it
    args = outermost(tree).args
    args.defaults, args.kw_defaults = [], [None] * len(args.kwonlyargs)
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
    # Classes inside it keep theirs: a dataclass is made of them. Python 3.6 knows no such flag.
    future = getattr(futures, "annotations", None) if lazy else None
    flags = future.compiler_flag if future else 0
    with unwarned():
        result: CodeType = compile(tree, file, mode, flags=flags, dont_inherit=True)
    return result


def outermost(tree: Any) -> Any:
    """The node of the function in such a tree."""
    node = tree.body if isinstance(tree, ast.Expression) else tree.body[0]
    return node.body[0] if isinstance(node, ast.If) else node


def define(code: CodeType, name: str, namespace: dict[str, Any]) -> Callable[..., Any]:
    """The function that ``code`` makes. It is not put into its namespace, where the caller may
    have known it by another name, or not at all."""
    local: dict[str, Any] = {}
    made = eval(code, namespace, local)
    function: Callable[..., Any] = made or local[name]
    return function
