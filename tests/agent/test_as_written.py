"""Functions as people write them, on interpreters old and new: each works, or is refused before it
runs, with words that say why."""

from __future__ import annotations

import array
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import attrs
import pytest

from agent import as_written as w
from agent.worker import Raised, Sent, Worker, this_minor
from remit import ShippingError
from remit._shipping.packages import package
from remit._shipping.programs import arguments, program
from testbed import pythons

VERSIONS = (6, 8, 11, 12, 13, 14)


@attrs.frozen
class Refused:
    words: str


@attrs.frozen
class Case:
    """``source`` is what comes of it by source where that is another thing; ``since`` is the first
    Python that can read it."""

    fn: Callable[..., Any]
    args: tuple[Any, ...]
    value: Any
    source: Any = None
    since: tuple[int, int] = (3, 6)

    def by_source(self, minor: tuple[int, int]) -> Any:
        if minor < self.since:
            return Refused("new in Python")
        return self.value if self.source is None else self.source


_CLASS = Refused("no plain data|may not be there|is the class|is a method")
CASES = {
    "calls a helper": Case(w.calls_helper, (3,), 8),
    "calls itself": Case(w.factorial, (5,), 120),
    "lru_cache": Case(w.fib, (20,), 6765),
    "uses lru_cache": Case(w.uses_cached, (20,), 6765),
    "uses a context manager": Case(w.uses_manager, ("x",), "x is open"),
    "singledispatch": Case(w.uses_dispatch, (3,), "int 3", Refused("singledispatch")),
    "a decorator": Case(w.decorated, (1,), 11, Refused("decorated is decorated, with logged")),
    "uses what is decorated": Case(w.uses_decorated, (1,), 11, Refused("decorated is decorated")),
    "a logger": Case(w.uses_logger, (), "agent.as_written"),
    "a pattern": Case(w.uses_pattern, ("aB 1 c",), ["aB", "c"]),
    "combined flags": Case(w.uses_flags, ("b\nA",), ["A"]),
    "utc": Case(w.uses_utc, (), "2020-01-01T00:00:00+00:00"),
    "containers": Case(w.uses_containers, (), [["b", "a"], [1], [1, 2], [1.0, 2.0], (1, 2)]),
    "methods of builtins": Case(w.uses_methods_by_name, ("a",), ["A", "a, b", True, True]),
    "a decimal context": Case(w.uses_context, (), 5, _CLASS),
    "a lock": Case(w.uses_lock, (), Refused("the global 'LOCK'"), _CLASS),
    "NewType": Case(w.uses_newtype, (3,), 3, _CLASS),
    "ParamSpec": Case(w.uses_paramspec, (), "P", _CLASS),
    "an enum": Case(w.uses_enum, ("RED",), 1, _CLASS),
    "a dataclass": Case(w.uses_dataclass, (1,), 3, _CLASS),
    "a dataclass inside": Case(w.local_dataclass, (7,), 7, since=(3, 7)),
    "a named tuple": Case(w.uses_namedtuple, (), 2, _CLASS),
    "an abstract class and super()": Case(w.uses_abstract, (), "I am Ann!", _CLASS),
    "cached_property": Case(w.uses_cached_property, (), 3, _CLASS),
    "a generic class": Case(w.uses_generic, (), 3, _CLASS),
    "a class in a with": Case(w.uses_with, (), "BOB", _CLASS),
    "pickles its own": Case(w.pickles_own, (), 4, _CLASS),
    "a method": Case(w.Child("Eve").greet, (), "I am Eve!", Refused("it is a method")),
    "a class method": Case(w.Child.make, (), "I am made!", Refused("it is a method")),
    "a static method": Case(w.Child.twice, (4,), 8),
    "an unbound method": Case(w.Child.greet, (w.Child("Al"),), "I am Al!", Refused("super()")),
    "changes a global": Case(w.counts, (), 5),
    "groups": Case(w.groups, (["b", "a", "b"],), {"a": 1, "b": 2}),
    "counts words": Case(w.word_count, ("a b a",), [("a", 2)]),
    "sums": Case(w.sums, ([1, 2],), 3),
    "json": Case(w.json_round, ({"a": [1]},), {"a": [1]}),
    "a template": Case(w.templates, ("you",), "hi you"),
    "a closure inside": Case(w.closure_inside, (2,), [0, 2, 4]),
    "recursion inside": Case(w.recursion_inside, (4,), 4),
    "a class inside": Case(w.class_inside, (), "<inner>"),
    "an import inside": Case(w.lazy_import, (), {"b": 2, "a": 1}),
    "try": Case(w.tries, (), "ZeroDivisionError"),
    "arguments of all kinds": Case(w.star_args, (1, 2), "1-2"),
    "defaults": Case(w.takes_default, (), [None, [1, 2]]),
    "a generator": Case(w.yields, (3,), [0, 1, 2]),
    "a coroutine": Case(w.awaits, (2,), 4),
    "an async generator": Case(w.yields_async, (3,), [0, 1, 2]),
    "gather": Case(w.gathers, (3,), [0, 2, 4]),
    "an assignment expression": Case(w.walrus, ("abc",), 3, since=(3, 8)),
    "positional only": Case(w.positional_only, (3, 1), 2, since=(3, 8)),
    "match": Case(w.matches, ([1, 2, 3],), "2", since=(3, 10)),
    "an f-string with =": Case(w.f_string, (1,), "x=1 {x=}    1", since=(3, 8)),
    "an f-string with braces": Case(w.braces_only, (1,), "{x=} 1"),
    "an assertion": Case(w.asserts, (3,), 3),
    "OrderedDict": Case(w.takes_ordered, (OrderedDict(b=1, a=2),), ["OrderedDict", ["b", "a"]]),
    "Counter": Case(w.takes_ordered, (Counter("aab"),), ["Counter", ["a", "b"]]),
    "defaultdict": Case(w.takes_ordered, (defaultdict(list, x=[1]),), ["defaultdict", ["x"]]),
    "deque": Case(w.takes_ordered, (deque([1, 2], 3),), ["deque", [1, 2]]),
    "array": Case(w.takes_ordered, (array.array("i", [1, 2]),), ["array", [1, 2]]),
    "an object of one's own": Case(
        w.takes_ordered, ([w.Point(1)],), Refused("."), Refused("as data")
    ),
    "the environment": Case(w.reads_environment, (), True),
    "a library": Case(w.sqrt_of, (4.0,), 2.0),
    "a lambda": Case(w.double, (4,), 8),
    "a partial": Case(w.partly, (2,), "1+2"),
    "a partial of a partial": Case(w.partly_inner, (), 5),
    "a closure": Case(w.tripled, (4,), 12, Refused("captures 'by'")),
    "a method of a constant": Case(w.JOIN, (["a", "b"],), "a, b"),
    "a method of str": Case(w.UPPER, ("a",), "A"),
    "a class of one's own": Case(w.Point, (1,), Refused("."), Refused("it is the class Point")),
}
# What is given and what comes back of the user's own is another test's matter.
del CASES["an object of one's own"], CASES["a class of one's own"]


@pytest.fixture(scope="module")
def workers() -> Iterator[Callable[[int], Worker]]:
    running: dict[int, Worker] = {}
    with ExitStack() as stack:

        def worker(minor: int) -> Worker:
            if minor not in running:
                (found,) = [one for one in pythons.found() if one.minor == minor]
                running[minor] = stack.enter_context(Worker(found.path, (3, minor)))
                if this_minor(found.version):
                    running[minor].install(package("cloudpickle").body)
            return running[minor]

        yield worker


MINORS = [one.minor for one in pythons.found() if one.minor in VERSIONS]
WAYS: list[tuple[int, Any]] = [(minor, "source") for minor in MINORS]
WAYS += [(one.minor, "value") for one in pythons.found() if this_minor(one.version)]


@pytest.mark.parametrize(("minor", "kind"), WAYS)
@pytest.mark.parametrize("name", CASES)
def test_it_works_or_is_refused_before_it_runs(
    workers: Callable[[int], Worker], minor: int, kind: Any, name: str
) -> None:
    worker, case = workers(minor), CASES[name]
    expected = case.by_source((3, minor)) if kind == "source" else case.value

    def call() -> Any:
        made = program(case.fn, worker.peer, kind=kind)
        return worker.call(Sent(made, arguments(case.args, worker.peer, kind)))

    if isinstance(expected, Refused):
        with pytest.raises(ShippingError, match=expected.words) as caught:
            call()
        assert "contextlib.py" not in str(caught.value)
        assert "functools.py" not in str(caught.value)
    else:
        got = call()
        assert (got, type(got)) == (expected, type(expected))


def test_a_rewritten_assertion_says_what_was_compared(workers: Callable[[int], Worker]) -> None:
    """Though pytest has rewritten it here, and need not be there."""
    for minor, kind in WAYS:
        worker: Any = workers(minor)
        made: Any = program(compares, worker.peer, kind=kind)
        with pytest.raises(Raised) as caught:
            worker.call(Sent(made, arguments(([1, 2], 3), worker.peer, kind)))
        assert caught.value.type_name == "AssertionError"
        assert "_pytest" not in str(caught.value)
        if kind == "value":
            assert "assert 2 == 3" in caught.value.words
            assert "len([1, 2])" in caught.value.words


def compares(items: list[int], size: int) -> None:
    assert items
    assert len(items) == size


def test_what_is_looked_up_by_name_must_be_there(workers: Callable[[int], Worker]) -> None:
    """Whatever pickles by its name: even where it is a module of that name, it is another."""
    (ours,) = [minor for minor, kind in WAYS if kind == "value"]
    worker = workers(ours)
    for value in (SINGLE, [SINGLE], {"a": (SINGLE,)}):
        with pytest.raises(ShippingError, match=r"test_as_written\.SINGLE would be looked"):
            arguments((value,), worker.peer, "value")
        with pytest.raises(ShippingError, match="SINGLE"):
            program(lambda held=value: held, worker.peer, kind="value")


class ByName:
    def __reduce__(self) -> str:
        return "SINGLE"


SINGLE = ByName()
