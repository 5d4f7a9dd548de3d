"""A worker for tests: `remit._worker.programs` under any interpreter, asked over a pipe."""

from __future__ import annotations

import ast
import pickle
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import remit
from remit._link import agent_payload
from remit._shipping.programs import Program, Runtime

CORE = Path(remit.__file__).parents[1]

_SERVE = """
import asyncio, pickle, sys, traceback, types

def finish(value):
    if isinstance(value, types.CoroutineType):
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(value)
        finally:
            loop.close()
    if isinstance(value, types.AsyncGeneratorType):
        async def collect():
            return [item async for item in value]
        return finish(collect())
    return list(value) if isinstance(value, types.GeneratorType) else value

def answer(words):
    from remit._worker import programs
    if words[0] == "install":
        return programs.install(words[1])
    if words[0] == "run":
        space = {}
        exec(words[1], space)
        return space["answer"]
    kind, body, data = words[1:]
    program = programs.Program(kind, body)
    try:
        return finish(program(data))
    finally:
        program.leave()

while True:
    try:
        words = pickle.load(sys.stdin.buffer)
    except EOFError:
        break
    try:
        reply = ("value", answer(words))
    except Exception as exc:
        from remit._worker import programs
        missing = programs.explain_missing(exc) if isinstance(exc, ImportError) else ""
        reply = ("error", type(exc).__name__, str(exc), traceback.format_exc(), missing)
    pickle.dump(reply, sys.stdout.buffer, 2)
    sys.stdout.buffer.flush()
"""


class Raised(Exception):
    """What was called there raised."""

    def __init__(self, type_name: str, words: str, traceback: str, missing: str) -> None:
        super().__init__(f"{type_name}: {words}")
        self.type_name = type_name
        self.words = words
        self.traceback = traceback
        self.missing = missing  # what explain_missing says


class Sent(NamedTuple):
    """A program with its arguments, as it goes to a worker."""

    program: Program
    arguments: bytes


class Worker:
    """Ends with the `with` block."""

    def __init__(self, python: Path, version: Sequence[int]) -> None:
        sources = _sources(old=tuple(version[:2]) < (3, 7))
        start = f"{sources['remit._agent.base.importer']}\ninstall({sources!r})\n{_SERVE}"
        # What it runs comes by its stdin: it is too long for a command line.
        load = "import sys; n = int(sys.stdin.buffer.readline()); exec(sys.stdin.buffer.read(n))"
        self._process = subprocess.Popen(
            [python, "-I", "-c", load], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/"
        )
        code = start.encode()
        self._write(b"%d\n" % len(code) + code)
        major, minor, micro = self.run("import sys; answer = tuple(sys.version_info[:3])")
        self.peer = Runtime((major, minor, micro))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def call(self, sent: Sent) -> Any:
        return self._ask("call", sent.program.kind, sent.program.body, sent.arguments)

    def install(self, body: bytes) -> None:
        self._ask("install", body)

    def run(self, code: str) -> Any:
        """What ``code`` leaves in `answer`."""
        return self._ask("run", code)

    def _ask(self, *words: Any) -> Any:
        self._write(pickle.dumps(words, 2))
        assert self._process.stdout is not None
        reply = pickle.load(self._process.stdout)
        if reply[0] == "error":
            raise Raised(*reply[1:])
        return reply[1]

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()


def _sources(old: bool) -> dict[str, str]:
    """What `remit._worker.programs` imports of ours, and the importer, as they are sent."""
    packages = ("remit", "remit._agent", "remit._agent.base", "remit._values", "remit._wire")
    found = dict.fromkeys((*packages, "remit._worker"), "")
    waiting = ["remit._worker.programs", "remit._agent.base.importer"]
    waiting += ["remit._worker.rebuilt", "remit._worker.asserts"]  # named in pickles
    while waiting:
        name = waiting.pop()
        path = CORE / f"{name.replace('.', '/')}.py"
        if name in found or not path.exists():
            continue
        text = path.read_text(encoding="utf-8")
        found[name] = agent_payload.strip(text) if old else text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("remit"):
                waiting += [f"{node.module}.{alias.name}" for alias in node.names]
                waiting.append(str(node.module))
    return found


def this_minor(version: str) -> bool:
    """Whether an interpreter is of the version that runs the tests."""
    return version.split(".")[1] == str(sys.version_info.minor)
