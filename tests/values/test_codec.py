"""Values as data: what comes back as what, what is refused where."""

from __future__ import annotations

import array
import collections
import copy
import dataclasses
import datetime
import decimal
import enum
import fractions
import itertools
import operator
import os
import pathlib
import pickle
import platform
import re
import shutil
import subprocess
import sys
import threading
import time
import traceback
import types
import urllib.parse
import zoneinfo
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import attrs
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import remit
from remit import Limits, ResultError, Struct
from remit._jobs.values import decode, encode
from remit._values import codec
from remit._values.limits import ValueRefused
from values.values_table import EXPECTED, alike, make

HERE = __name__


def sent(value: object) -> bytes:
    return b"".join(encode(value))


def back(value: object) -> Any:
    return decode(sent(value))


@pytest.mark.parametrize("text", EXPECTED)
def test_a_value_comes_back_as_the_table_says(text: str) -> None:
    value = make(text, "values.values_table")
    expected = make(EXPECTED[text], "values.values_table")
    assert alike(back(value), expected)
    assert alike(decode(bytearray(sent([value])))[0], expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        ([1], (1,)),
        ([1], [1.0]),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1}, {True}),
        ({1}, frozenset({1})),
        ({1: [1]}, {1: (1,)}),
        (collections.deque([1]), collections.deque([1], 5)),
        (collections.defaultdict(list), collections.defaultdict(dict)),
        (decimal.Decimal("1.0"), decimal.Decimal("1.00")),
        (array.array("b", [1]), array.array("h", [1])),
    ],
)
def test_the_table_tells_apart_what_differs(one: object, other: object) -> None:
    assert not alike(one, other)
    assert not alike(back(one), other)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | st.text(st.characters())
    | st.binary()
    | st.dates()
    | st.datetimes(timezones=st.none() | st.timezones() | st.just(datetime.UTC))
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=True)
    | st.fractions()
    | st.uuids()
)
keys = st.none() | st.integers() | st.text() | st.binary() | st.fractions() | st.dates()
hashables = st.recursive(
    keys, lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner), max_leaves=10
)
nested = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(hashables, inner)
        | st.dictionaries(hashables, inner).map(collections.OrderedDict)
        | st.sets(hashables)
        | st.frozensets(hashables)
        | st.lists(st.integers() | st.floats() | st.text(), max_size=2).map(lambda few: few * 16)
        | st.builds(Struct, st.text(), st.dictionaries(st.text(), inner))
        | st.builds(remit.EnumMember, st.text(), st.none() | st.text(), inner)
    ),
    max_leaves=15,
)


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(nested)
def test_nested_values_come_back(value: object) -> None:
    assert alike(back(value), value)


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=15) | st.dictionaries(st.text(), inner),
)


@given(plain)
def test_plain_values_are_plain_messagepack(value: object) -> None:
    assert msgspec.msgpack.decode(sent(value)) == value
    assert decode(msgspec.msgpack.encode(value)) == value


# Moments and zones.


@pytest.mark.parametrize("fold", [0, 1])
def test_a_moment_in_a_zone_by_name_keeps_zone_and_fold(fold: int) -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    moment = datetime.datetime(2024, 10, 27, 2, 30, tzinfo=berlin, fold=fold)
    got = back(moment)
    assert got.tzinfo is berlin
    assert (got.fold, got.timestamp()) == (fold, moment.timestamp())
    assert back(datetime.time(1, tzinfo=berlin)).tzinfo is berlin


def test_a_reader_without_the_zone_has_the_same_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    moment = datetime.datetime(2024, 7, 1, 12, tzinfo=berlin)
    data, of_day = sent(moment), sent(datetime.time(12, tzinfo=berlin))
    monkeypatch.setattr("remit._values.times.zone_of", lambda key: None)
    got = decode(data)
    assert got == moment
    assert got.utcoffset() == datetime.timedelta(hours=2)
    assert got.tzname() == "Europe/Berlin"
    with pytest.raises(ResultError, match="'Europe/Berlin' is not known here"):
        decode(of_day)


def test_a_reader_with_other_rules_for_the_zone_has_the_same_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    moment = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    data = sent(moment)
    other = zoneinfo.ZoneInfo("Asia/Tokyo")
    monkeypatch.setattr("remit._values.times.zone_of", lambda key: other)
    assert decode(data) == moment


class Odd(datetime.tzinfo):
    offset: datetime.timedelta | None = datetime.timedelta(hours=3)

    def utcoffset(self, when: datetime.datetime | None) -> datetime.timedelta | None:
        return self.offset

    def tzname(self, when: datetime.datetime | None) -> str | None:
        return "ODD"

    def dst(self, when: datetime.datetime | None) -> None:
        return None


def test_any_other_zone_comes_back_as_its_offset() -> None:
    moment = datetime.datetime(2024, 7, 1, 12, tzinfo=Odd())
    got = back(moment)
    assert got == moment
    assert got.tzinfo == datetime.timezone(datetime.timedelta(hours=3))
    assert got.tzname() == "ODD"
    silent = Odd()
    silent.offset = None
    with pytest.raises(ResultError, match="tells no offset"):
        encode(moment.replace(tzinfo=silent))


# Records.


@dataclasses.dataclass
class Shape:
    name: str
    size: tuple[int, int] = (1, 2)
    kind: dataclasses.InitVar[int] = 0


@dataclasses.dataclass(frozen=True)
class Slotted:
    __slots__ = ("x",)
    x: int


@attrs.frozen
class Box:
    content: object
    _secret: int = 1


class Pair(NamedTuple):
    first: object
    second: object


class Level(enum.Enum):
    LOW = (1, "low")


class Bits(enum.Flag):
    A = 1
    B = 2


def test_instances_come_back_as_structs() -> None:
    assert back(Shape("a")) == Struct(f"{HERE}.Shape", {"name": "a", "size": (1, 2)})
    assert back(Slotted(3)) == Struct(f"{HERE}.Slotted", {"x": 3})
    box = back(Box(Pair(1, {Slotted(2): Level.LOW})))
    pair = Struct(
        f"{HERE}.Pair",
        {
            "first": 1,
            "second": {
                Struct(f"{HERE}.Slotted", {"x": 2}): remit.EnumMember(
                    f"{HERE}.Level", "LOW", (1, "low")
                )
            },
        },
    )
    assert box == Struct(f"{HERE}.Box", {"content": pair, "_secret": 1})
    assert box._secret == 1
    assert list(box.fields) == ["content", "_secret"]
    assert back(box) == box
    both = back(Bits.A | Bits.B)
    assert (both.type_name, both.value) == (f"{HERE}.Bits", 3)


def test_a_struct_gives_its_fields_and_shadows_nothing() -> None:
    fields = {"x": 1, "fields": 2, "type_name": 3, "__class__": 4, "__len__": 5, "_repr_html_": 6}
    struct = Struct("a.B", fields)
    assert struct.x == struct["x"] == 1
    assert dict(struct.fields) == fields
    assert struct.type_name == "a.B"
    assert struct.__class__ is Struct
    assert struct["__class__"] == 4
    for name in ("__len__", "_repr_html_", "y"):
        with pytest.raises(AttributeError):
            getattr(struct, name)
    with pytest.raises(AttributeError):
        struct.x = 2
    with pytest.raises(TypeError):
        struct.fields["x"] = 2  # type: ignore[index]
    with pytest.raises(TypeError):
        iter(cast("Any", struct))
    assert "x" in dir(struct)


def test_a_struct_is_a_value_like_any_other() -> None:
    struct = Struct("a.B", {"x": 1, "no name": "\x1b"})
    assert repr(struct) == "Struct('a.B', x=1, **{'no name': '\\x1b'})"
    assert struct == Struct("a.B", {"no name": "\x1b", "x": 1})
    assert hash(struct) == hash(Struct("a.B", {"no name": "\x1b", "x": 1}))
    assert struct != Struct("a.C", dict(struct.fields))
    assert struct != ("a.B", dict(struct.fields))
    with pytest.raises(TypeError, match="stands for no tuple"):
        struct[0]
    assert copy.copy(struct) == copy.deepcopy(struct) == struct
    assert pickle.loads(pickle.dumps(struct)) == struct
    with pytest.raises(TypeError):
        hash(Struct("a.B", {"x": []}))


def test_an_exception_comes_back_as_a_record() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as exc:
            error = ValueError("outer \ud800")
            error.add_note("a note")
            raise error from exc
    except ValueError as exc:
        record = back(exc)
        whole = "".join(traceback.format_exception(exc))
    assert type(record) is remit.ExceptionRecord
    assert (record.type, record.message, record.notes) == (
        "ValueError",
        "outer \ud800",
        ("a note",),
    )
    assert record.cause is not None
    assert record.cause.type == "KeyError"
    assert record.context is None
    assert 'error = ValueError("outer' not in record.traceback
    assert "raise error from exc" in record.traceback
    assert str(record) == whole
    assert back(record) == record
    assert repr(record) == "ExceptionRecord('ValueError', 'outer \\ud800')"


def test_what_was_being_handled_comes_along_and_members_of_a_group() -> None:
    try:
        try:
            raise OSError("first")
        except OSError:
            raise ExceptionGroup("several", [TypeError("a"), Unreadable()])  # noqa: B904
    except ExceptionGroup as exc:
        record = back(exc)
        whole = "".join(traceback.format_exception(exc))
    assert record.context.type == "OSError"
    assert [member.type for member in record.exceptions] == ["TypeError", f"{HERE}.Unreadable"]
    assert record.exceptions[1].message == "<its message cannot be read>"
    assert str(record) == whole


class Unreadable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


def test_a_circle_or_a_long_chain_of_exceptions_ends() -> None:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    assert back(one).cause.cause is None
    links: list[BaseException] = [ValueError(str(number)) for number in range(1000)]
    for exc, cause in itertools.pairwise(links):
        exc.__cause__ = cause
    count = 0
    record: Any = back(links[0])
    while record is not None:
        record, count = record.cause, count + 1
    assert count == 16


# What is refused, and where it is.


def circle() -> list[Any]:
    items: list[Any] = [1]
    items.append({"a": (items,)})
    return items


class Text(str):
    pass


class Table(dict[str, int]):
    pass


class Unset:
    __attrs_attrs__ = Box.__attrs_attrs__


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (object(), "result: an object of type object cannot"),
        ({"a": [1, 2, 3, object()]}, r'result["a"][3]: an object of type object'),
        ({"a": {5: {b"k": {None: print}}}}, "result[\"a\"][5][b'k'][None]: an object of type"),
        ([1, (2, {3, len})], "result[1][1]{...}: an object of type builtin_function_or_method"),
        ({(1, 2): print}, "result[<tuple>]:"),
        ({10**5000: print}, "result[…]:"),
        ({'say "hi"\n': print}, r'result["say \"hi\"\n"]:'),
        ({print: 1}, "result{key}:"),
        (Box(Pair(1, print)), "result.content.second:"),
        (slice(1, print), "result.stop:"),
        (collections.deque([0, print]), "result[1]:"),
        (collections.OrderedDict(a=print), 'result["a"]:'),
        (int, "an object of type type"),
        (Text("a"), f"an object of type {HERE}.Text"),
        ([Table()], f"result[0]: an object of type {HERE}.Table"),
        (collections.defaultdict(lambda: 1), "whose default is code"),
        (circle(), 'result[1]["a"][0]: it contains itself'),
        (Unset(), "result.content: it has no value there (AttributeError)"),
        (iter(()), "an object of type tuple_iterator"),
        (threading.Lock(), "an object of type _thread.lock"),
        (array.array("u", "ab") if sys.version_info < (3, 13) else array.array("w", "ab"), "text"),
        (fractions.Fraction(1, 2**200_000), "a fraction of more than"),
    ],
)
def test_what_cannot_travel_is_refused_with_its_path(value: object, words: str) -> None:
    with pytest.raises(ResultError, match=re.escape(words)) as raised:
        encode(value)
    assert isinstance(raised.value.__cause__, ValueRefused)


def test_the_path_of_a_long_key_is_short() -> None:
    with pytest.raises(ResultError) as raised:
        encode({"k" * 10**6: print})
    assert len(raised.value.message) < 200


def deep(levels: int, wrap: Callable[[Any], Any]) -> Any:
    value: Any = None
    for _ in range(levels):
        value = wrap(value)
    return value


WRAPS: list[Callable[[Any], Any]] = [
    lambda inner: [inner],
    lambda inner: (inner,),
    lambda inner: {"a": inner},
    lambda inner: frozenset({inner}),
    lambda inner: Struct("a.B", {"x": inner}),
    lambda inner: remit.EnumMember("a.B", "x", inner),
    lambda inner: slice(inner),
    lambda inner: collections.deque([inner]),
]


@pytest.mark.parametrize("wrap", WRAPS)
def test_the_same_depth_is_refused_on_both_sides(wrap: Callable[[Any], Any]) -> None:
    limits = Limits(depth=20)
    assert decode(b"".join(encode(deep(20, wrap), limits)), limits) == deep(20, wrap)
    with pytest.raises(ResultError, match="nested deeper than 20"):
        encode(deep(21, wrap), limits)
    with pytest.raises(ResultError, match="nested deeper than 20"):
        decode(sent(deep(21, wrap)), limits)
    assert back(deep(100, wrap)) == deep(100, wrap)


@pytest.mark.parametrize(
    ("value", "count"),
    [
        ([[], [], [[]]], 4),
        (list(range(1000)), 1000),
        (["a"] * 1000, 1000),
        ({1: 2, 3: [4]}, 5),
        ((1, {2, 3}, frozenset({4})), 6),
        (Struct("a.B", {"x": [1]}), 3),
        (remit.EnumMember("a.B", "x", [1]), 4),
        (collections.Counter("ab"), 4),
        (collections.deque([1], 4), 1),
        (range(5), 3),
        (ValueError("a"), 7),
    ],
)
def test_the_same_count_is_refused_on_both_sides(value: object, count: int) -> None:
    data = sent(value)
    decode(b"".join(encode(value, Limits(count=count))), Limits(count=count))
    with pytest.raises(ResultError, match=f"more than {count - 1} items"):
        encode(value, Limits(count=count - 1))
    with pytest.raises(ResultError, match=f"more than {count - 1} items"):
        decode(data, Limits(count=count - 1))


@pytest.mark.parametrize("value", ["a" * 50, b"a" * 50, [1] * 50, 10**120, decimal.Decimal(10**50)])
def test_the_same_size_is_refused_on_both_sides(value: object) -> None:
    data = sent(value)
    assert b"".join(encode(value, Limits(size=len(data)))) == data
    assert decode(data, Limits(size=len(data))) == value
    with pytest.raises(ResultError, match=f"more than {len(data) - 1} bytes"):
        encode(value, Limits(size=len(data) - 1))
    with pytest.raises(ResultError, match=f"{len(data)} bytes, of {len(data) - 1}"):
        decode(data, Limits(size=len(data) - 1))


@pytest.mark.parametrize(
    "item",
    ["a" * 10**6, b"a" * 10**6, bytearray(10**6), ["a" * 10**6] * 20],
)
def test_a_large_value_that_stands_in_a_list_many_times_is_refused_early(item: object) -> None:
    # A copy of each would be 400 GB and more.
    with pytest.raises(ResultError, match="more than 100000000 bytes"):
        encode([item] * 400_000, Limits(size=10**8))


def test_limits_are_frozen_values() -> None:
    assert Limits() == Limits(depth=100, count=10_000_000, size=1 << 32)
    assert Limits(depth=5) != Limits()
    assert repr(Limits(1, 2, 3)) == "Limits(depth=1, count=2, size=3)"
    assert pickle.loads(pickle.dumps(Limits(1, 2, 3))) == Limits(1, 2, 3)
    assert len({Limits(), Limits()}) == 1
    with pytest.raises(AttributeError):
        Limits().depth = 5
    for wrong in ({"depth": 0}, {"count": -1}, {"size": 0}, {"count": 1 << 32}):
        with pytest.raises(ValueError, match="no limits"):
            Limits(**wrong)


@pytest.mark.parametrize(
    "value",
    [
        b"a" * 10**6,
        bytearray(10**6),
        memoryview(bytearray(10**6)),
        array.array("d", range(10**5)),
    ],
)
def test_the_contents_of_a_large_buffer_are_not_copied(value: Any) -> None:
    pieces = encode({"a": [value]})
    large = [piece for piece in pieces if len(piece) > 1000]
    assert [memoryview(piece).obj for piece in large] == [
        value.obj if isinstance(value, memoryview) else value
    ]
    got = decode(b"".join(pieces))["a"][0]
    assert got == value


def test_a_path_of_this_system_comes_back_without_its_hands() -> None:
    assert type(back(pathlib.Path("/etc"))) is pathlib.PurePosixPath


@dataclasses.dataclass(eq=False)
class Apart:
    """Instances are different, what is sent of them may be equal."""

    x: object


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({Apart(1): 1, Apart(1): 2}, "result{key}: two keys that are equal as data"),
        ([{Apart(1), Apart(1.0)}], "result[0]{...}: two members that are equal as data"),
        (frozenset({Apart([])}), "result{...}: it can be no key where it is read"),
        ({(1, Apart({})): 1}, "result{key}: it can be no key where it is read"),
        ({memoryview(b"a"), Apart(1)}, None),
        ({pathlib.PosixPath("a"): 1, pathlib.PurePosixPath("b"): 2}, None),
        ({Apart(1): 1, Apart(2): 2}, None),
        ({n * (2**61 - 1) for n in range(100)}, "result{...}: 100 keys with the same hash"),
        (set(range(2**70, 2**70 + 100)), None),
        ({frozenset({frozenset({(n, Apart(0))})}) for n in range(3)}, None),
    ],
)
def test_keys_that_could_not_be_keys_when_they_are_read_are_not_sent(
    table: Any, words: str | None
) -> None:
    if words is None:
        assert len(back(table)) == len(table)
        return
    with pytest.raises(ResultError) as raised:
        encode(table)
    assert words.replace("keys that are equal", "members that are equal") in str(
        raised.value
    ).replace("keys that are equal", "members that are equal")


def test_keys_deep_in_keys_are_read_back_once() -> None:
    key: object = Apart(0)
    for _ in range(90):
        key = frozenset({key})
    assert len(back({key: 1})) == 1  # not 2^90 times


class Couple(NamedTuple):
    x: object
    y: object


@pytest.mark.parametrize(
    "value",
    [
        Couple(1, [2]),
        os.stat("/"),
        os.uname(),
        time.localtime(),
        sys.version_info,
        shutil.disk_usage("/"),
        urllib.parse.urlsplit("http://a/b"),
        platform.uname(),
    ],
    ids=lambda value: type(value).__qualname__,
)
def test_what_is_like_a_named_tuple_gives_its_names_and_its_items(value: Any) -> None:
    struct = back([value])[0]
    assert isinstance(struct, Struct)
    assert list(struct) == list(value)
    first, *rest = struct
    assert (first, *rest) == tuple(value)
    assert struct[0] == value[0]
    assert struct[-1] == value[-1]
    assert list(struct[:2]) == list(value[:2])
    for name, item in struct.fields.items():
        assert getattr(value, name) == item
    again = back(copy.deepcopy(pickle.loads(pickle.dumps(struct))))
    assert again == struct
    assert list(again) == list(value)


def test_a_finished_process_and_what_is_gone_through_once_are_data() -> None:
    done = back(subprocess.run(["echo", "a"], capture_output=True, check=True))
    assert (done.args, done.returncode, done.stdout, done.stderr) == (["echo", "a"], 0, b"a\n", b"")
    assert back(types.SimpleNamespace(a=1)) == Struct("types.SimpleNamespace", {"a": 1})
    table = {"a": 1, "b": 2}
    assert back(table.keys()) == ["a", "b"]
    assert back([table.values(), table.items()]) == [[1, 2], [("a", 1), ("b", 2)]]
    assert back(map(str, [1, 2])) == ["1", "2"]
    assert back(zip("ab", [1, 2], strict=True)) == [("a", 1), ("b", 2)]
    assert back((enumerate("a"), filter(None, [0, 1]), reversed([1, 2]))) == (
        [(0, "a")],
        [1],
        [2, 1],
    )
    with pytest.raises(ResultError, match="going through it raised ZeroDivisionError: integer"):
        encode(map(operator.floordiv, [1], [0]))
    with pytest.raises(ResultError, match="more than 100 items"):
        encode(enumerate(itertools.count()), Limits(count=100))


def test_a_group_keeps_members_that_stand_elsewhere_too() -> None:
    shared = ValueError("shared")
    other = KeyError("other")
    other.__context__ = shared
    group = ExceptionGroup("all", [other, shared, shared])
    record = back(group)
    assert [member.type for member in record.exceptions] == ["KeyError", "ValueError", "ValueError"]
    assert record.exceptions[0].context == record.exceptions[1] == record.exceptions[2]
    assert record.notes == ()


def test_groups_within_groups_end_and_say_what_was_left_out() -> None:
    group: Exception = ValueError("a")
    for _ in range(3):
        group = ExceptionGroup("all", [group] * 20)
    record = back(group)
    count, found = 0, [record]
    while found:
        one = found.pop()
        count += 1
        found += one.exceptions
        if len(one.exceptions) < 20 and one.type == "ExceptionGroup":
            assert one.notes == (f"{20 - len(one.exceptions)} of 20 members left out",)
    assert 2000 <= count <= 2016


def test_an_argument_is_what_it_was_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime.datetime(2024, 7, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    data = sent([moment])
    assert codec.decode(data, exact=True) == [moment]
    monkeypatch.setattr("remit._values.times.zone_of", lambda key: None)
    assert codec.decode(data) == [moment]
    with pytest.raises(ValueRefused, match="Europe/Berlin is not known here"):
        codec.decode(data, exact=True)
