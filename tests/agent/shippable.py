"""Functions that go by source to any Python from 3.6 on. Annotations here are evaluated."""

import asyncio
import concurrent
import concurrent.futures
import functools
import logging
import os.path as paths
import re
from collections import Counter
from math import sqrt
from signal import SIGTERM
from typing import Any

from agent import shippable_too

SCALE = 3
TABLE = {"a": (1, 2), "b": frozenset({3})}


WORD = re.compile("A.", re.IGNORECASE)
LOGGERS = logging.getLogger("some.name")
ROOT = logging.getLogger()


class NotThere:
    """What stands only in annotations need not be there."""


def add(left: int, right: int = 2, *rest: int, scale: int = SCALE, **more: int) -> NotThere:
    return (left + right + sum(rest)) * scale + len(more)  # type: ignore[return-value]


def uses_modules(path: str) -> "list[Any]":
    done = concurrent.futures.Future()  # type: ignore[var-annotated]
    done.set_result(paths.basename(path))
    return [done.result(), sqrt(16), dict(Counter(path)) == {"/": 1, "x": 1}]


def uses_constants(key: str) -> Any:
    return TABLE[key]


def uses_what_modules_keep(text: str) -> "list[Any]":
    return [WORD.findall(text), LOGGERS.name, ROOT.name, SIGTERM.name]


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


def is_even(n: int) -> bool:
    return True if n == 0 else is_odd(n - 1)


def is_odd(n: int) -> bool:
    return False if n == 0 else is_even(n - 1)


def in_two_modules(n: int) -> "list[int]":
    return [n * SCALE, shippable_twice(n)]


shippable_twice = shippable_too.scaled


def only_annotated(n: int) -> int:
    def inner(value: NotThere) -> NotThere:
        return value

    return inner(n)  # type: ignore


class Holder:
    def with_text(self: int) -> str:  # type: ignore[misc]
        text = """first
  second
"""
        return text * self

    def private(self: Any) -> Any:
        return self.__hidden


async def sleeps(value: int) -> int:
    await asyncio.sleep(0)
    return value + 1


def counts(most: int):  # type: ignore[no-untyped-def]
    yield from range(most)


async def counts_slowly(most: int):  # type: ignore[no-untyped-def]
    for number in range(most):
        await asyncio.sleep(0)
        yield number


def has_state() -> int:
    global SCALE
    SCALE += 1
    return SCALE


def has_class() -> "list[int]":
    class Point:
        x = 1
        y = x + 1

    return [Point.x, Point.y]


def raises(value: int) -> float:
    detail = {"value": value}
    return detail["value"] / 0


def imports_what_is_missing() -> None:
    import no_such_module_anywhere.part  # type: ignore[import-not-found]

    no_such_module_anywhere.part.go()


double = lambda x, by=2: x * by  # noqa: E731
pair = (lambda x: x + 1), (lambda x: x + 2)
over_lines = [
    lambda x: (
        x
        + 10
    ),
]  # fmt: skip
partly = functools.partial(add, 1, scale=10)
