"""Bytes from a target that means harm: a ResultError each time, in bounded memory and time."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import time
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from remit import Limits, ResultError
from remit._jobs.values import decode, encode
from remit._values import codes
from values.values_table import EXPECTED, make


def ext(code: int, body: bytes) -> bytes:
    return struct.pack(">BIB", 0xC9, len(body), code) + body


def sent(value: object) -> bytes:
    return b"".join(encode(value))


def items(*encoded: bytes) -> bytes:
    return struct.pack(">BI", 0xDD, len(encoded)) + b"".join(encoded)


def array(described: object, order: object, shape: object, contents: bytes = b"") -> bytes:
    return ext(codes.NUMPY_ARRAY, sent(described) + sent(order) + sent(shape) + b"\0" + contents)


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Python's memory rises by no more than ``size`` meanwhile."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] <= size
    finally:
        tracemalloc.stop()


HUGE = b"\xff\xff\xff\xff"
DAY = codes.DATE_FORM.pack(2024, 1, 1)
TIME = codes.TIME_FORM.pack(0, 0, 0, 0, 0)
ONES = (b"\0\0\0\x01", b"\x01")

HOSTILE = {
    "nothing": b"",
    "a list of 2^32 items": b"\xdd" + HUGE,
    "a list of 2^31 items in a list": b"\x91\xdd\x80\0\0\0",
    "a map of 2^32 items": b"\xdf" + HUGE,
    "a str of 4 GiB": b"\xdb" + HUGE + b"abc",
    "bytes of 4 GiB": b"\xc6" + HUGE + b"abc",
    "an extension type of 4 GiB": b"\xc9" + HUGE + b"\x01abc",
    "a length cut short": b"\xdd\xff",
    "a number cut short": b"\xcb\0\0",
    "an extension type cut short": b"\xc7",
    "trailing bytes": b"\xc0\xc0",
    "the byte that is never used": b"\xc1",
    "bad UTF-8": b"\xa2\xff\xff",
    "an encoded surrogate": b"\xa3\xed\xa0\x80",
    "a million nested lists": b"\x91" * 10**6,
    "a million nested maps": b"\x81\xa1a" * 10**6,
    "a million nested tuples": b"\xd4\x01" * 10**6,
    "nested extension types of ever more": b"\xc9" + HUGE + b"\x01" + b"\x91" * 1000,
    "an unhashable key": b"\x81\x90\xc0",
    "an unhashable member": ext(codes.SET, b"\x91\x80"),
    "an unhashable struct as a key": b"\x81" + ext(codes.STRUCT, b"\xa0\x81\xa1a\x90") + b"\xc0",
    "a signalling NaN as a key": b"\x81" + ext(codes.DECIMAL, b"sNaN") + b"\xc0",
    "a key twice": b"\x82\x01\xc0\x01\xc0",
    "equal keys of two types": b"\x82\x01\xc0\xc3\xc0",
    "a member twice": ext(codes.SET, b"\x92\x01\x01"),
    "a field twice": ext(codes.STRUCT, b"\xa0\x82\xa1a\xc0\xa1a\xc0"),
    "a field with no name": ext(codes.STRUCT, b"\xa0\x81\x01\xc0"),
    "a struct of no type": ext(codes.STRUCT, b"\xc0\x80"),
    "a struct that is too long": ext(codes.STRUCT, b"\xa0\x80\xc0"),
    "a tuple of no list": ext(codes.TUPLE, b"\xc0"),
    "a tuple of nothing": ext(codes.TUPLE, b""),
    "a tuple that ends too late": b"\xd4\x01\x92\x01\x02",
    "an unknown extension type": ext(126, b""),
    "MessagePack's own timestamp": b"\xd6\xff\0\0\0\0",
    "a complex of another size": ext(codes.COMPLEX, bytes(15)),
    "a UUID of another size": ext(codes.UUID, bytes(15)),
    "a date of another size": ext(codes.DATE, bytes(5)),
    "the year 0": ext(codes.DATE, bytes(4)),
    "month 13": ext(codes.DATE, codes.DATE_FORM.pack(2024, 13, 1)),
    "hour 24": ext(codes.TIME, codes.TIME_FORM.pack(24, 0, 0, 0, 0)),
    "fold 2": ext(codes.TIME, codes.TIME_FORM.pack(0, 0, 0, 0, 2)),
    "an offset of a day": ext(codes.DATETIME, DAY + TIME + struct.pack(">Bq", 0, 86_400_000_000)),
    "an offset for ever": ext(codes.DATETIME, DAY + TIME + struct.pack(">Bq", 0, 2**62)),
    "a zone outside": ext(codes.TIME, TIME + struct.pack(">Bq", 3, 0) + b"../../etc/passwd"),
    "a zone from the root": ext(codes.TIME, TIME + struct.pack(">Bq", 3, 0) + b"/etc/localtime"),
    "a zone that is a package": ext(codes.TIME, TIME + struct.pack(">Bq", 3, 0) + b"a.b/c"),
    "a zone of an unknown kind": ext(codes.TIME, TIME + struct.pack(">Bq", 4, 0)),
    "too many days": ext(codes.TIMEDELTA, codes.TIMEDELTA_FORM.pack(10**9, 0, 0)),
    "a decimal that is a call": ext(codes.DECIMAL, b"__import__('os')"),
    "a decimal with blanks": ext(codes.DECIMAL, b" 1_0 "),
    "a decimal in other digits": ext(codes.DECIMAL, "٣".encode()),
    "an exponent too large": ext(codes.DECIMAL, b"1E+999999999999999999999"),
    "a fraction over 0": ext(codes.FRACTION, ONES[0] + ONES[1] + b"\0"),
    "a fraction of nothing": ext(codes.FRACTION, b"\0\0\0\0"),
    "a fraction not in lowest terms": ext(codes.FRACTION, ONES[0] + b"\x02\x04"),
    "a fraction of 2 MB": ext(codes.FRACTION, struct.pack(">I", 10**6) + b"\x01" * (2 * 10**6)),
    "a large number as a key": b"\x81" + ext(codes.BIG_INT, b"\x01" * 2000) + b"\xc0",
    "a long decimal as a member": ext(codes.SET, b"\x91" + ext(codes.DECIMAL, b"1" * 2000)),
    "a range by 0": ext(codes.RANGE, b"\x01\x02\0"),
    "a range of text": ext(codes.RANGE, b"\xa1a\xa1b\x01"),
    "a default that is no factory": ext(codes.DEFAULT_DICT, sent("eval") + b"\x80"),
    "a deque longer than it may be": ext(codes.DEQUE, b"\x01\x92\x01\x02"),
    "a deque of a negative length": ext(codes.DEQUE, b"\xff\x90"),
    "a cause that is no exception": ext(codes.EXCEPTION, b"\xa1a\xa1b\xa1c\x90\x01\xc0\x90"),
    "a note that is no text": ext(codes.EXCEPTION, b"\xa1a\xa1b\xa1c\x91\x01\xc0\xc0\x90"),
    "numbers of an unknown type": ext(codes.NUMBERS, b"u" + bytes(8)),
    "half a number": ext(codes.NUMBERS, b"q" + bytes(7)),
    "texts longer than there is": ext(codes.STRINGS, b"B\0\0\0\x02\x01\x02ab"),
    "texts shorter than there is": ext(codes.STRINGS, b"B\0\0\0\x01\x01ab"),
    "texts without end": ext(codes.STRINGS, b"I" + HUGE + b"ab"),
    "an array of an unknown type": ext(codes.ARRAY, b"u\x04\0"),
    "an array of an unknown size": ext(codes.ARRAY, b"b\x03\0abc"),
    "an array with a gap beyond its end": ext(codes.ARRAY, b"b\x01\xffabc"),
    "objects": array("|O", "C", [1], bytes(8)),
    "a type that is code": array("__import__('os').system('true')", "C", [1], bytes(8)),
    "a type by its Python name": array("object", "C", [1], bytes(8)),
    "several types in one": array("i4,O", "C", [1], bytes(12)),
    "a type with a shape": array("(2,)<i4", "C", [1], bytes(8)),
    "a type after a line": array("<i4\n", "C", [1], bytes(4)),
    "objects in a field": array([["a"], ["|O"], [0], 8], "C", [1], bytes(8)),
    "a field outside": array([["a"], ["<i4"], [8], 4], "C", [1], bytes(4)),
    "a field before": array([["a"], ["<i4"], [-4], 4], "C", [1], bytes(4)),
    "a field twice in a type": array([["a", "a"], ["|i1", "|i1"], [0, 1], 2], "C", [1], bytes(2)),
    "a type of 2^60 bytes": array(["<i8", [2**57]], "C", [1], bytes(8)),
    "a type within types": array(["<i8", [1]], "C", [1], bytes(8)),
    "a type of nothing": array([[], [], [], 0], "C", [1], b""),
    "an order of its own": array("<i4", "K", [1], bytes(4)),
    "an order of no text": array("<i4", [], [1], bytes(4)),
    "a shape that is too large": array("<i4", "C", [2**31, 2**31], bytes(4)),
    "a shape that wraps round": array("<i4", "C", [2**61, 2**61, 4], b""),
    "a shape of nothing by far too much": array("<i4", "C", [0, 2**61, 2**61], b""),
    "a negative shape": array("<i4", "C", [-1, -1], bytes(4)),
    "a shape of many dimensions": array("<i4", "C", [1] * 33, bytes(4)),
    "a shape of text": array("<i4", "C", "4", bytes(4)),
    "text of no characters": array("<U1", "C", [1], HUGE),
    "text of no characters the other way round": array(">U1", "C", [1], b"\0\x11\0\0"),
    "text of no characters in a field": array(
        [["a"], [["<U1", [2]]], [1], 9], "C", [1], bytes(5) + HUGE
    ),
    "a scalar of no characters": ext(codes.NUMPY_SCALAR, sent("<U1") + HUGE),
    "a scalar of another size": ext(codes.NUMPY_SCALAR, sent("<i4") + bytes(8)),
    "a scalar that is an object": ext(codes.NUMPY_SCALAR, sent("|O") + bytes(8)),
    "a frame of no index": ext(codes.PANDAS_FRAME, b"\xc0\xc0\x80\x00"),
    "a frame of 2^32 columns": ext(codes.PANDAS_FRAME, b"\xc0\xc0\x80\xce" + HUGE),
    "a series of no index": ext(codes.PANDAS_SERIES, b"\xc0\xc0\x80" + sent("object") + b"\x90"),
    "an index of an unknown kind": ext(codes.PANDAS_INDEX, sent("period") + b"\xc0"),
    "an index of an unhashable name": ext(codes.PANDAS_INDEX, sent("range") + b"\x90\xc0"),
    "a column of an unknown kind": ext(codes.PANDAS_INDEX, sent("values") + b"\xc0" + sent("x")),
    "a column of other objects": ext(
        codes.PANDAS_INDEX, sent("values") + b"\xc0" + sent("object") + b"\x91\x90"
    ),
    "an Arrow stream of an unknown kind": ext(codes.ARROW, b"\x04\0"),
    "an Arrow stream of nothing": ext(codes.ARROW, b"\0\0"),
    "an Arrow stream of anything": ext(codes.ARROW, b"\0\0" + b"\xff\xff\xff\xff\x10\0\0\0" * 4),
    "an Arrow stream beyond its end": ext(codes.ARROW, b"\0\xff"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_in_bounded_memory(name: str) -> None:
    data = HOSTILE[name]
    with contextlib.suppress(ResultError):
        decode(data)  # once before, so that the libraries are loaded
    before = set(sys.modules)
    with at_most(200_000 + 5 * len(data)), pytest.raises(ResultError, match="could not be read"):
        decode(data)
    assert set(sys.modules) == before


ENCODED = [sent(make(text, "values.values_table")) for text in EXPECTED]
ENCODED += [sent(np.arange(6).reshape(2, 3).T), sent(np.float32(1)), sent(np.zeros(2, "i4,f8"))]
ENCODED = [data for data in ENCODED if len(data) < 2000]


@given(st.binary())
@example(b"\xd4\x29")
def test_any_bytes_are_a_value_or_refused(data: bytes) -> None:
    with contextlib.suppress(ResultError):
        decode(data)


@given(st.data())
def test_a_changed_encoding_is_a_value_or_refused(data: st.DataObject) -> None:
    encoded = bytearray(data.draw(st.sampled_from(ENCODED)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, max(0, len(encoded) - 1)))
        encoded[place : place + data.draw(st.integers(0, 1))] = data.draw(st.binary(max_size=2))
    with contextlib.suppress(ResultError):
        decode(bytes(encoded))


@given(st.integers(0, 127), st.binary(max_size=60))
def test_any_contents_of_an_extension_type_are_a_value_or_refused(code: int, body: bytes) -> None:
    with contextlib.suppress(ResultError):
        decode(ext(code, body))


@given(
    st.sampled_from(
        [codes.PANDAS_FRAME, codes.PANDAS_SERIES, codes.PANDAS_INDEX, codes.PANDAS_SCALAR]
    ),
    st.lists(
        st.sampled_from(
            [
                *("range", "levels", "values", "array", "object", "str", "category", "zoned"),
                *(
                    "period",
                    "interval",
                    "arrow",
                    "M",
                    "left",
                    [3_600_000_000, "CET"],
                    pd.Index([1]),
                ),
                *("masked", "Int64", "UTC", "ns", "python", True, None, {}, [], [None], ["a"]),
                *(range(3), 0, 1, np.arange(3), np.zeros(3, bool), np.zeros((1, 1)), np.float64(1)),
            ]
        ),
        max_size=12,
    ),
)
def test_any_parts_of_a_table_are_one_or_refused(code: int, parts: list[object]) -> None:
    with contextlib.suppress(ResultError):
        decode(ext(code, b"".join(map(sent, parts))))


SMALL = {
    "lists": b"\x90",
    "maps": b"\x80",
    "sets": ext(codes.SET, b"\x90"),
    "short sets": b"\xd4\x02\x90",
    "short deques": b"\xd5\x19\xc0\x90",
    "short counters": b"\xd4\x18\x80",
    "short ordered dicts": b"\xd4\x16\x80",
    "short default dicts": b"\xd5\x17\xc0\x80",
    "structs": b"\xd5\x12\xa0\x80",
    "members": b"\xc7\x03\x11\xa0\xc0\xc0",
    "exceptions": b"\xc7\x07\x13\xa0\xa0\xa0\x90\xc0\xc0\x90",
    "paths": b"\xc7\x00\x0f",
    "decimals": b"\xd4\x0c0",
    "fractions": b"\xc7\x06\x0d\0\0\0\x01\x00\x01",
    "times": ext(codes.TIME, TIME + struct.pack(">Bq", 0, 3_600_000_000)),
    "arrays": b"\xc7\x03\x1ab\x01\0",
    "numpy's arrays": array("|i1", "C", [0]),
    "numpy's scalars": sent(np.int8(1)),
    "indexes": ext(codes.PANDAS_INDEX, sent("range") + b"\xc0" + sent(range(0))),
}


@pytest.mark.parametrize("kind", SMALL)
def test_small_bytes_make_no_large_values(kind: str) -> None:
    data = items(*[SMALL[kind]] * 10_000)
    decode(items(SMALL[kind]))
    with at_most(250 * len(data) + 100_000):
        value = decode(data)
    assert len(value) == 10_000


@pytest.mark.parametrize("kind", ["short deques", "short sets", "structs", "short ordered dicts"])
def test_small_bytes_of_large_objects_are_refused_before_they_fill_memory(kind: str) -> None:
    data = items(*[SMALL[kind]] * 100_000)
    limits = Limits(memory=1 << 20)
    with at_most(4 << 20), pytest.raises(ResultError, match="objects of more than 1048576 bytes"):
        decode(data, limits)
    value = decode(items(*[SMALL[kind]] * 10_000))
    with pytest.raises(ResultError, match="objects of more than 1048576 bytes"):
        encode(value, limits)


def range_index(size: int) -> bytes:
    return ext(codes.PANDAS_INDEX, sent("range") + b"\xc0" + sent(range(size)))


BOMBS = {
    "a level that is a range": ext(
        codes.PANDAS_INDEX,
        sent("levels") + sent([None]) + items(range_index(10**12)) + items(sent(np.zeros(1, "i1"))),
    ),
    "categories that are a range": ext(
        codes.PANDAS_INDEX,
        sent("values")
        + sent(None)
        + sent("category")
        + sent(False)
        + range_index(10**12)
        + sent(np.zeros(1, "i1")),
    ),
    "intervals of ranges": ext(
        codes.PANDAS_INDEX,
        sent("values") + sent(None) + sent("interval") + sent("left") + range_index(10**12) * 2,
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_range_where_each_item_would_be_made_counts_as_its_items(name: str) -> None:
    decode(range_index(1))
    with at_most(2 << 20), pytest.raises(ResultError, match="objects of more than"):
        decode(BOMBS[name])


MANY = 10**8
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([MANY], pa.int32()), pa.array([1]))
IMAGINED: dict[str, Any] = {
    "nothing but missing ones": pa.nulls(MANY),
    "runs": RUNS,
    "bytes of no length": pa.Array.from_buffers(pa.binary(0), MANY, [None, pa.py_buffer(b"")]),
    "lists of runs": pa.FixedSizeListArray.from_arrays(RUNS, 2),
    "structs of nothing": pa.Array.from_buffers(pa.struct([]), MANY, [None]),
    "lists of no length": pa.Array.from_buffers(
        pa.list_(pa.int8(), 0), MANY, [None], children=[pa.array([], pa.int8())]
    ),
}


@pytest.mark.parametrize("name", IMAGINED)
def test_arrow_items_that_stand_in_no_memory_count_as_items(name: str) -> None:
    with pytest.raises(ResultError, match="objects of more than"):
        encode(IMAGINED[name])
    sink = io.BytesIO()
    table = pa.Table.from_arrays([IMAGINED[name]], names=[""])
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write(table)
    assert len(sink.getvalue()) < 2000
    with pytest.raises(ResultError, match="objects of more than"):
        decode(ext(codes.ARROW, b"\x03\0" + sink.getvalue()))


def test_an_arrow_stream_of_an_older_version_is_refused() -> None:
    # These may say in another place that they are compressed.
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, TABLE.schema, options=options) as stream:
        stream.write(TABLE)
    with pytest.raises(ResultError, match="another version than 5"):
        decode(ext(codes.ARROW, b"\0\0" + sink.getvalue()))


@pytest.mark.parametrize(
    "keys",
    [
        [ext(codes.BIG_INT, (n * (2**61 - 1)).to_bytes(16, "big")) for n in range(1, 200_000)],
        [
            ext(codes.TUPLE, b"\x91" + ext(codes.BIG_INT, (n * (2**61 - 1)).to_bytes(16, "big")))
            for n in range(1, 100_000)
        ],
    ],
    ids=["numbers", "tuples"],
)
def test_keys_that_were_made_to_collide_cost_no_time(keys: list[bytes]) -> None:
    table = struct.pack(">BI", 0xDF, len(keys)) + b"".join(key + b"\xc0" for key in keys)
    for data in (table, ext(codes.SET, items(*keys))):
        began = time.process_time()
        with pytest.raises(ResultError, match="keys with the same hash"):
            decode(data)
        assert time.process_time() - began < 20


def test_numbers_of_any_length_cost_no_time_as_values() -> None:
    began = time.process_time()
    assert decode(ext(codes.BIG_INT, b"\x7f" + bytes(10**7))).bit_length() == 8 * 10**7 + 7
    assert decode(ext(codes.DECIMAL, b"1E+999999")).adjusted() == 999999
    with pytest.raises(ResultError) as raised:
        decode(items(ext(codes.BIG_INT, b"\x7f" + bytes(10**7)), b"\xc1"))
    assert len(str(raised.value)) < 200
    assert time.process_time() - began < 5


def test_a_few_keys_that_are_not_numbers_are_keys() -> None:
    nan = msgspec.msgpack.encode(float("nan"))
    assert len(decode(b"\x82" + nan + b"\xc0" + nan + b"\xc0")) == 2


def test_a_nested_value_deep_in_the_stack_is_refused() -> None:
    data = b"\x91" * 99 + b"\xc0"

    def down(levels: int) -> None:
        if levels:
            down(levels - 1)
        else:
            decode(data)

    with pytest.raises(ResultError, match="stack"):
        down(sys.getrecursionlimit() - len_of_stack() - 60)


def len_of_stack() -> int:
    frame, count = sys._getframe(), 0
    while frame.f_back is not None:
        frame, count = frame.f_back, count + 1
    return count


TABLE = pa.table({"a": list(range(50)), "b": ["x" * n for n in range(50)], "c": [[1]] * 50})


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_a_compressed_arrow_stream_is_refused(codec: str, dictionary: bool) -> None:
    # Its buffers claim a size that would be set aside.
    sink = io.BytesIO()
    column = pa.array(["a" * 10**4] * 50)
    table = pa.table({"a": column.dictionary_encode() if dictionary else column})
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write(table)
    with pytest.raises(ResultError, match="compressed"):
        decode(ext(codes.ARROW, b"\0\0" + sink.getvalue()))


@given(st.data())
def test_a_changed_arrow_stream_is_a_table_or_refused(data: st.DataObject) -> None:
    encoded = bytearray(sent(TABLE))
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(8, len(encoded) - 1))
        encoded[place] = data.draw(st.integers(0, 255))
    with contextlib.suppress(ResultError):
        decode(bytes(encoded))


def test_an_older_arrow_reads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = sent(TABLE)
    monkeypatch.setattr(pa, "__version__", "14.0.0")
    with pytest.raises(ResultError, match=r"pyarrow 14\.0\.0 is not safe"):
        decode(data)


def test_the_limits_hold_for_columns() -> None:
    with pytest.raises(ResultError, match="more than 10 items"):
        decode(ext(codes.NUMBERS, b"b" + bytes(11)), Limits(count=10))
