"""numpy's, pandas' and pyarrow's values as data."""

from __future__ import annotations

import sys
import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from remit import ResultError
from remit._results import decode, encode

MIB = 1 << 20


def back(value: object) -> Any:
    return decode(b"".join(encode(value)))


def alike(value: Any, other: Any) -> bool:
    """Bit for bit, with type, shape and order."""
    kinds = type(value) is type(other) and value.dtype == other.dtype
    flags = value.flags.c_contiguous, value.flags.f_contiguous
    same = flags == (other.flags.c_contiguous, other.flags.f_contiguous)
    return kinds and value.shape == other.shape and same and value.tobytes() == other.tobytes()


ARRAYS = {
    "floats": np.linspace(0, 1, 7),
    "nothing": np.zeros(0),
    "nothing in three directions": np.zeros((3, 0, 2), "<i4"),
    "no dimension": np.array(3.5),
    "rows first": np.arange(24).reshape(2, 3, 4),
    "columns first": np.asfortranarray(np.arange(24).reshape(2, 3, 4)),
    "big-endian": np.arange(5, dtype=">i4"),
    "half floats": np.array([1.5, np.nan, np.inf], "<f2"),
    "long doubles": np.array([1.5], np.longdouble),
    "complexes": np.array([1 + 2j, np.nan], "<c8"),
    "truths": np.array([True, False]),
    "bytes": np.array([b"a", b"abc"]),
    "text": np.array(["a", "\u4e2d\U0001f600"]),
    "days": np.array(["2024-02-29", "NaT"], "M8[D]"),
    "25 seconds each": np.array([1, 2], "m8[25s]"),
    "spans of no unit": np.array([1, 2], "m8"),
    "raw": np.array([b"ab"], "V2"),
    "fields": np.array([(1, 2.5, "a")], "i4,>f8,U3"),
    "aligned fields": np.zeros(3, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    "fields with a shape": np.zeros(2, [("a", "i2", (2, 3)), ("b", [("c", "M8[s]")])]),
    "fields out of order": np.zeros(
        2, np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [2, 0]})
    ),
    "large": np.arange(100_000),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_comes_back_bit_for_bit(name: str) -> None:
    assert alike(back(ARRAYS[name]), ARRAYS[name])


@given(
    arrays.arrays(
        arrays.scalar_dtypes() | arrays.nested_dtypes(),
        arrays.array_shapes(min_dims=0, min_side=0, max_side=4),
    )
)
def test_any_array_comes_back_or_has_no_size(array: np.ndarray[Any, Any]) -> None:
    if sized(array.dtype):
        assert alike(back([array])[0], array)
    else:
        with pytest.raises(ResultError, match=r"of no size|titles"):
            encode([array])


def sized(dtype: np.dtype[Any]) -> bool:
    """Whether all of it has a size; hypothesis makes texts of no length, and titles."""
    if dtype.subdtype:
        return bool(dtype.itemsize) and sized(dtype.base)
    fields = list((dtype.fields or {}).values())
    plain = all(len(field) == 2 and sized(field[0]) for field in fields)
    return bool(dtype.itemsize) and plain


@pytest.mark.parametrize(
    "array",
    [np.arange(20)[::2], np.arange(20)[::-1], np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)],
)
def test_an_array_with_gaps_comes_back_without(array: Any) -> None:
    assert np.array_equal(back(array), array)


@pytest.mark.parametrize(
    "scalar",
    [
        np.float64("nan"),
        np.float32(1.5),
        np.int8(-1),
        np.uint64(2**64 - 1),
        np.bool_(True),
        np.complex64(1 + 2j),
        np.datetime64("2024-02-29T12:00:00.123"),
        np.datetime64("NaT"),
        np.timedelta64(5, "h"),
        np.str_("abc"),
        np.str_(""),
        np.bytes_(b"ab"),
        np.bytes_(b""),
        np.array([(1, 2.5)], "i4,f8")[0],
        np.longdouble(1) / 3,
    ],
)
def test_a_scalar_comes_back(scalar: Any) -> None:
    got = back({"a": scalar})["a"]
    assert type(got) is type(scalar)
    assert repr(got) == repr(scalar)
    assert got.dtype == scalar.dtype or not scalar.dtype.itemsize


class Units(np.ndarray[Any, Any]):
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (np.array([object()]), 'result["a"]: an array of objects'),
        (np.zeros(1, [("a", "i4"), ("b", "O")]), "an array of objects"),
        (np.zeros(1, [(("title", "a"), "i4")]), "titles"),
        (np.zeros(2, []), "of no size"),
        (np.array(["a"], np.dtypes.StringDType()), "an array of objects"),
        (np.arange(3).view(Units), f"an object of type {__name__}.Units"),
        (np.ma.masked_array([1], [True]), "MaskedArray cannot travel"),
    ],
)
def test_an_array_that_is_more_than_numbers_is_refused(value: object, words: str) -> None:
    with pytest.raises(ResultError) as raised:
        encode({"a": value})
    assert words in str(raised.value)


def test_a_large_array_is_copied_on_neither_side() -> None:
    array = np.arange(8 * MIB, dtype="<f8")
    tracemalloc.start()
    try:
        pieces = encode({"a": array})
        assert tracemalloc.get_traced_memory()[1] < MIB
        data = bytearray(sum(map(len, pieces)))
        place = 0
        for piece in pieces:
            data[place : place + len(piece)] = piece
            place += len(piece)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        got = decode(data)["a"]
        assert tracemalloc.get_traced_memory()[1] - before < MIB
    finally:
        tracemalloc.stop()
    assert alike(got, array)
    assert np.shares_memory(got, np.frombuffer(data, "u1"))
    got[0] = 5
    assert got.flags.writeable
    assert not decode(bytes(data))["a"].flags.writeable


@pytest.mark.parametrize("shift", range(1, 9))
def test_an_array_is_aligned_wherever_its_bytes_lie(shift: int) -> None:
    data = b"".join(encode(["a" * shift, np.arange(5, dtype="f8")]))
    moved = memoryview(bytearray(shift) + data)[shift:]
    for source in (bytearray(data), moved):
        got = decode(source)[1]
        assert got.flags.aligned
        assert got.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (np.arange(3), "numpy"),
        (np.float32(1), "numpy"),
        (pd.DataFrame({"a": [1]}), "pandas"),
        (pd.Series([1]), "pandas"),
        (pd.Index(["a"]), "pandas"),
        (pa.array([1]), "pyarrow"),
    ],
)
def test_a_reader_without_the_library_says_its_name(
    value: object, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"".join(encode([value]))
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ResultError, match=f"{name} is needed to read this value"):
        decode(data)


# pandas.

# Without a rule of their own, which does not travel.
DAYS = pd.DatetimeIndex(["2024-03-30", "2024-03-31", "2024-04-01"])
MOMENTS = DAYS.tz_localize("Europe/Berlin")
COLUMNS: dict[str, Any] = {
    "int64": [1, 2, 3],
    "float32": np.array([1, np.nan, 3], "f4"),
    "bool": [True, False, True],
    "text": ["a", "b\u4e2d", ""],
    "text with gaps": pd.array(["a", None, "c"], dtype="str"),
    "text as string": pd.array(["a", None, "c"], dtype="string"),
    "text in Python": pd.array(["a", None, "c"], dtype=pd.StringDtype("python")),
    "objects": pd.Series(["a", None, float("nan")], dtype=object),
    "objects that are all text": pd.Series(["a", "b", "c"], dtype=object),
    "moments": DAYS,
    "moments in seconds": np.array(["2024-01-01", "NaT", "2024-01-03"], "M8[s]"),
    "moments in a zone": MOMENTS,
    "moments in UTC": MOMENTS.tz_convert("UTC"),
    "spans": pd.to_timedelta([1, None, 3], unit="s"),
    "integers with gaps": pd.array([1, None, 3], dtype="Int8"),
    "large integers with gaps": pd.array([2**64 - 1, None, 3], dtype="UInt64"),
    "floats with gaps": pd.array([1.5, None, 3], dtype="Float64"),
    "truths with gaps": pd.array([True, None, False], dtype="boolean"),
    "categories": pd.Categorical(["b", None, "b"], ["a", "b"], ordered=True),
    "categories of numbers": pd.Categorical([3, 1, 3]),
}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_series_and_an_index_come_back(name: str) -> None:
    series = pd.Series(COLUMNS[name], name=name)
    pd.testing.assert_series_equal(back(series), series, check_exact=True)
    index = pd.Index(COLUMNS[name], name=(name, 1))
    got = back(index)
    pd.testing.assert_index_equal(got, index, exact=True)
    assert type(got) is type(index)


def test_a_frame_comes_back() -> None:
    frame = pd.DataFrame({name: pd.Series(column) for name, column in COLUMNS.items()})
    frame.attrs["unit"] = "m"
    got = back({"a": frame})["a"]
    pd.testing.assert_frame_equal(got, frame, check_exact=True)
    assert got.attrs == {"unit": "m"}


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame(),
        pd.DataFrame(index=range(3)),
        pd.DataFrame(columns=["a", "b"]),
        pd.DataFrame(np.arange(6).reshape(3, 2), columns=["a", "a"]),
        pd.DataFrame(np.arange(6).reshape(3, 2), index=["x", "y", "z"]),
        pd.DataFrame({("a", 1): [1], ("b", 2): [2]}),
        pd.DataFrame({"v": [1, 2]}, index=pd.MultiIndex.from_tuples([("a", 1), ("b", None)])),
        pd.DataFrame({"v": [1, 2, 3]}, index=MOMENTS),
        pd.DataFrame(np.arange(10**6).reshape(1000, 1000)),
    ],
)
def test_a_frame_of_any_form_comes_back(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(back(frame), frame, check_exact=True)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pd.DataFrame({"a": [1], "b": [object()]}), 'result["b"][0]: an object of type object in'),
        (pd.Series([[1]]), "result[0]: an object of type list in a column of objects"),
        (pd.DataFrame({1: pd.period_range("2024", periods=2)}), "result.iloc[:, 0]: a column of"),
        (pd.Series(pd.arrays.SparseArray([0, 1])), "Sparse[int64, 0] cannot travel"),
        (pd.Series([1], dtype=pd.ArrowDtype(pa.int64())), "int64[pyarrow] cannot travel"),
        (
            pd.Series(pd.to_datetime(["2024-01-01T00:00+01:00"])),
            "in the zone UTC+01:00, which has no name",
        ),
        (pd.Timestamp("2024"), "Timestamp cannot travel"),
    ],
)
def test_a_column_that_has_no_form_is_refused_with_its_path(value: object, words: str) -> None:
    with pytest.raises(ResultError) as raised:
        encode(value)
    assert words in str(raised.value)


def test_a_reader_without_the_zone_of_a_column_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(encode(pd.Series(MOMENTS)))
    in_utc = b"".join(encode(pd.Series(MOMENTS.tz_convert("UTC"))))
    monkeypatch.setattr("remit._value_tables.zone_of", lambda key: None)
    with pytest.raises(ResultError, match="'Europe/Berlin' is not known here"):
        decode(data)
    assert list(decode(in_utc)) == list(MOMENTS)


# pyarrow.

BATCH = pa.record_batch(
    {
        "a": pa.array([1, None, 3]),
        "b": ["x", "y", None],
        "c": [[1], [], None],
        "d": pa.array(["p", "q", "p"]).dictionary_encode(),
        "e": pa.array([{"x": 1}, None, {"x": 2}]),
        "f": pa.nulls(3),
    }
)
TABLE = pa.Table.from_batches([BATCH, BATCH]).replace_schema_metadata({"k": "v"})
ARROW = {
    "a table": TABLE,
    "an empty table": TABLE.slice(0, 0),
    "a table of no columns": pa.table({}),
    "part of a table": TABLE.slice(2, 3),
    "a batch": BATCH,
    "an empty batch": BATCH.slice(0, 0),
    "a chunked array": TABLE.column("b"),
    "an array": pa.array([1.5, None]),
    "an empty array": pa.array([], pa.string()),
    "part of an array": pa.array(range(100)).slice(5, 10),
    "an array of dictionaries": BATCH.column("d"),
}


@pytest.mark.parametrize("name", ARROW)
def test_what_pyarrow_holds_comes_back(name: str) -> None:
    value = ARROW[name]
    got = back([value])[0]
    assert type(got) is type(value)
    assert got.equals(value)
    if hasattr(value, "schema"):
        assert got.schema.equals(value.schema, check_metadata=True)


def test_a_table_is_a_view_of_what_arrived() -> None:
    data = bytearray(b"".join(encode(pa.array(range(MIB)))))
    before = pa.total_allocated_bytes()
    got = decode(data)
    assert pa.total_allocated_bytes() - before < MIB
    assert got[5].as_py() == 5
