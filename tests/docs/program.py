"""Runs one program of a page: ``program.py BACKEND FILE``, in a process of its own.

A program that calls ``anyio.run`` gets that event loop; statements that await are run as the body
of an async function, in a module that has imported anyio and remit.
"""

import ast
import functools
import inspect
import sys
import types
from pathlib import Path

import anyio

import remit


def main(backend: str, path: str) -> None:
    run = functools.partial(anyio.run, backend=backend)
    anyio.run = run  # type: ignore[assignment]
    source = Path(path).read_text(encoding="utf-8")
    code = compile(source, path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    if code.co_flags & inspect.CO_COROUTINE:
        run(types.FunctionType(code, {"anyio": anyio, "remit": remit}))
    else:
        types.FunctionType(code, {"__name__": "__main__"})()


if __name__ == "__main__":
    main(*sys.argv[1:])
