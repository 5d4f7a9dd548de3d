"""Programs and packages where they arrive: under each interpreter of this machine."""

from __future__ import annotations

import functools
import importlib
import linecache
import math
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest

from agent import shippable, shippable_too
from agent.worker import Raised, Sent, Worker, this_minor
from remit._shipping.packages import package
from remit._shipping.partials import unfolded
from remit._shipping.programs import Runtime, arguments, program
from testbed import pythons


@pytest.fixture(scope="module")
def workers() -> Iterator[Callable[[pythons.Interpreter], Worker]]:
    """One worker for each interpreter, for as long as the module's tests run."""
    running: dict[str, Worker] = {}
    with ExitStack() as stack:

        def worker(python: pythons.Interpreter) -> Worker:
            if python.version not in running:
                started = Worker(python.path, (3, python.minor))
                running[python.version] = stack.enter_context(started)
            return running[python.version]

        yield worker


@pytest.fixture
def worker(python: pythons.Interpreter, workers: Callable[[pythons.Interpreter], Worker]) -> Worker:
    return workers(python)


@pytest.fixture
def of_our_version(workers: Callable[[pythons.Interpreter], Worker]) -> Worker:
    """One that runs our bytecode, and was sent cloudpickle."""
    (ours,) = [one for one in pythons.found() if this_minor(one.version)]
    worker = workers(ours)
    worker.install(package("cloudpickle").body)
    return worker


def by_source(fn: Callable[..., Any], peer: Runtime, *args: Any) -> Sent:
    return Sent(program(fn, peer, kind="source"), arguments(args, peer, "source"))


def by_value(fn: Callable[..., Any], peer: Runtime, *args: Any) -> Sent:
    return Sent(program(fn, peer, kind="value"), arguments(args, peer, "value"))


CALLS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "defaults": (shippable.add, (1,), 9),
    "all arguments": (shippable.add, (1, 2, 3), 18),
    "modules": (shippable.uses_modules, ("/x",), ["x", 4.0, True]),
    "constants": (shippable.uses_constants, ("a",), (1, 2)),
    "a frozenset in a constant": (shippable.uses_constants, ("b",), frozenset({3})),
    "what modules keep": (
        shippable.uses_what_modules_keep,
        ("abBAax",),
        [["ab", "Aa"], "some.name", "root", "SIGTERM"],
    ),
    "calls itself": (shippable.factorial, (5,), 120),
    "calls one that calls it": (shippable.is_even, (7,), False),
    "two modules": (shippable.in_two_modules, (2,), [6, 200]),
    "annotations inside": (shippable.only_annotated, (4,), 4),
    "a text of several lines": (shippable.Holder.with_text, (2,), "first\n  second\n" * 2),
    "async": (shippable.sleeps, (1,), 2),
    "generator": (shippable.counts, (3,), [0, 1, 2]),
    "async generator": (shippable.counts_slowly, (3,), [0, 1, 2]),
    "changes a global": (shippable.has_state, (), 4),
    "a class inside": (shippable.has_class, (), [1, 2]),
    "lambda": (shippable.double, (4,), 8),
    "first of two lambdas": (shippable.pair[0], (4,), 5),
    "second of two lambdas": (shippable.pair[1], (4,), 6),
    "lambda over lines": (shippable.over_lines[0], (4,), 14),
    "partial": (shippable.partly, (5,), 60),
    "standard library": (math.sqrt, (16,), 4.0),
    "builtin": (len, ([1, 2],), 2),
}


def test_a_partial_is_one_program_whatever_its_arguments(worker: Worker) -> None:
    sent, answers = set(), []
    for scale in range(3):
        fn, args = unfolded(functools.partial(shippable.add, 1, scale=scale, more=0), (2, scale))
        one = by_source(fn, worker.peer, *args)
        sent.add(one.program.body)
        answers.append(worker.call(one))
    assert len(sent) == 1
    assert answers == [shippable.add(1, 2, scale, scale=scale, more=0) for scale in range(3)]
    nothing: Any = None
    fn, args = unfolded(functools.partial(shippable.add, scale=nothing), (1, 2))
    with pytest.raises(Raised) as raised:
        worker.call(by_source(fn, worker.peer, *args))
    assert "by_keywords" not in str(raised.value)
    assert one.program.name == "agent.shippable.add"


class TestBySource:
    @pytest.mark.parametrize("name", CALLS)
    def test_it_does_there_what_it_does_here(self, worker: Worker, name: str) -> None:
        fn, args, expected = CALLS[name]
        answer = worker.call(by_source(fn, worker.peer, *args))
        assert (answer, type(answer)) == (expected, type(expected))

    def test_a_traceback_shows_file_line_and_source(self, worker: Worker) -> None:
        with pytest.raises(Raised, match="ZeroDivisionError") as caught:
            worker.call(by_source(shippable.raises, worker.peer, 1))
        line = shippable.raises.__code__.co_firstlineno + 2
        assert f'File "{shippable.__file__}", line {line}, in raises' in caught.value.traceback
        assert '    return detail["value"] / 0\n' in caught.value.traceback

    def test_it_keeps_its_name_and_module(self, worker: Worker) -> None:
        program_ = by_source(shippable.Holder.with_text, worker.peer, 1).program
        names = worker.run(
            "from remit._worker import programs\n"
            f"function = programs.Program('source', {program_.body!r}).function\n"
            "answer = function.__module__, function.__qualname__"
        )
        assert names == ("agent.shippable", "Holder.with_text")
        assert program_.name == "agent.shippable.Holder.with_text"

    def test_a_missing_module_is_named_with_what_to_do(self, worker: Worker) -> None:
        with pytest.raises(Raised) as caught:
            worker.call(by_source(shippable.imports_what_is_missing, worker.peer))
        assert caught.value.type_name == "ModuleNotFoundError"
        missing = caught.value.missing
        assert missing.startswith(
            "the module no_such_module_anywhere is not available to Python 3."
        )
        assert 'session.ship("no_such_module_anywhere")' in missing
        assert "python=" in missing


def closure(by: int) -> Callable[[int], int]:
    return lambda x: x * by


def nested_closure(by: int) -> Callable[[int], list[int]]:
    def outer(x: int) -> list[int]:
        return [inner(x), by]

    def inner(x: int) -> int:
        return closure(by)(x)

    return outer


class Counter:
    """A class of the user's own."""

    steps = 2

    def __init__(self, start: int) -> None:
        self.start = start

    def __call__(self, more: int) -> int:
        return self.start + more

    def step(self, times: int) -> int:
        return self.start + times * self.steps

    @classmethod
    def named(cls, text: str) -> str:
        return f"{cls.__name__} {text}"

    @staticmethod
    def double(x: int) -> int:
        return 2 * x


def takes_own(counter: Counter) -> tuple[bool, int]:
    return isinstance(counter, Counter), counter.start


def uses_own_module(n: int) -> int:
    return shippable_too.scaled(n)


def fails_by_value(by: int) -> None:
    detail = by  # the line before
    raise ValueError(detail)


VALUES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], Any]] = {
    "plain": (shippable.add, (1, 2, 3), 18),
    "mutual recursion": (shippable.is_even, (7,), False),
    "lambda": (lambda x: x + 1, (1,), 2),
    "closure": (closure(3), (4,), 12),
    "nested closure": (nested_closure(3), (4,), [12, 3]),
    "bound method": (Counter(5).step, (2,), 9),
    "class method": (Counter.named, ("x",), "Counter x"),
    "static method": (Counter.double, (4,), 8),
    "callable object": (Counter(5), (1,), 6),
    "partial": (functools.partial(closure(3), 4), (), 12),
    "partial of a method": (functools.partial(Counter(1).step, times=3), (), 7),
    "an object of the user's": (takes_own, (Counter(8),), (True, 8)),
    "a module of the user's": (uses_own_module, (2,), 200),
    "async": (shippable.sleeps, (1,), 2),
    "generator": (shippable.counts, (3,), [0, 1, 2]),
    "async generator": (shippable.counts_slowly, (3,), [0, 1, 2]),
    "builtin": (sorted, ([2, 1],), [1, 2]),
    "method of a builtin": ("a-b".split, ("-",), ["a", "b"]),
    "standard library": (math.sqrt, (4,), 2.0),
}


class TestByValue:
    @pytest.mark.parametrize("name", VALUES)
    def test_it_does_there_what_it_does_here(self, of_our_version: Worker, name: str) -> None:
        fn, args, expected = VALUES[name]
        answer = of_our_version.call(by_value(fn, of_our_version.peer, *args))
        assert (answer, type(answer)) == (expected, type(expected))

    def test_nothing_of_the_users_is_imported_there(self, of_our_version: Worker) -> None:
        of_our_version.call(by_value(uses_own_module, of_our_version.peer, 1))
        of_our_version.call(by_value(takes_own, of_our_version.peer, Counter(1)))
        assert (
            of_our_version.run("import sys; answer = 'agent.shippable_too' in sys.modules") is False
        )

    def test_a_traceback_shows_file_line_and_source(self, of_our_version: Worker) -> None:
        with pytest.raises(Raised) as caught:
            of_our_version.call(by_value(fails_by_value, of_our_version.peer, 1))
        line = fails_by_value.__code__.co_firstlineno + 2
        assert f'File "{__file__}", line {line}, in fails_by_value' in caught.value.traceback
        assert "    raise ValueError(detail)\n" in caught.value.traceback

    @pytest.mark.parametrize("kind", ["value", "source"])
    def test_a_cell_of_a_notebook(self, of_our_version: Worker, kind: str) -> None:
        file, cell = "<ipython-input-7-0123>", "k = 3\ndef scaled(x):\n    return x * k / (x - 2)\n"
        linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        space: dict[str, Any] = {"__name__": "__main__"}
        try:
            exec(compile(cell, file, "exec"), space)
            send = by_value if kind == "value" else by_source
            good, bad = (send(space["scaled"], of_our_version.peer, x) for x in (4, 2))
        finally:
            del linecache.cache[file]
        assert good.program.name == "__main__.scaled"
        assert of_our_version.call(good) == 6.0
        with pytest.raises(Raised) as caught:
            of_our_version.call(bad)
        assert f'File "{file}", line 3, in scaled' in caught.value.traceback
        assert "    return x * k / (x - 2)\n" in caught.value.traceback


# Texts that some Python warns of: 3.14, each from 3.8 on, and each.
WARNED_OF = {
    "return in finally": "    try:\n        1 / 0\n    finally:\n        return x\n",
    "a comparison with a literal": "    return x if x is not 'y' else 0\n",
    "no escape": "    return x if '\\d' != '\\\\e' else 0\n",
}


@pytest.fixture
def warnings_are_errors(worker: Worker) -> Iterator[None]:
    """Here and there."""
    worker.run("import warnings; warnings.simplefilter('error'); answer = None")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    worker.run("import warnings; warnings.resetwarnings(); answer = None")


@pytest.mark.parametrize("text", WARNED_OF.values(), ids=WARNED_OF)
@pytest.mark.usefixtures("warnings_are_errors")
class TestWhatTheCompilerWarnsOf:
    @pytest.mark.parametrize("head", ["def go(x):\n", "if 1:\n  def go(x):\n"])
    def test_a_function(self, worker: Worker, text: str, head: str) -> None:
        file, cell = "<ipython-input-8-0123>", head + text.replace("    ", "        ")
        linecache.cache[file] = (len(cell), None, cell.splitlines(keepends=True), file)
        space: dict[str, Any] = {"__name__": "__main__"}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                exec(compile(cell, file, "exec"), space)
            sent = by_source(space["go"], worker.peer, 7)
        finally:
            del linecache.cache[file]
        assert worker.call(sent) == 7

    def test_a_shipped_module(
        self, worker: Worker, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "warned_of.py").write_text("def go(x):\n" + text)
        worker.install(package("warned_of").body)
        assert worker.run("import warned_of; answer = warned_of.go(7)") == 7


MODULE = """\
from . import other
from .sub.deep import VALUE

def greet(name):
    return other.greeting() + " " + name

def fail():
    raise ValueError("from a shipped module")
"""


@pytest.fixture
def mypkg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package on this side's path, never imported here."""
    root = tmp_path / "mypkg"
    (root / "sub").mkdir(parents=True)
    (root / "data" / "more").mkdir(parents=True)
    (root / "__init__.py").write_text(MODULE)
    (root / "other.py").write_text("import pkgutil\n\ndef greeting():\n    return 'Grüße'\n")
    (root / "sub" / "__init__.py").write_text("")
    (root / "sub" / "deep.py").write_text("from .. import other\nVALUE = other.greeting()\n")
    (root / "data" / "words.txt").write_bytes(b"one\ntwo\n")
    (root / "words.bin").write_bytes(b"\x00\xff")
    (root / "data" / "more" / "deep.txt").write_bytes(b"deep")
    monkeypatch.syspath_prepend(str(tmp_path))
    return root


class TestShipped:
    def test_its_modules_import_each_other(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        assert worker.run("import mypkg; answer = mypkg.greet('Ada'), mypkg.VALUE") == (
            "Grüße Ada",
            "Grüße",
        )

    def test_functions_that_use_it_go_by_source(
        self, worker: Worker, mypkg: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (mypkg.parent / "uses_mypkg.py").write_text(
            "import mypkg\n\ndef go(name):\n    return mypkg.greet(name)\n"
        )
        before = set(sys.modules)
        go = importlib.import_module("uses_mypkg").go
        for name in set(sys.modules) - before:
            # So that nothing is left of it when the test is over.
            monkeypatch.setitem(sys.modules, name, sys.modules.pop(name))
        worker.install(package("mypkg").body)
        peer = attrs.evolve(worker.peer, shipped=frozenset({"mypkg"}))
        assert worker.call(by_source(go, peer, "Ada")) == "Grüße Ada"

    def test_a_traceback_shows_its_lines(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        with pytest.raises(Raised) as caught:
            worker.run("import mypkg; mypkg.fail()")
        assert 'File "<shipped>/mypkg/__init__.py", line 8, in fail' in caught.value.traceback
        assert '    raise ValueError("from a shipped module")\n' in caught.value.traceback

    def test_its_data_is_there(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        code = "import pkgutil; answer = pkgutil.get_data('mypkg', 'data/words.txt')"
        assert worker.run(code) == b"one\ntwo\n"
        with pytest.raises(Raised, match=r"FileNotFoundError: <shipped>/mypkg/nothing\.txt"):
            worker.run("import pkgutil; pkgutil.get_data('mypkg', 'nothing.txt')")

    def test_its_modules_can_be_listed(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        code = """
import mypkg, pkgutil
found = pkgutil.walk_packages(mypkg.__path__, "mypkg.")
answer = [(name, is_package) for _, name, is_package in found]"""
        assert worker.run(code) == [
            ("mypkg.other", False),
            ("mypkg.sub", True),
            ("mypkg.sub.deep", False),
        ]

    def test_its_resources_are_there(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        if worker.peer.minor >= (3, 10):
            code = """
from importlib.resources import as_file, files
root = files("mypkg")
data = root / "data"
with as_file(data / "words.txt") as path:
    copy = path.read_bytes()
answer = [
    sorted(one.name for one in root.iterdir()), data.is_dir(), (data / "words.txt").is_file(),
    data.joinpath("more", "deep.txt").read_text(), (root / "words.bin").read_bytes(), copy,
    (data / "words.txt").read_text(encoding="ascii"),
]"""
            assert worker.run(code) == [
                ["__init__.py", "data", "other.py", "sub", "words.bin"],
                True,
                True,
                "deep",
                b"\x00\xff",
                b"one\ntwo\n",
                "one\ntwo\n",
            ]
        elif worker.peer.minor >= (3, 7):
            code = """
from importlib import resources
answer = [
    resources.read_binary("mypkg", "words.bin"), resources.is_resource("mypkg", "words.bin"),
    resources.is_resource("mypkg", "data"), sorted(resources.contents("mypkg")),
]"""
            names = ["__init__.py", "data", "other.py", "sub", "words.bin"]
            assert worker.run(code) == [b"\x00\xff", True, False, names]
        else:
            # Python 3.6 has no importlib.resources; the loader gives the bytes.
            code = "import mypkg; answer = mypkg.__loader__.get_data('<shipped>/mypkg/words.bin')"
            assert worker.run(code) == b"\x00\xff"

    def test_another_content_replaces_it(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        worker.run("import mypkg; answer = None")
        (mypkg / "other.py").write_text("def greeting():\n    return 'Hello'\n")
        worker.install(package("mypkg").body)
        assert worker.run("import mypkg; answer = mypkg.greet('Ada')") == "Hello Ada"

    def test_the_same_once_more_changes_nothing(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        worker.run("import mypkg; mypkg.mark = 1; answer = None")
        worker.install(package("mypkg").body)
        assert worker.run("import mypkg; answer = mypkg.mark") == 1
        code = (
            "import sys; answer = sum('shipped' in type(one).__module__ for one in sys.meta_path)"
        )
        assert worker.run(code) == 1

    def test_a_single_module_and_a_namespace_package(
        self, worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        (tmp_path / "single_one.py").write_text("import spaced.inner.leaf as leaf\nX = leaf.Y\n")
        (tmp_path / "spaced" / "inner").mkdir(parents=True)
        (tmp_path / "spaced" / "inner" / "leaf.py").write_text("Y = 5\n")
        for name in ("single_one", "spaced"):
            worker.install(package(name).body)
        assert worker.run("import single_one; answer = single_one.X") == 5
        code = "import spaced; answer = getattr(spaced, '__file__', None)"
        assert worker.run(code) is None

    def test_what_it_lacks_is_missing(self, worker: Worker, mypkg: Path) -> None:
        worker.install(package("mypkg").body)
        with pytest.raises(Raised, match=r"ModuleNotFoundError: No module named 'mypkg\.absent'"):
            worker.run("import mypkg.absent")


class TestExplainMissing:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("import no_such_module", 'session.ship("no_such_module")'),
            ("import no_such.part", 'session.ship("no_such")'),
            ("from collections import NoSuchThing", "NoSuchThing"),
            ("raise ImportError('no name')", "no name"),
        ],
    )
    def test_the_words(self, worker: Worker, code: str, words: str) -> None:
        with pytest.raises(Raised) as caught:
            worker.run(code)
        assert words in caught.value.missing
