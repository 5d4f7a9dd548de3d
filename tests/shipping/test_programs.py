"""Functions and arguments as bytes: which way they go, what is refused and how, what is kept."""

from __future__ import annotations

import dataclasses
import enum
import functools
import importlib
import math
import pickle
import pickletools
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import attrs
import cloudpickle
import numpy as np
import pandas as pd
import pytest

import remit
from agent import shippable
from remit import ShippingError
from remit._shipping.captures import code_within
from remit._shipping.programs import Runtime, arguments, program
from remit._wire import msgpack

OURS = Runtime(sys.version_info[:3])
OLD = Runtime((3, 8, 18))
OUR_PYTHON = f"Python {sys.version_info.major}.{sys.version_info.minor}"


class TestWay:
    @pytest.mark.parametrize(
        ("peer", "kind"),
        [
            (OURS, "value"),
            (attrs.evolve(OURS, version=(*sys.version_info[:2], 99)), "value"),
            (attrs.evolve(OURS, version=(3, sys.version_info.minor + 1, 0)), "source"),
            (attrs.evolve(OURS, implementation="PyPy"), "source"),
            (OLD, "source"),
        ],
        ids=str,
    )
    def test_by_value_where_it_runs_our_bytecode(self, peer: Runtime, kind: str) -> None:
        made = program(shippable.add, peer)
        assert (made.kind, made.name) == (kind, "agent.shippable.add")

    def test_by_source_where_that_is_forced(self) -> None:
        assert program(shippable.add, OURS, kind="source").kind == "source"

    def test_the_digest_tells_bodies_apart(self) -> None:
        one, other = program(shippable.add, OLD), program(shippable.factorial, OLD)
        assert one.digest != other.digest
        assert one.digest == program(shippable.add, Runtime((3, 9, 1))).digest

    def test_library_functions_go_by_name(self) -> None:
        for peer in (OURS, OLD):
            assert len(program(math.sqrt, peer).body) < 100
            assert len(program(attrs.asdict, peer).body) < 100

    def test_a_module_of_the_users_with_a_name_of_pythons_goes_along(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "statistics.py").write_text("def mean(data):\n    return 'my own'\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "statistics", raising=False)
        mean = importlib.import_module("statistics").mean
        monkeypatch.setitem(sys.modules, "statistics", sys.modules.pop("statistics"))
        for peer in (OURS, OLD):
            assert b"my own" in program(mean, peer).body

    def test_code_keeps_its_file_lines_and_names(self) -> None:
        """All of it, functions within functions too: whatever version of cloudpickle is there."""

        def outer() -> Any:
            class Inside:
                def method(self) -> list[int]:
                    return [one for one in map(lambda x: x, [1])]  # noqa: C416, C417

            return Inside

        body: Any = msgpack.unpack(program(outer, OURS).body)
        back = pickle.loads(body[0])
        for before, after in zip(
            code_within(outer.__code__), code_within(back.__code__), strict=True
        ):
            assert before == after
            assert after.co_filename == __file__
            assert [*after.co_positions()] == [*before.co_positions()]

    def test_names_of_remit_go_by_their_public_names(self) -> None:
        """The modules behind them are of this side only."""
        for peer in (OURS, OLD):
            body = program(remit.new_job_id, peer).body
            assert b"new_job_id" in body
            assert b"_types" not in body

    def test_what_was_shipped_goes_by_name(self) -> None:
        shipped = attrs.evolve(OURS, shipped=frozenset({"agent"}))
        assert len(program(shippable.add, shipped).body) < 100
        assert len(program(shippable.add, OURS).body) > 300


LOCK = threading.Lock()
SETTINGS: Any = object()
FACTOR = 2


class Own:
    def method(self) -> None: ...

    def private(self) -> Any:
        return self.__hidden  # type: ignore[attr-defined]

    def __call__(self) -> None: ...


def decorated_by_nothing(function: Callable[..., Any]) -> Callable[..., Any]:
    return function


@decorated_by_nothing
def decorated() -> None: ...


def closure(by: int) -> Callable[[int], int]:
    return lambda x: x * by


def default_is_no_data(lock: Any = LOCK) -> None: ...


def uses_lock() -> Any:
    return LOCK


def uses_own_class() -> Any:
    return Own()


def uses_library() -> Any:
    return attrs.NOTHING


def calls_what_is_refused() -> Any:
    return uses_lock()


def uses_settings() -> Any:
    return SETTINGS


def imports_relatively() -> None:
    from . import test_packages as test_packages


def new_syntax(values: list[int]) -> int:
    first = values[0]
    if (size := len(values)) > 1:
        return size
    return first


def with_attributes() -> None: ...


with_attributes.mark = 1  # type: ignore[attr-defined]

made_by_exec: dict[str, Any] = {"__name__": "nowhere"}
exec("def no_source(): return 1", made_by_exec)

REFUSED: dict[str, tuple[Callable[..., Any], str, str]] = {
    "closure": (closure(2), "captures 'by' from what stands around it", "pass that as an argument"),
    "method": (Own().method, "it is a method, bound to an object that is here", "write a function"),
    "callable object": (Own(), "it is an object of type Own, and no function", "write a function"),
    "own class": (Own, "it is the class Own, and no function", "write a function"),
    "decorated": (decorated, "decorated is decorated", "take the decorator off"),
    "default": (
        default_is_no_data,
        "a default[0] is of type lock, which is no plain data",
        "make it inside the function",
    ),
    "global object": (
        uses_lock,
        "the global LOCK is of type lock, which is no plain data",
        "make it inside the function",
    ),
    "a global of what it calls": (
        calls_what_is_refused,
        "the global LOCK is of type lock",
        "make it inside the function",
    ),
    "own class in use": (
        uses_own_class,
        f"uses_own_class uses {__name__}, which may not be there",
        f'write `from {__name__} import Own` inside the function, or session.ship("',
    ),
    "library in use": (
        uses_library,
        "uses_library uses attrs, which may not be there",
        'inside the function, or session.ship("attrs") first',
    ),
    "relative import": (imports_relatively, "has a relative import", "name in full"),
    "attributes": (with_attributes, "with_attributes has attributes (mark)", "keep them in a"),
    "no source": (
        made_by_exec["no_source"],
        "the source of no_source cannot be found",
        "in a file or a notebook cell",
    ),
    "private name": (Own.private, "uses its private names (__name)", "write a plain function"),
    "partial": (
        functools.partial(shippable.add, SETTINGS),
        "args of the partial[0] is of type object, which is no plain data",
        "make it inside the function",
    ),
}


class TestRefusedBySource:
    @pytest.mark.parametrize("name", REFUSED)
    def test_it_says_what_is_in_the_way_and_what_to_do(self, name: str) -> None:
        fn, why, instead = REFUSED[name]
        words = r"cannot be sent to Python 3\.8\.18 by source: "
        with pytest.raises(ShippingError, match=words) as caught:
            program(fn, OLD)
        assert why in caught.value.message
        assert instead in caught.value.hint
        assert f"have a {OUR_PYTHON} run it, as in ?python=python3." in caught.value.hint

    def test_it_is_a_type_error_and_says_where(self) -> None:
        with pytest.raises(TypeError) as caught:
            program(calls_what_is_refused, OLD)
        assert isinstance(caught.value, remit.RemitError)
        line = uses_lock.__code__.co_firstlineno
        assert caught.value.evidence == f"uses_lock in {__file__}, line {line}"
        assert str(caught.value).startswith(f"{__name__}.calls_what_is_refused cannot be sent")

    def test_syntax_that_the_old_python_cannot_read(self) -> None:
        line = new_syntax.__code__.co_firstlineno + 2
        words = rf"line {line} has an assignment expression \(:=\), which is new in Python 3\.8"
        with pytest.raises(ShippingError, match=words):
            program(new_syntax, Runtime((3, 7, 16)))
        assert program(new_syntax, OLD).kind == "source"

    def test_a_source_that_was_changed_since(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.syspath_prepend(str(tmp_path))
        file = tmp_path / "will_change.py"
        file.write_text("def answer():\n    return 1\n")
        module = importlib.import_module("will_change")
        monkeypatch.delitem(sys.modules, "will_change")
        monkeypatch.setitem(sys.modules, "will_change", module)
        file.write_text("def answer():\n    return 1.0 \n")
        with pytest.raises(ShippingError, match="the file was changed since"):
            program(module.answer, OLD)
        file.write_text("def answer():\n    return 1\n")
        assert program(module.answer, OLD).kind == "source"

    def test_what_cannot_be_called(self) -> None:
        for peer in (OURS, OLD):
            with pytest.raises(ShippingError, match="a list cannot be called"):
                program([], peer)  # type: ignore[arg-type]


class TestRefusedByValue:
    @pytest.mark.parametrize(
        ("fn", "words"),
        [
            (uses_lock, "the global 'LOCK' (of type lock): cannot pickle '_thread.lock' object"),
            (calls_what_is_refused, "the global 'uses_lock', the global 'LOCK' (of type lock): "),
            (functools.partial(print, LOCK), "an argument of the partial (of type lock): "),
            (functools.partial(print, end=LOCK), "the partial's 'end' (of type lock): "),
            (default_is_no_data, "a default (of type lock): "),
            (LOCK.acquire, "cannot pickle"),
        ],
    )
    def test_it_names_what_cannot_be_pickled(self, fn: Callable[..., Any], words: str) -> None:
        with pytest.raises(ShippingError, match=re.escape(words)) as caught:
            program(fn, OURS)
        assert caught.value.hint == "make it inside the function, or pass what it can be made from"

    def test_a_captured_variable(self) -> None:
        lock = threading.Lock()
        with pytest.raises(ShippingError, match=r"the captured 'lock' \(of type lock\)"):
            program(lambda: lock, OURS)

    def test_a_function_that_calls_itself_too(self) -> None:
        def again() -> Any:
            return again() or LOCK

        with pytest.raises(ShippingError, match=r"the global 'LOCK' \(of type lock\)"):
            program(again, OURS)


class Colour(enum.Enum):
    RED = 1


class Pair(NamedTuple):
    a: int
    b: int


@dataclasses.dataclass
class Data:
    x: int = 1


class TestArguments:
    @pytest.mark.parametrize(
        "args",
        [(), (1, 2), (None, True, 1.5, "a", b"b", 1j), ([1, {"a": (2,)}],), (Data(3), Pair(1, 2))],
    )
    def test_by_value(self, args: tuple[Any, ...]) -> None:
        assert pickle.loads(arguments(args, OURS, "value")) == args

    def test_arrays_and_frames_go_as_data(self) -> None:
        """So that no names of theirs are looked up in another generation of their library."""
        array = np.arange(6.0).reshape(2, 3)
        frame = pd.DataFrame({"a": [1, 2]})
        for value in (array, [array, {"a": array}], frame, array[0, 0], lambda: (array, frame)):
            data = arguments((value,), OURS, "value")
            names = {argument for _, argument, _ in pickletools.genops(data)}
            assert not {name for name in names if str(name).startswith(("numpy", "pandas"))}
            (back,) = pickle.loads(data)
            assert repr(back() if callable(back) else back) == repr(
                value() if callable(value) else value
            )
        (one, other) = pickle.loads(arguments((array, array), OURS, "value"))
        assert one is other
        assert one.flags.writeable

    def test_by_value_names_what_cannot_be_pickled(self) -> None:
        with pytest.raises(
            ShippingError, match=r"arguments cannot be sent: args\[1\] \(of type lock\)"
        ):
            arguments((1, LOCK), OURS, "value")

    @pytest.mark.parametrize(
        ("value", "words"),
        [
            (Data(), r"args\[0\] is of type Data, which is no plain data"),
            ({"a": [Colour.RED]}, r"args\[0\]\['a'\]\[0\] is of type Colour"),
            ([Pair(1, 2)], r"args\[0\]\[0\] is of type Pair"),
            ({Data: 1}, r"a key of args\[0\] is of type type"),
            (
                Path("/x"),
                r"args\[0\] is of type PosixPath, which has no meaning there; pass str\(\)",
            ),
            (slice(Data()), r"args\[0\]\.stop is of type Data"),
            (LOCK, r"args\[0\] is of type lock"),
            (ValueError("x"), r"args\[0\] is of type ValueError"),
        ],
    )
    def test_by_source_only_what_comes_as_itself(self, value: Any, words: str) -> None:
        with pytest.raises(ShippingError, match=words) as caught:
            arguments((value,), OLD, "source")
        assert "pass plain data, or have a Python 3." in caught.value.hint

    def test_by_source_refuses_what_holds_itself(self) -> None:
        circle: list[Any] = []
        circle.append(circle)
        with pytest.raises(ShippingError, match=r"args\[0\]\[0\] holds itself"):
            arguments((circle,), OLD, "source")
        twice: list[Any] = []
        assert arguments(([twice, twice],), OLD, "source")


class TestKept:
    """Whether a program is made again is seen by whether it is the same object."""

    @pytest.mark.parametrize("peer", [OURS, OLD], ids=str)
    def test_an_unchanged_function_is_not_looked_at_twice(self, peer: Runtime) -> None:
        assert program(shippable.is_even, peer) is program(shippable.is_even, peer)

    def test_peers_have_their_own(self) -> None:
        shipped = attrs.evolve(OURS, shipped=frozenset({"agent"}))
        assert program(shippable.add, OURS) is not program(shippable.add, shipped)

    def test_another_function_of_the_same_code_and_captures_will_do(self) -> None:
        first = program(closure(3), OURS)
        assert program(closure(3), OURS) is first
        assert program(closure(4), OURS).body != first.body

    def test_a_changed_global(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def scaled(x: int) -> int:
            return x * FACTOR

        before = program(scaled, OURS)
        monkeypatch.setitem(globals(), "FACTOR", 3)
        assert program(scaled, OURS).body != before.body

    def test_a_changed_variable(self) -> None:
        count = 1

        def counted() -> int:
            return count

        before = program(counted, OURS)
        count = 2
        assert program(counted, OURS).body != before.body

    def test_changed_defaults(self) -> None:
        def scaled(x: int = 1, *, by: int = 2) -> int:
            return x * by

        bodies = {program(scaled, OURS).body}
        scaled.__defaults__ = (2,)
        bodies.add(program(scaled, OURS).body)
        (scaled.__kwdefaults__ or {})["by"] = 3
        bodies.add(program(scaled, OURS).body)
        assert len(bodies) == 3

    def test_changed_code(self) -> None:
        def one() -> int:
            return 1

        before = program(one, OURS)
        one.__code__ = (lambda: 2).__code__
        assert program(one, OURS).body != before.body

    def test_a_change_in_a_function_that_it_calls(self) -> None:
        by = 2

        def inner() -> int:
            return by

        def outer() -> int:
            return inner()

        before = program(outer, OURS)
        assert program(outer, OURS) is before
        by = 3
        assert program(outer, OURS).body != before.body

    @pytest.mark.parametrize("held", [1, "a", ("a", (1.5,)), None, math.pi, math, len, int])
    def test_what_cannot_change_is_not(self, held: Any) -> None:
        def holds() -> Any:
            return held

        assert program(holds, OURS) is program(holds, OURS)

    @pytest.mark.parametrize("held", [[1], {"a": 1}, ([1],), Data()])
    def test_what_could_change_within_is_looked_at_again(self, held: Any) -> None:
        def holds() -> Any:
            return held

        before = program(holds, OURS)
        assert program(holds, OURS) is not before

    def test_a_function_that_is_given_attributes(self) -> None:
        def plain() -> None: ...

        before = program(plain, OURS)
        plain.mark = [1]  # type: ignore[attr-defined]
        assert program(plain, OURS).body != before.body

    def test_memory_is_bounded(self) -> None:
        from remit._shipping import programs

        for number in range(2 * programs._MOST_KEPT):
            space: dict[str, Any] = {"__name__": "made"}
            exec(f"def made(): return {number}", space)
            program(space["made"], OURS)
        large = "x" * (2 * programs._LARGEST_KEPT)
        assert program(lambda: large, OURS) is not None
        assert len(programs._kept) == programs._MOST_KEPT
        assert all(len(one.program.body) < len(large) for one in programs._kept.values())


class TestNothingIsLeft:
    def test_neither_modules_nor_registrations(self) -> None:
        functions: list[Callable[..., Any]] = [
            shippable.add,
            closure(2),
            Own().method,
            functools.partial(closure(1), 1),
        ]
        before = set(sys.modules)
        for fn in functions:
            program(fn, OURS)
        program(shippable.in_two_modules, OLD)
        assert set(sys.modules) == before
        assert not cloudpickle.list_registry_pickle_by_value()

    def test_other_pickles_are_as_ever_meanwhile(self) -> None:
        """A plain cloudpickle of the same function stays a reference, whatever goes on beside."""
        plain = cloudpickle.dumps(shippable.factorial)
        ready = threading.Barrier(4)

        def ship(number: int) -> set[bytes]:
            ready.wait()
            if number % 2:
                return {cloudpickle.dumps(shippable.factorial) for _ in range(200)}
            bodies = (program(shippable.is_even, Runtime((*OURS.minor, n))) for n in range(200))
            return {one.body for one in bodies}

        with ThreadPoolExecutor(4) as pool:
            results = list(pool.map(ship, range(4)))
        assert results[1] == results[3] == {plain}
        assert results[0] == results[2]
        assert len(results[0]) == 1


def test_a_loader_that_rewrites_code_is_no_hindrance() -> None:
    """Though pytest has rewritten the assertions of this module."""

    def asserts(x: int) -> int:
        assert x > 0, "positive"
        return x

    body = program(asserts, OLD).body
    assert b'assert x > 0, "positive"' in body
