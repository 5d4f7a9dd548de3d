"""Values of every type that travels, between every pair of Pythons: the same, or refused."""

from __future__ import annotations

import base64
import collections
import datetime
import decimal
import fractions
import pathlib
import random
import subprocess
import tracemalloc
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit import EnumMember, ExceptionRecord, ResultError, Struct
from remit._jobs.values import decode, encode
from testbed import pythons
from values.test_old_pythons import INTERPRETERS, sources
from values.values_table import alike

__all__ = ["sources"]  # a fixture

# What hypothesis makes of text may hold surrogates, and so do names.
text = st.text(st.characters(codec=None), max_size=8)
names = st.text("abc", min_size=1, max_size=3)
offsets = st.builds(
    datetime.timezone,
    st.timedeltas(datetime.timedelta(hours=-23), datetime.timedelta(hours=23)).map(
        lambda span: datetime.timedelta(minutes=span // datetime.timedelta(minutes=1))
    ),
)
named = st.builds(
    lambda zone, name: datetime.timezone(zone.utcoffset(None), name),
    offsets,
    st.sampled_from(["CET", "EST", "Europe/Berlin", "a name", "UTC"]),
)
zones: st.SearchStrategy[Any] = st.none() | offsets | named | st.just(datetime.UTC)
years = st.datetimes(datetime.datetime(2, 1, 1), datetime.datetime(9998, 12, 31), timezones=zones)
hashable = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | text
    | st.binary(max_size=8)
    | st.complex_numbers(allow_nan=False)
    | st.dates()
    | st.times(timezones=zones)
    | years
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | st.builds(pathlib.PurePosixPath, st.text("ab/.", max_size=6))
    | st.builds(pathlib.PureWindowsPath, st.text("ab\\:.", max_size=6))
    | st.builds(range, st.integers(), st.integers(), st.integers(1, 9))
    | st.builds(EnumMember, names, st.none() | names, st.integers())
)
keys = st.recursive(
    hashable,
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.frozensets(inner, max_size=3)
        | st.builds(Struct, names, st.dictionaries(names, inner, max_size=2))
    ),
    max_leaves=4,
)
leaves = (
    hashable
    | st.floats()
    | st.decimals()
    | st.binary(max_size=8).map(bytearray)
    | st.builds(slice, st.integers(), st.none(), text)
    | st.lists(st.integers(-(2**40), 2**40), min_size=16, max_size=20)
    | st.lists(text, min_size=16, max_size=20)
    | st.builds(ExceptionRecord, names, text, text, st.lists(text, max_size=2).map(tuple))
)


def _containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists, tables = st.lists(inner, max_size=3), st.dictionaries(keys, inner, max_size=3)
    return (
        lists
        | lists.map(tuple)
        | st.builds(collections.deque, lists, st.sampled_from([None, 5]))
        | tables
        | tables.map(collections.OrderedDict)
        | tables.map(lambda table: collections.defaultdict(list, table))
        | st.builds(collections.Counter, st.lists(keys, max_size=3))
        | st.sets(keys, max_size=3)
        | st.frozensets(keys, max_size=3)
        | st.builds(Struct, names, st.dictionaries(names, inner, max_size=3))
        | st.builds(lambda items: Struct("a.B", {"x": 1}, tuple(items)), lists)
        | st.builds(EnumMember, names, st.none(), inner)
    )


values = st.recursive(leaves, _containers, max_leaves=10)


class Runtime:
    """Another Python that reads each line and writes it again."""

    _CODE = (
        "import sys, base64; sys.path.insert(0, {path!r})\n"
        "from remit._values import codec\n"
        "for line in sys.stdin:\n"
        "    try: data = b''.join(codec.encode(codec.decode(base64.b64decode(line))))\n"
        "    except codec.ValueRefused as exc: print('!' + ascii(str(exc)))\n"
        "    else: print(base64.b64encode(data).decode())\n"
        "    sys.stdout.flush()\n"
    )

    def __init__(self, python: pythons.Interpreter, path: str) -> None:
        self.version = python.version
        self._process = subprocess.Popen(
            [str(python.path), "-IS", "-c", self._CODE.format(path=path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def again(self, data: bytes) -> bytes:
        """The encoding of what it reads from one. Raises ResultError where it refuses."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(base64.b64encode(data).decode() + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer or answer.startswith("!"):
            raise ResultError(f"{self.version}: {answer}")
        return base64.b64decode(answer)

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def peers(sources: dict[int, Any]) -> Iterator[list[Runtime]]:
    made = [Runtime(found, str(sources[found.minor])) for found in pythons.found()]
    yield made
    for peer in made:
        peer.close()


def sent(value: object) -> bytes:
    return b"".join(encode(value))


@pytest.mark.real
@settings(
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(value=values, data=st.data())
def test_any_value_comes_back_from_any_two_pythons(
    value: object, data: st.DataObject, peers: list[Runtime]
) -> None:
    encoded = sent(value)
    assert alike(decode(encoded), value)
    first, second = (data.draw(st.sampled_from(peers)) for _ in range(2))
    there = first.again(encoded)
    assert alike(decode(there), value), first.version
    assert alike(decode(second.again(there)), value), (first.version, second.version)


def test_the_interpreters_are_all_tried() -> None:
    assert len(INTERPRETERS) == len(pythons.found())


SEEDS: list[object] = [
    {"a": [1, 2.5, None, True, b"x", "text"], (1, frozenset({2})): {3, 4}},
    [decimal.Decimal("1.5"), fractions.Fraction(1, 3), uuid.UUID(int=7), 10**40, 1 + 2j],
    [pathlib.PurePosixPath("/a/b"), range(9), slice(1, None), collections.deque([1], 4)],
    [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.timedelta(1, 2)],
    [Struct("a.B", {"x": 1}, (1, 2)), EnumMember("a.C", "RED", 1), ExceptionRecord("E", "m")],
    [np.arange(6).reshape(2, 3).T, np.float32(1.5), np.zeros(2, "i4,f8")],
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": pd.Categorical(["p", "q"])}),
    pd.DataFrame(
        {
            "a": pd.period_range("2024", periods=2, freq="M"),
            "b": pd.IntervalIndex.from_breaks([0, 1, 2]),
            "c": pd.to_datetime(["2024-01-01T00:00+01:00", None]),
            "d": pd.Series([pd.Timestamp("2024", tz="UTC"), pd.NaT], dtype=object),
        }
    ),
    pd.Series([1, None], index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)]), dtype="Int8"),
    pa.table({"a": [1, None], "b": [["x"], []], "c": pa.array(["p", "q"]).dictionary_encode()}),
]
# Of memory that is Python's, for what is at most some thousands of bytes.
MOST = 32 << 20


@pytest.mark.parametrize("seed", range(len(SEEDS)))
def test_changed_messages_are_values_or_refused_in_bounded_memory(seed: int) -> None:
    dice = random.Random(seed)
    message = sent(SEEDS[seed])
    tracemalloc.start()
    try:
        for _ in range(2000):
            changed = bytearray(message)
            for _ in range(dice.randint(1, 4)):
                place = dice.randrange(len(changed))
                if dice.random() < 0.7:
                    changed[place] = dice.choice((dice.randrange(256), 0, 0x7F, 0xFF))
                else:
                    changed[place : place + dice.randint(0, 4)] = dice.randbytes(dice.randint(0, 4))
            with suppress(ResultError):
                value = decode(bytes(changed))
                # What was read can be sent again and is the same, or is refused.
                again = decode(sent(value))
                assert type(again) is type(value)
        assert tracemalloc.get_traced_memory()[1] < MOST
    finally:
        tracemalloc.stop()
