"""numpy's, pandas' and pyarrow's values as data."""

from __future__ import annotations

import datetime
import decimal
import re
import sys
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from remit import ResultError
from remit._jobs.values import decode, encode

MIB = 1 << 20


def back(value: object) -> Any:
    return decode(b"".join(encode(value)))


def alike(value: Any, other: Any) -> bool:
    """Bit for bit, with type, shape and order."""
    kinds = type(value) is type(other) and value.dtype == other.dtype
    flags = value.flags.c_contiguous, value.flags.f_contiguous
    same = flags == (other.flags.c_contiguous, other.flags.f_contiguous)
    return kinds and value.shape == other.shape and same and value.tobytes() == other.tobytes()


def _of_no_unit() -> Any:
    """From numpy 2.5 on it warns of them; people have them all the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return np.array([1, 2], "m8")


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
    "spans of no unit": _of_no_unit(),
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
        (np.zeros(2, []), "of size zero"),
        (np.array(["a"], np.dtypes.StringDType()), "an array of objects"),
        (np.arange(3).view(Units), f"an object of type {__name__}.Units"),
        (np.ma.masked_array([1], [True]), "MaskedArray cannot be sent"),
    ],
)
def test_an_array_that_is_more_than_numbers_is_refused(value: object, words: str) -> None:
    with pytest.raises(ResultError, match=re.escape(words)):
        encode({"a": value})


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


@pytest.mark.parametrize("size", [3, 100_000])
def test_what_holds_numbers_can_be_written_to_wherever_its_bytes_lie(size: int) -> None:
    frame = pd.DataFrame({"a": np.zeros(size), "b": np.zeros(size, "i4")})
    data = b"".join(encode([np.zeros(size), np.zeros((size, 1), "i4,f8"), frame]))
    for source in (data, bytearray(data), memoryview(data)):
        array, fields, table = decode(source)
        array[0] = fields[0, 0]["f1"] = 5
        table.loc[0, "a"] = 5
        assert (array[0], fields[0, 0]["f1"], table.loc[0, "a"]) == (5, 5, 5)


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
HOUR = datetime.timedelta(hours=1)
SUMMER = pd.DatetimeIndex(["2024-06-30", "2024-07-01", "2024-12-01"]).tz_localize("UTC")
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
    "a fixed offset": DAYS.tz_localize("UTC").tz_convert(datetime.timezone(HOUR)),
    # What datetime.astimezone() gives: its name is that of a zone that has summer time.
    "a fixed offset with a zone's name": SUMMER.tz_convert(datetime.timezone(HOUR, "CET")),
    "the zone of that name": SUMMER.tz_convert("CET"),
    "days as objects": pd.Series([datetime.date(2024, 1, d) for d in (1, 2, 3)], dtype=object),
    "all kinds of objects": pd.Series([decimal.Decimal("1.10"), b"a", None], dtype=object),
    "numbers and text": pd.Series([1, "a", 2.5], dtype=object),
    "lists of one length": pd.Series([(1, 2), (3, 4), (5, 6)], dtype=object),
    "moments and what is missing": pd.Series([MOMENTS[0], pd.NaT, pd.NA], dtype=object),
    "periods": pd.period_range("2024-01", periods=3, freq="M"),
    "periods with gaps": pd.PeriodIndex(["2024Q1", None, "2024Q3"], freq="Q-NOV"),
    "intervals": pd.IntervalIndex.from_breaks([0.0, 1.5, 2.5, 4.0], closed="left"),
    "intervals of moments": pd.IntervalIndex.from_arrays(DAYS, DAYS + pd.Timedelta("1h")),
    "numbers of pyarrow's": pd.array([1, None, 3], dtype=pd.ArrowDtype(pa.int64())),
    "lists of pyarrow's": pd.array([[1], None, []], dtype=pd.ArrowDtype(pa.list_(pa.int8()))),
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


class Changing(datetime.tzinfo):
    """A zone without a name, whose offset depends on the day."""

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return None if moment is None else datetime.timedelta(hours=moment.month % 2)

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return None if moment is None else datetime.timedelta(0)

    def tzname(self, moment: datetime.datetime | None) -> str:
        return "changing"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (pd.DataFrame({"a": [1], "b": [object()]}), 'result["b"][0]: an object of type object'),
        (pd.Series([[1], [len]]), "result[1][0]: an object of type"),
        (pd.DataFrame({1: pd.arrays.SparseArray([0, 1])}), "result.iloc[:, 0]: a column of"),
        (pd.Series(pd.arrays.SparseArray([0, 1])), "Sparse[int64, 0] cannot be sent"),
        (pd.Series(MOMENTS.tz_convert(Changing())), "which has no name"),
        (
            pd.Timestamp(year=2024, month=1, day=1, fold=1),
            "a Timestamp with a fold and no time zone",
        ),
    ],
)
def test_a_column_that_has_no_form_is_refused_with_its_path(value: object, words: str) -> None:
    with pytest.raises(ResultError, match=re.escape(words)):
        encode(value)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2024-02-29 12:00:00.123456789"),
        pd.Timestamp("2024-02-29").as_unit("s"),
        pd.Timestamp("2024-10-27 00:30", tz="UTC").tz_convert("Europe/Berlin"),
        pd.Timestamp("2024-10-27 01:30", tz="UTC").tz_convert("Europe/Berlin"),
        pd.Timestamp("2024-07-01", tz=datetime.timezone(HOUR, "CET")),
        pd.Timedelta("-1 day 1ns"),
        pd.NaT,
        pd.NA,
        pd.Period("2024-02", "M"),
        pd.Period("2024Q3", "Q-NOV"),
        pd.Interval(0, 1, "both"),
        pd.Interval(pd.Timestamp("2024"), pd.Timestamp("2025")),
    ],
)
def test_one_of_what_columns_hold_comes_back(value: Any) -> None:
    (got,) = back([value])
    assert type(got) is type(value)
    assert repr(got) == repr(value)
    for name in ("unit", "tz", "fold", "freqstr", "closed"):
        assert getattr(got, name, None) == getattr(value, name, None)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"v": [1, 2]}, index=["a", "b"]).reset_index().T,
        pd.DataFrame({"v": [1, 2], "w": ["x", "y"]}).T,
        pd.DataFrame({"v": [1, 2], "w": ["x", "y"]}).describe(include="all"),
        pd.DataFrame({"at": SUMMER, "v": 1})
        .groupby([SUMMER.year, SUMMER.month])
        .sum(numeric_only=True),
        pd.DataFrame({"v": [1, 2, 3]}, index=pd.cut([1, 5, 9], 3)),
        pd.DataFrame([[1, 2]], columns=[pd.Timestamp("2024"), 5]),
    ],
)
def test_what_everyday_work_makes_of_a_frame_comes_back(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(back(frame), frame, check_exact=True, check_freq=False)


def test_a_reader_without_the_zone_of_a_column_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"".join(encode(pd.Series(MOMENTS)))
    in_utc = b"".join(encode(pd.Series(MOMENTS.tz_convert("UTC"))))
    monkeypatch.setattr("remit._values.tables.zone_of", lambda key: None)
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
