"""Functions as people write them, and what must come of each: `test_as_written` has the table."""

from __future__ import annotations

import abc
import array
import collections
import contextlib
import dataclasses
import datetime
import decimal
import enum
import functools
import itertools
import json
import logging
import math
import operator
import os
import re
import string
import threading
import typing
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from collections.abc import AsyncIterator, Iterator
from datetime import timezone
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)
WORDS = re.compile(r"[a-z]+", re.IGNORECASE | re.MULTILINE)
FLAGS = re.IGNORECASE | re.MULTILINE
UTC = timezone.utc  # noqa: UP017
LIMITS = {"small": (1, 2), "large": (10, 20)}
ORDER = OrderedDict([("b", 1), ("a", 2)])
DEFAULTS = defaultdict(list, {"x": [1]})
WINDOW = deque([1, 2], maxlen=3)
NUMBERS = array.array("d", [1.0, 2.0])
LOCK = threading.Lock()
UPPER = str.upper
JOIN = ", ".join
NOW = datetime.datetime.now
HOME = Path.home
CONTEXT = decimal.Context(prec=5)
total = 0

UserId = typing.NewType("UserId", int)
P = typing.ParamSpec("P")
T = typing.TypeVar("T")
Pair = namedtuple("Pair", "left right")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0

    def moved(self, by: int) -> Point:
        return Point(self.x + by, self.y)


class Base(abc.ABC):
    @abc.abstractmethod
    def name(self) -> str: ...

    def greet(self) -> str:
        return f"I am {self.name()}"


class Child(Base):
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    def greet(self) -> str:
        return super().greet() + "!"

    @functools.cached_property
    def size(self) -> int:
        return len(self._name)

    @property
    def loud(self) -> str:
        return self._name.upper()

    @classmethod
    def make(cls) -> str:
        return cls("made").greet()

    @staticmethod
    def twice(x: int) -> int:
        return 2 * x

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None: ...


class Box(typing.Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item


def helper(x: int) -> int:
    return x + 1


def calls_helper(x: int) -> int:
    return helper(x) * 2


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


@functools.lru_cache(maxsize=None)  # noqa: UP033
def fib(n: int) -> int:
    return n if n < 2 else fib(n - 1) + fib(n - 2)


def uses_cached(n: int) -> int:
    return fib(n)


@contextlib.contextmanager
def opened(name: str) -> Iterator[str]:
    yield name + " is open"


def uses_manager(name: str) -> str:
    with opened(name) as text:
        return text


@functools.singledispatch
def show(value: object) -> str:
    return "something"


@show.register
def _(value: int) -> str:
    return f"int {value}"


def uses_dispatch(value: Any) -> str:
    return show(value)


def logged(fn: Any) -> Any:
    @functools.wraps(fn)
    def wrapper(*args: Any) -> Any:
        log.info("calling")
        return fn(*args)

    return wrapper


@logged
def decorated(x: int) -> int:
    return x + 10


def uses_decorated(x: int) -> Any:
    return decorated(x)


def uses_logger() -> str:
    log.debug("nothing")
    return log.name


def uses_pattern(text: str) -> Any:
    return WORDS.findall(text)


def uses_flags(text: str) -> Any:
    return re.findall("^a", text, FLAGS)


def uses_utc() -> str:
    return datetime.datetime(2020, 1, 1, tzinfo=UTC).isoformat()


def uses_containers() -> Any:
    return [list(ORDER), DEFAULTS["x"], list(WINDOW), list(NUMBERS), LIMITS["small"]]


def uses_methods_by_name(text: str) -> Any:
    return [UPPER(text), JOIN(["a", "b"]), NOW().year > 2000, len(str(HOME())) > 0]


def uses_context() -> Any:
    return CONTEXT.prec


def uses_lock() -> bool:
    with LOCK:
        return True


def uses_newtype(n: int) -> Any:
    return UserId(n)


def uses_paramspec() -> Any:
    return getattr(P, "__name__")  # noqa: B009


def uses_enum(name: str) -> Any:
    return Color[name].value


def uses_dataclass(x: int) -> Any:
    return Point(x).moved(2).x


def local_dataclass(x: int) -> Any:
    @dataclasses.dataclass
    class Local:
        x: int

    return Local(x).x


def uses_namedtuple() -> Any:
    return Pair(1, 2).right


def uses_abstract() -> str:
    return Child("Ann").greet()


def uses_cached_property() -> int:
    return Child("Ann").size


def uses_generic() -> Any:
    return Box[int](3).item


def uses_with() -> str:
    with Child("Bob") as child:
        return child.loud


def pickles_own() -> Any:
    import pickle

    return pickle.loads(pickle.dumps(Point(4))).x


def counts() -> int:
    global total
    total += 5
    return total


def globals_by_name() -> Any:
    return sorted(name for name in globals() if name in ("os", "LIMITS", "helper"))


def word_count(text: str) -> Any:
    return Counter(text.split()).most_common(1)


def groups(items: Any) -> Any:
    return {key: len([*group]) for key, group in itertools.groupby(sorted(items))}


def sums(items: Any) -> Any:
    return functools.reduce(operator.add, items, 0)


def json_round(data: Any) -> Any:
    return json.loads(json.dumps(data))


def templates(name: str) -> str:
    return string.Template("hi $name").substitute(name=name)


def closure_inside(by: int) -> Any:
    def times(x: int) -> int:
        return x * by

    return [times(x) for x in range(3)]


def recursion_inside(n: int) -> int:
    def down(k: int) -> int:
        return 0 if k == 0 else 1 + down(k - 1)

    return down(n)


def class_inside() -> Any:
    class Inner:
        kind = "inner"

        def __repr__(self) -> str:
            return f"<{self.kind}>"

    return repr(Inner())


def lazy_import() -> Any:
    from collections import ChainMap

    return dict(ChainMap({"a": 1}, {"b": 2}))


def tries() -> Any:
    try:
        return 1 // 0
    except ZeroDivisionError as exc:
        return type(exc).__name__
    finally:
        pass


def star_args(*args: int, sep: str = "-", **more: int) -> str:
    return sep.join(map(str, [*args, *more.values()]))


def takes_default(when: Any = None, items: Any = (1, 2)) -> Any:
    return [when, list(items)]


def yields(n: int) -> Iterator[int]:
    for number in range(n):
        received = yield number
        assert received is None


async def awaits(x: int) -> int:
    import asyncio

    await asyncio.sleep(0)
    return x * 2


async def yields_async(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


async def gathers(n: int) -> Any:
    import asyncio

    return list(await asyncio.gather(*[awaits(x) for x in range(n)]))


def walrus(text: str) -> Any:
    if (n := len(text)) > 2:
        return n
    return None


def positional_only(x: int, /, y: int) -> int:
    return x - y


def matches(value: Any) -> str:
    match value:
        case {"kind": kind}:
            return str(kind)
        case [_, *rest]:
            return str(len(rest))
    return "none"


def f_string(x: int) -> str:
    return f"{x=} {{x=}} {x:>4}"


def braces_only(x: int) -> str:
    return f"{{x=}} {x}"


def raises_own() -> None:
    raise ValueError("as it should")


def asserts(x: int) -> int:
    assert x > 0, "too small"
    return x


def takes_ordered(value: Any) -> Any:
    return [type(value).__name__, list(value)]


def reads_environment() -> bool:
    return "PATH" in os.environ and bool(os.path.sep)


def sqrt_of(x: float) -> float:
    return math.sqrt(x)


def chain(items: Any) -> Any:
    return list(collections.ChainMap(*items))


double = lambda x: x * 2  # noqa: E731
partly = functools.partial(star_args, 1, sep="+")
partly_inner = functools.partial(functools.partial(helper), 4)


def make_closure(by: int) -> Any:
    return lambda x: x * by


tripled = make_closure(3)
