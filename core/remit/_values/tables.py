"""pandas' frames, series and indexes.

They travel column by column as arrays and lists: so they need no pyarrow, and no name from the wire
chooses what pandas builds.
Standard library only when imported, Python 3.6: the libraries are used where the writer already has
them, and asked for by name by the reader.
"""

from __future__ import annotations

import re
import sys
from datetime import timedelta, timezone
from typing import TYPE_CHECKING

from remit._values.arrays import library
from remit._values.codes import PANDAS_FRAME, PANDAS_INDEX, PANDAS_SERIES
from remit._values.limits import ValueRefused, step_to
from remit._values.times import is_key, zone_of

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

_MASKED = frozenset(
    [sign + "nt%d" % bits for sign in ("I", "UI") for bits in (8, 16, 32, 64)]
    + ["Float32", "Float64", "boolean"]
)
_MASKED_ARRAYS = {
    "I": "IntegerArray",
    "U": "IntegerArray",
    "F": "FloatingArray",
    "b": "BooleanArray",
}


UNITS = frozenset(("s", "ms", "us", "ns"))
CLOSED = frozenset(("left", "right", "both", "neither"))
_FREQUENCY = re.compile(r"[0-9]{0,9}[A-Za-z]{1,8}(?:-[A-Z]{3})?\Z")
_MICROSECOND = timedelta(microseconds=1)
_MOST_NAME = 255


def types(pandas: ModuleType) -> dict[type, Write]:
    return {pandas.DataFrame: _frame, pandas.Series: _series}


def kind_of(kind: type) -> Write | None:
    """What writes an index of pandas': there are many classes of them."""
    index = getattr(sys.modules.get("pandas"), "Index", ())
    ours = kind.__module__.split(".")[0] == "pandas"
    return _index if ours and issubclass(kind, index) else None


def _frame(writer: Writer, value: Any) -> None:
    count = value.shape[1]
    writer.enter(value, count + 3)
    writer.begin(PANDAS_FRAME)
    writer.value(value.columns)
    writer.value(value.index)
    writer.value(dict(value.attrs))
    writer.value(count)
    for place in range(count):
        try:
            _column(writer, value.iloc[:, place].array)
        except ValueRefused as refused:
            name = value.columns[place]
            refused.within(step_to(name) if type(name) is str else ".iloc[:, %d]" % place)
            raise
    writer.end()
    writer.leave(value)


def _read_frame(reader: Reader, end: int) -> Any:
    pandas = library("pandas")
    reader.charge(3)
    columns, index, attrs, count = (reader.value() for _ in range(4))
    if type(count) is not int or type(attrs) is not dict:
        raise ValueRefused("", "no frame that could have been sent")
    reader.announce(count)
    _check_index(pandas, columns, index)
    arrays = {place: _read_column(reader, pandas) for place in range(count)}
    if len(columns) != count or any(len(array) != len(index) for array in arrays.values()):
        raise ValueRefused("", "a frame with columns of another length than its index")
    content = {place: _as_it_is(pandas, array, index) for place, array in arrays.items()}
    frame = pandas.DataFrame(content, index=index, copy=False)
    frame.columns = columns
    frame.attrs.update(attrs)
    return frame


def _as_it_is(pandas: Any, array: Any, index: Any) -> Any:
    # What bare objects are pandas would guess.
    hasobject = getattr(array.dtype, "hasobject", False)
    return pandas.Series(array, index=index, dtype=object) if hasobject else array


def _check_index(pandas: Any, *found: Any) -> None:
    if not all(isinstance(index, pandas.Index) for index in found):
        raise ValueRefused("", "no index where one has to be")


def _series(writer: Writer, value: Any) -> None:
    writer.enter(value, 4)
    writer.begin(PANDAS_SERIES)
    writer.value(value.index)
    writer.value(value.name)
    writer.value(dict(value.attrs))
    _column(writer, value.array)
    writer.end()
    writer.leave(value)


def _read_series(reader: Reader, end: int) -> Any:
    pandas = library("pandas")
    reader.charge(4)
    index, name, attrs = (reader.value() for _ in range(3))
    _check_index(pandas, index)
    array = _read_column(reader, pandas)
    if len(array) != len(index) or type(attrs) is not dict:
        raise ValueRefused("", "no series that could have been sent")
    series = pandas.Series(_as_it_is(pandas, array, index), index=index, name=name, copy=False)
    series.attrs.update(attrs)
    return series


def _index(writer: Writer, value: Any) -> None:
    pandas = sys.modules["pandas"]
    writer.enter(value, 4)
    writer.begin(PANDAS_INDEX)
    if isinstance(value, pandas.RangeIndex):
        writer.value("range")
        writer.value(value.name)
        writer.value(range(value.start, value.stop, value.step))
    elif isinstance(value, pandas.MultiIndex):
        for level in value.levels:
            if isinstance(level, pandas.RangeIndex):
                writer.weigh(len(level))
        writer.value("levels")
        writer.value(list(value.names))
        writer.value(list(value.levels))
        writer.value(list(value.codes))
    else:
        writer.value("values")
        writer.value(value.name)
        _column(writer, value.array)
    writer.end()
    writer.leave(value)


def _read_index(reader: Reader, end: int) -> Any:
    pandas = library("pandas")
    reader.charge(4)
    kind, name = reader.value(), reader.value()
    if kind == "range":
        steps = reader.value()
        if type(steps) is not range:
            raise ValueRefused("", "no range of an index")
        return pandas.RangeIndex(steps.start, steps.stop, steps.step, name=name)
    if kind == "levels":
        levels, codes = reader.value(), reader.value()
        if not all(type(part) is list for part in (name, levels, codes)):
            raise ValueRefused("", "no levels of an index")
        _check_index(pandas, *levels)
        _weigh_ranges(reader, pandas, *levels)
        return pandas.MultiIndex(levels=levels, codes=codes, names=name)
    if kind != "values":
        raise ValueRefused("", "an index of no known kind")
    array = _read_column(reader, pandas)
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "hasobject", False):
        for item in array:
            hash(item)  # a label is a key: TypeError where it can be none
    # pandas would guess at what objects are.
    return pandas.Index(array, dtype=dtype, name=name, copy=False)


def _column(writer: Writer, array: Any) -> None:
    """What one column holds: a word for its kind, then what that kind needs."""
    pandas = sys.modules["pandas"]
    dtype = array.dtype
    if isinstance(dtype, pandas.StringDtype):
        missing = getattr(dtype, "na_value", pandas.NA)
        texts = [None if text is missing else text for text in array]
        _words(writer, "str", missing is not pandas.NA, getattr(dtype, "storage", "python"), texts)
    elif isinstance(dtype, pandas.CategoricalDtype):
        if isinstance(dtype.categories, pandas.RangeIndex):
            writer.weigh(len(dtype.categories))
        _words(writer, "category", bool(dtype.ordered), dtype.categories, array.codes)
    elif isinstance(dtype, pandas.DatetimeTZDtype):
        _words(writer, "zoned", zone_told(dtype.tz), getattr(dtype, "unit", "ns"), array.asi8)
    elif isinstance(dtype, pandas.PeriodDtype):
        _words(writer, "period", str(dtype)[len("period[") : -1], array.asi8)
    elif isinstance(dtype, pandas.IntervalDtype):
        _words(writer, "interval", array.closed, array.left, array.right)
    elif isinstance(dtype, getattr(pandas, "ArrowDtype", ())):
        _words(writer, "arrow", sys.modules["pyarrow"].chunked_array(array.__arrow_array__()))
    elif str(dtype) in _MASKED:
        numbers = "bool" if str(dtype) == "boolean" else str(dtype).lower()
        plain = array.to_numpy(dtype=numbers, na_value=0)
        _words(writer, "masked", str(dtype), plain, array.isna())
    elif _is_numpy(pandas, array):
        plain = array.to_numpy()
        writer.value("object" if plain.dtype.hasobject else "array")
        if plain.dtype.hasobject:
            # By themselves: as items of a list of one kind they would be told apart no more.
            writer.enter(array, len(plain))
            writer.items(list(plain))
            writer.leave(array)
        else:
            writer.value(plain)
    else:
        raise ValueRefused("", "a column of type %s cannot be sent as data" % dtype)


def _words(writer: Writer, *words: Any) -> None:
    for word in words:
        writer.value(word)


def _is_numpy(pandas: Any, array: Any) -> bool:
    arrays = pandas.arrays
    wrapped = getattr(arrays, "NumpyExtensionArray", None) or arrays.PandasArray  # before 2.1
    return isinstance(array, (wrapped, arrays.DatetimeArray, arrays.TimedeltaArray))


def frequency(text: object) -> str:
    """Of a period, as pandas writes it. Raises ValueRefused."""
    if not isinstance(text, str) or not _FREQUENCY.match(text):
        raise ValueRefused("", "periods of no known length")
    return text


def zone_told(zone: Any) -> Any:
    """A zone of moments as data: its key; or its offset in microseconds and its name, where it has
    one offset at all times. Raises ValueRefused for another."""
    key = getattr(zone, "key", None) or getattr(zone, "zone", None)  # zoneinfo's, pytz's
    if key is None and zone is timezone.utc:
        key = "UTC"
    if key is not None and is_key(key):
        return str(key)
    try:
        offset, name = zone.utcoffset(None), zone.tzname(None)
    except Exception as exc:
        raise ValueRefused("", "its time zone raised %s" % type(exc).__name__) from None
    if not isinstance(offset, timedelta):
        raise ValueRefused("", "moments in the zone %s, which has no name" % zone)
    if not isinstance(name, str) or name == timezone(offset).tzname(None):
        return [offset // _MICROSECOND, None]
    return [offset // _MICROSECOND, name[:_MOST_NAME]]


def zone_read(told: Any) -> Any:
    """The zone that was told of. Raises ValueRefused."""
    if isinstance(told, list):
        offset, name = told
        if type(offset) is not int or not isinstance(name, (str, type(None))):
            raise ValueRefused("", "no offset of a time zone")
        span = timedelta(microseconds=offset)
        return timezone(span) if name is None else timezone(span, name[:_MOST_NAME])
    if told == "UTC":
        return timezone.utc
    zone = zone_of(told) if isinstance(told, str) else None
    if zone is None and sys.version_info >= (3, 9):
        raise ValueRefused("", "the time zone %.99r is not known here" % (told,))
    # Where Python has no zones pandas has some: a key it does not know is refused.
    return zone or told


def _read_column(reader: Reader, pandas: Any) -> Any:
    """As an array of numpy's or pandas'. The words are all there are: none chooses a class."""
    kind = reader.value()
    read = _COLUMNS.get(kind) if isinstance(kind, str) else None
    if read is None:
        raise ValueRefused("", "a column of no known kind")
    return read(reader, library("numpy"), pandas)


def _read_array(reader: Reader, numpy: Any, pandas: Any) -> Any:
    return _flat(numpy, reader.value())


def _read_objects(reader: Reader, numpy: Any, pandas: Any) -> Any:
    reader.enter()
    items = reader.items()
    reader.leave()
    column = numpy.empty(len(items), object)
    for place, item in enumerate(items):  # numpy would look into sequences
        column[place] = item
    return column


def _read_strings(reader: Reader, numpy: Any, pandas: Any) -> Any:
    plain, storage, texts = reader.value(), reader.value(), reader.value()
    sound = type(texts) is list and {str, type(None)}.issuperset(map(type, texts))
    if type(plain) is not bool or not sound:
        raise ValueRefused("", "no column of text")
    if storage != "pyarrow" or not _has_arrow():
        storage = "python"
    return pandas.array(texts, dtype=_string_dtype(pandas, storage, plain))


def _read_categories(reader: Reader, numpy: Any, pandas: Any) -> Any:
    ordered, categories, codes = reader.value(), reader.value(), reader.value()
    _check_index(pandas, categories)
    _weigh_ranges(reader, pandas, categories)
    if type(ordered) is not bool:
        raise ValueRefused("", "no column of categories")
    return pandas.Categorical.from_codes(_flat(numpy, codes), categories, ordered=ordered)


def _weigh_ranges(reader: Reader, pandas: Any, *found: Any) -> None:
    """Where each item of an index is made: a range is of any size in a few bytes."""
    reader.weigh(sum(len(index) for index in found if isinstance(index, pandas.RangeIndex)))


def _read_zoned(reader: Reader, numpy: Any, pandas: Any) -> Any:
    zone, unit = zone_read(reader.value()), reader.value()
    moments = _flat(numpy, reader.value())
    if unit not in UNITS or moments.dtype != numpy.int64:
        raise ValueRefused("", "no column of moments")
    column = pandas.DatetimeIndex(moments.view("M8[%s]" % unit))
    return column.tz_localize("UTC").tz_convert(zone).array


def _read_periods(reader: Reader, numpy: Any, pandas: Any) -> Any:
    freq, ordinals = frequency(reader.value()), _flat(numpy, reader.value())
    if ordinals.dtype != numpy.int64:
        raise ValueRefused("", "no column of periods")
    return pandas.arrays.PeriodArray(ordinals, dtype=pandas.PeriodDtype(freq))


def _read_intervals(reader: Reader, numpy: Any, pandas: Any) -> Any:
    closed, left, right = reader.value(), reader.value(), reader.value()
    _check_index(pandas, left, right)
    _weigh_ranges(reader, pandas, left, right)
    if closed not in CLOSED:
        raise ValueRefused("", "no column of intervals")
    return pandas.arrays.IntervalArray.from_arrays(left, right, closed=closed)


def _read_arrow_column(reader: Reader, numpy: Any, pandas: Any) -> Any:
    column = reader.value()
    made = getattr(pandas.arrays, "ArrowExtensionArray", None)
    if made is None:
        raise ValueRefused("", "this pandas holds nothing of pyarrow's")
    if not isinstance(column, library("pyarrow").ChunkedArray):
        raise ValueRefused("", "no column of pyarrow's")
    return made(column)


def _read_masked(reader: Reader, numpy: Any, pandas: Any) -> Any:
    name = reader.value()
    data, mask = _flat(numpy, reader.value()), _flat(numpy, reader.value())
    if name not in _MASKED:
        raise ValueRefused("", "no column of numbers with gaps")
    masked = getattr(pandas.arrays, _MASKED_ARRAYS[name[0]], None)
    if masked is None:
        raise ValueRefused("", "this pandas knows no %s" % name)
    return masked(data, mask)


_COLUMNS: dict[str, Any] = {
    "array": _read_array,
    "object": _read_objects,
    "str": _read_strings,
    "category": _read_categories,
    "zoned": _read_zoned,
    "period": _read_periods,
    "interval": _read_intervals,
    "arrow": _read_arrow_column,
    "masked": _read_masked,
}


def _flat(numpy: Any, array: Any) -> Any:
    if type(array) is not numpy.ndarray or array.ndim != 1:
        raise ValueRefused("", "no column of numbers")
    return array


def _string_dtype(pandas: Any, storage: str, plain: bool) -> Any:
    if plain:
        try:
            return pandas.StringDtype(storage, na_value=library("numpy").nan)
        except TypeError:  # before pandas 2.3: as near as there is
            pass
    try:
        return pandas.StringDtype(storage)
    except TypeError:  # before pandas 1.3
        return pandas.StringDtype()


def _has_arrow() -> bool:
    try:
        library("pyarrow")
    except ValueRefused:
        return False
    return True


NESTED: dict[int, Read] = {
    PANDAS_FRAME: _read_frame,
    PANDAS_SERIES: _read_series,
    PANDAS_INDEX: _read_index,
}
