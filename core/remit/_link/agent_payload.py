"""What the caller sends to bring an agent up: the agent's sources and the words that start them.

The order of things on the stream is in docs/wire.md, under Bootstrap.
"""

from __future__ import annotations

import ast
import functools
import itertools
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from remit._wire.msgpack import pack

OLDEST = (3, 6)
# From here on `from __future__ import annotations` is known, and annotations need not be removed:
# that takes a fifth of a second.
_LAZY_ANNOTATIONS = (3, 7)
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# In the agent no other string stands alone on its lines.
_DOCSTRING = re.compile(r'^([ \t]*)"""(?:[^"\\]|"(?!""))*"""[ \t]*$', re.MULTILINE)
_COMMENT = re.compile(r"^[ \t]*# .*$", re.MULTILINE)
# One that follows code, as far as that is certain: nothing in it could end a string.
_REMARK = re.compile(r"""  # [^'"\n]*$""", re.MULTILINE)
_STRING = re.compile(r'''("""(?:[^"\\]|\\.|"(?!""))*""")''', re.DOTALL)
_INDENT = re.compile(r"^ {4,}", re.MULTILINE)
_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:(?:    .*)?\n)+", re.MULTILINE)
_SENT = ("_wire", "_jobdir", "_agent")
# What most sessions have no need for goes along with the verb that has: these, and all below them.
_LATER = {
    "enter": ("remit._agent.enter", "remit._agent.base.pty", "remit._wire.sanitize"),
    "python": (
        "remit._agent.functions.interpreter",
        "remit._agent.functions.pool",
        "remit._agent.functions.worker_process",
        "remit._agent.functions.workers",
        "remit._agent.returned.function_job",
        "remit._wire.calls",
    ),
}
VERBS_WITH_MODULES = frozenset(_LATER)

# Every login shell hands this on as it stands within single quotes: no quote, no backslash, no
# newline, and no `!` (csh). It parses on Python 2, so that one gets as far as telling its version.
# It reads its input byte by byte, since what follows STAGE1 is not for it, and skips empty lines.
STAGE0 = (
    "import os,sys;"
    "os.write(1,(sys.argv[1][::-1]+str(sys.hexversion)+chr(10)).encode());"
    "exec(next(filter(None,iter(lambda:bytes().join("
    "iter(lambda:os.read(0,1)or sys.exit(1),chr(10).encode())).strip(),None))))"
)

# What `exec` above is given, on one line: reads the payload, and not a byte more.
_STAGE1 = """\
import os, zlib
packed = bytes()
while len(packed) < {size}:
    piece = os.read(0, {size} - len(packed))
    if not piece:
        raise SystemExit(1)
    packed += piece
parts = zlib.decompress(packed).decode().split(chr(0))
exec(compile(parts[0], 'remit', 'exec'))
"""
# What follows the importer in the first part; the others are names and sources, in turn.
_BEGIN = """\
install(dict(zip(parts[1::2], parts[2::2])))
from remit._agent.janitor import boot
boot()
"""

# Where an interpreter may be. The oldest name comes last: `python` may be a Python 2.
_INTERPRETERS = (
    "python3",
    *(f"python3.{minor}" for minor in range(14, OLDEST[1] - 1, -1)),
    "/usr/libexec/platform-python",
    "python",
)
_OLD_ENOUGH = f"import sys;sys.exit(sys.version_info<({OLDEST[0]},{OLDEST[1]}))"


class Sentinel(NamedTuple):
    """STAGE0's answer: from here on, what arrives is the agent's."""

    hexversion: int  # as sys.hexversion there
    end: int  # where in the bytes received the agent's own bytes begin

    @property
    def version(self) -> tuple[int, int]:
        return self.hexversion >> 24, self.hexversion >> 16 & 0xFF

    @property
    def too_old(self) -> bool:
        return self.version < OLDEST


def new_nonce() -> str:
    """16 random hexadecimal digits that read differently backwards."""
    while (nonce := os.urandom(8).hex()) == nonce[::-1]:
        pass
    return nonce


def stage0_argv(interpreter: str, nonce: str) -> list[str]:
    return [interpreter, "-I", "-S", "-c", STAGE0, nonce]


def fallback_argv(nonce: str) -> list[str]:
    """Looks for an interpreter with /bin/sh, and runs STAGE0 on the first that is new enough.

    Ends with status 127 where there is none.
    """
    script = (
        f"for python in {' '.join(_INTERPRETERS)}; do "
        # -I is for 3.4 and later: an older one fails here too.
        'if "$python" -I -S -c "$1" </dev/null >/dev/null 2>&1; then '
        'exec "$python" -I -S -c "$2" "$3"; fi; done; '
        f"echo no Python {OLDEST[0]}.{OLDEST[1]} or later is on the PATH >&2; exit 127"
    )
    return ["/bin/sh", "-c", script, "remit", _OLD_ENOUGH, STAGE0, nonce]


def sentinel(nonce: str) -> bytes:
    """How STAGE0's answer begins. Backwards, so that an echo of the command line is no answer."""
    return nonce[::-1].encode("ascii")


def find_sentinel(nonce: str, received: bytes | bytearray) -> Sentinel | None:
    """The sentinel in what has been received so far, whatever noise stands before it, if whole."""
    mark = sentinel(nonce)
    start = received.find(mark)
    while start >= 0:
        end = received.find(b"\n", start)
        if end < 0:
            return None
        digits = bytes(received[start + len(mark) : end]).strip()
        if digits.isdigit() and len(digits) <= 10:
            return Sentinel(int(digits), end + 1)
        start = received.find(mark, start + 1)
    return None


def bring_up(version: tuple[int, int] = OLDEST) -> bytes:
    """The line of STAGE1 and the payload for that Python; the caller's first frame comes next."""
    packed = payload(version >= _LAZY_ANNOTATIONS)
    line = f"exec({_STAGE1.format(size=len(packed))!r})\n"
    return line.encode("ascii") + packed


@functools.cache
def payload(lazy_annotations: bool) -> bytes:
    """The compressed source that installs the importer and starts the janitor."""
    sources = {"remit": "", **_prepared(None, lazy_annotations)}
    begin = f"{sources['remit._agent.base.importer']}\n{_BEGIN}"
    parts = [begin, *itertools.chain.from_iterable(sources.items())]
    # Sent on and on: 6 is as small as 9, within a percent, in a third of the time.
    return zlib.compress("\0".join(parts).encode(), 6)


def with_verb(verb: str, python: str) -> bytes:
    """The field ``modules`` of such a request (`VERBS_WITH_MODULES`); ``python`` is the version
    that the agent told."""
    digits = re.match(r"(\d{1,4})\.(\d{1,4})\.", python)
    version = OLDEST if digits is None else (int(digits[1]), int(digits[2]))
    return _with_verb(verb, version >= _LAZY_ANNOTATIONS)


@functools.cache
def _with_verb(verb: str, lazy_annotations: bool) -> bytes:
    return zlib.compress(pack(_prepared(verb, lazy_annotations)), 6)


def _prepared(verb: str | None, lazy_annotations: bool) -> dict[str, str]:
    """What goes along with that verb; None: with none."""
    prepare = _without_typing if lazy_annotations else strip
    return {
        name: outdented(bare(prepare(text)))
        for name, text in modules().items()
        if _verb_of(name) == verb
    }


def _verb_of(name: str) -> str | None:
    for verb, names in _LATER.items():
        if any(name == each or name.startswith(f"{each}.") for each in names):
            return verb
    return None


def preparation(version: tuple[int, int]) -> Callable[[str], str]:
    """What is to be done to a source of ours before that Python can run it."""
    return _without_typing if version >= _LAZY_ANNOTATIONS else strip


def _without_typing(source: str) -> str:
    """For a Python that never looks at annotations. Every line keeps its number."""
    # The import alone would cost it time.
    untyped = source.replace("from typing import TYPE_CHECKING\n", "\n")
    return _TYPES.sub(lambda block: "\n" * block[0].count("\n"), untyped)


def modules() -> dict[str, str]:
    """The modules that are sent, now or later: name and source as written."""
    return {name: text for package in _SENT for name, text in sources_of(package).items()}


def sources_of(package: str) -> dict[str, str]:
    """The modules of a package of ours, and of those in it: name and source as written.

    Packages are empty: all that stands in their own files is what people read.
    """
    sources = {}
    for directory, folders, files in os.walk(os.path.join(_ROOT, package)):
        folders.sort()
        inside = os.path.relpath(directory, os.path.dirname(_ROOT)).replace(os.sep, ".")
        for name in sorted(file for file in files if file.endswith(".py")):
            if name == "__init__.py":
                sources[inside] = ""
            else:
                with open(os.path.join(directory, name), encoding="utf-8") as file:
                    sources[f"{inside}.{name.removesuffix('.py')}"] = file.read()
    return sources


def bare(source: str) -> str:
    """Without what only people read, a quarter of all: comments and docstrings. Every line keeps
    its number."""
    return _DOCSTRING.sub(_emptied, _REMARK.sub("", _COMMENT.sub("", source)))


def outdented(source: str) -> str:
    """With a space for each four that a line begins with, but for those in strings: a twentieth of
    what is sent."""
    parts = _STRING.split(source)
    parts[::2] = [_INDENT.sub(_shorter, each) for each in parts[::2]]
    return "".join(parts)


def _shorter(indent: re.Match[str]) -> str:
    fours, rest = divmod(len(indent[0]), 4)
    return " " * (fours + rest)


def _emptied(docstring: re.Match[str]) -> str:
    return docstring[1] + '""' + "\n" * docstring[0].count("\n")


def strip(source: str) -> str:
    """``source`` without what only type checkers read, and that Python 3.6 could not.

    Annotations, ``from __future__ import annotations``, imports from typing and TYPE_CHECKING
    blocks become blanks, so that every line keeps its number. Raises SyntaxError where it is
    nothing that Python 3.6 takes.
    """
    source = _without_typing(source)
    lines = [bytearray(line) for line in source.encode().splitlines(keepends=True)]
    for node in _statements(ast.parse(source, feature_version=OLDEST).body):
        _strip_statement(lines, node)
    return b"".join(lines).decode()


def _statements(block: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """All that are in it. Nothing within an expression is annotated."""
    for node in block:
        yield node
        for name in ("body", "orelse", "finalbody"):
            yield from _statements(getattr(node, name, ()))
        for handler in getattr(node, "handlers", ()):
            yield from _statements(handler.body)


def _strip_statement(lines: list[bytearray], node: ast.stmt) -> None:
    match node:
        case (
            ast.FunctionDef(args=args, returns=returns)
            | ast.AsyncFunctionDef(args=args, returns=returns)
        ):
            for arg in (*args.args, *args.kwonlyargs, args.vararg, args.kwarg):
                if arg is not None and arg.annotation is not None:
                    name_end = arg.col_offset + len(arg.arg.encode())
                    _blank(lines, (arg.lineno, name_end), _end(arg.annotation))
            if returns is not None:
                _blank(lines, _arrow(lines, returns), _end(returns))
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            _blank(lines, _end(target), _end(annotation))
            if value is None:
                # A bare name would be looked up; what was declared here is not there yet.
                _blank(lines, (target.lineno, target.col_offset), _end(target))
                lines[target.lineno - 1][target.col_offset] = ord("0")
        case ast.ImportFrom(module="__future__" | "typing"):
            _blank_statement(lines, node)


def _end(node: ast.expr) -> tuple[int, int]:
    assert node.end_lineno is not None
    assert node.end_col_offset is not None
    return node.end_lineno, node.end_col_offset


def _arrow(lines: list[bytearray], returns: ast.expr) -> tuple[int, int]:
    line, column = returns.lineno, lines[returns.lineno - 1].rfind(b"->", 0, returns.col_offset)
    while column < 0:
        line -= 1
        column = lines[line - 1].rfind(b"->")
    return line, column


def _blank(lines: list[bytearray], start: tuple[int, int], end: tuple[int, int]) -> None:
    """Blanks what stands between two places, each a line (from 1) and a column (in bytes)."""
    (first, left), (last, right) = start, end
    for number in range(first, last + 1):
        line = lines[number - 1]
        begin = left if number == first else 0
        stop = right if number == last else len(line.rstrip(b"\r\n"))
        line[begin:stop] = b" " * (stop - begin)
        if number < last:
            # The brackets that held these lines together are gone.
            line[stop - 1] = ord("\\")


def _blank_statement(lines: list[bytearray], node: ast.stmt) -> None:
    assert node.end_lineno is not None
    for number in range(node.lineno, node.end_lineno + 1):
        lines[number - 1][:] = b"\n"
