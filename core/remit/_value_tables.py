"""pandas' frames, series and indexes, and pyarrow's tables, batches and arrays.

What pandas holds travels column by column as arrays and lists: so it needs no pyarrow, and no
name from the wire chooses what pandas builds. What pyarrow holds travels as an Arrow IPC stream.
Standard library only when imported, Python 3.6: the libraries are used where the writer already has
them, and asked for by name by the reader.
"""

from __future__ import annotations

import struct
import sys
from datetime import timezone
from typing import TYPE_CHECKING

from remit._limits import ValueRefused
from remit._value_arrays import library
from remit._value_codes import ARROW, PANDAS_FRAME, PANDAS_INDEX, PANDAS_SERIES
from remit._value_times import is_key, zone_of
from remit._value_writer import step_to

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from remit._value_reader import Read, Reader
    from remit._value_writer import Write, Writer

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
_UNITS = frozenset(("s", "ms", "us", "ns"))
# Older ones made objects of what came in a stream, by its own account (CVE-2023-47248).
_SAFE_ARROW = (14, 0, 1)
_ARROW_KINDS = ("Table", "RecordBatch", "ChunkedArray", "Array")


def _pandas(pandas: ModuleType) -> dict[type, Write]:
    return {pandas.DataFrame: _frame, pandas.Series: _series}


def kind_of(kind: type) -> Write | None:
    """What writes an index of pandas' or an array of pyarrow's: there are many classes of them."""
    pandas, arrow = sys.modules.get("pandas"), sys.modules.get("pyarrow")
    if kind.__module__.split(".")[0] == "pandas" and issubclass(kind, _class(pandas, "Index")):
        return _index
    if kind.__module__.split(".")[0] == "pyarrow":
        for name in _ARROW_KINDS:
            if issubclass(kind, _class(arrow, name)):
                return _arrow
    return None


def _class(module: ModuleType | None, name: str) -> Any:
    return getattr(module, name, ())


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
        return pandas.MultiIndex(levels=levels, codes=codes, names=name)
    if kind != "values":
        raise ValueRefused("", "an index of no known kind")
    array = _read_column(reader, pandas)
    dtype = getattr(array, "dtype", None)
    # pandas would guess at what objects are.
    return pandas.Index(array, dtype=dtype, name=name, copy=False)


def _column(writer: Writer, array: Any) -> None:
    """What one column holds: a word for its kind, then what that kind needs."""
    pandas = sys.modules["pandas"]
    dtype = array.dtype
    if isinstance(dtype, pandas.StringDtype):
        missing = getattr(dtype, "na_value", pandas.NA)
        writer.value("str")
        writer.value(missing is not pandas.NA)
        writer.value(getattr(dtype, "storage", "python"))
        writer.value([None if text is missing else text for text in array])
    elif isinstance(dtype, pandas.CategoricalDtype):
        writer.value("category")
        writer.value(bool(dtype.ordered))
        writer.value(dtype.categories)
        writer.value(array.codes)
    elif isinstance(dtype, pandas.DatetimeTZDtype):
        writer.value("zoned")
        writer.value(_zone_key(dtype.tz))
        writer.value(getattr(dtype, "unit", "ns"))
        writer.value(array.asi8)
    elif str(dtype) in _MASKED:
        numbers = "bool" if str(dtype) == "boolean" else str(dtype).lower()
        writer.value("masked")
        writer.value(str(dtype))
        writer.value(array.to_numpy(dtype=numbers, na_value=0))
        writer.value(array.isna())
    elif _is_numpy(pandas, array):
        plain = array.to_numpy()
        writer.value("object" if plain.dtype.hasobject else "array")
        writer.value(_texts(plain) if plain.dtype.hasobject else plain)
    else:
        raise ValueRefused("", "a column of type %s cannot travel as data" % dtype)


def _is_numpy(pandas: Any, array: Any) -> bool:
    arrays = pandas.arrays
    wrapped = getattr(arrays, "NumpyExtensionArray", None) or arrays.PandasArray  # before 2.1
    return isinstance(array, (wrapped, arrays.DatetimeArray, arrays.TimedeltaArray))


def _texts(array: Any) -> list[Any]:
    texts = list(array)
    for place, text in enumerate(texts):
        kind = type(text)
        if kind is not str and text is not None and not (kind is float and text != text):
            why = "an object of type %s in a column of objects" % kind.__name__
            raise ValueRefused("[%d]" % place, why)
    return texts


def _zone_key(zone: Any) -> str:
    # zoneinfo's, pytz's, or UTC as datetime has it
    key = getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    if not is_key(key):
        raise ValueRefused("", "moments in the zone %s, which has no name" % zone)
    return str(key)


def _zone(key: object) -> Any:
    if key == "UTC":
        return timezone.utc
    zone = zone_of(key) if isinstance(key, str) else None
    if zone is None and sys.version_info >= (3, 9):
        raise ValueRefused("", "the time zone %.99r is not known here" % (key,))
    # Where Python has no zones pandas has some: a key it does not know is refused.
    return zone or key


def _read_column(reader: Reader, pandas: Any) -> Any:
    """As an array of numpy's or pandas'. The words are all there are: none chooses a class."""
    numpy = library("numpy")
    kind = reader.value()
    if kind == "array":
        return _flat(numpy, reader.value())
    if kind == "object":
        texts = reader.value()
        if type(texts) is not list:
            raise ValueRefused("", "no column of objects")
        column = numpy.empty(len(texts), object)
        column[:] = texts
        _texts(column)
        return column
    if kind == "str":
        return _read_strings(pandas, reader.value(), reader.value(), reader.value())
    if kind == "category":
        ordered, categories, codes = reader.value(), reader.value(), reader.value()
        _check_index(pandas, categories)
        if type(ordered) is not bool:
            raise ValueRefused("", "no column of categories")
        return pandas.Categorical.from_codes(_flat(numpy, codes), categories, ordered=ordered)
    if kind == "zoned":
        zone, unit = _zone(reader.value()), reader.value()
        moments = _flat(numpy, reader.value())
        if unit not in _UNITS or moments.dtype != numpy.int64:
            raise ValueRefused("", "no column of moments")
        column = pandas.DatetimeIndex(moments.view("M8[%s]" % unit))
        return column.tz_localize("UTC").tz_convert(zone).array
    if kind == "masked":
        name, data, mask = (
            reader.value(),
            _flat(numpy, reader.value()),
            _flat(numpy, reader.value()),
        )
        if name not in _MASKED:
            raise ValueRefused("", "no column of numbers with gaps")
        masked = getattr(pandas.arrays, _MASKED_ARRAYS[name[0]], None)
        if masked is None:
            raise ValueRefused("", "this pandas knows no %s" % name)
        return masked(data, mask)
    raise ValueRefused("", "a column of no known kind")


def _flat(numpy: Any, array: Any) -> Any:
    if type(array) is not numpy.ndarray or array.ndim != 1:
        raise ValueRefused("", "no column of numbers")
    return array


def _read_strings(pandas: Any, plain: Any, storage: Any, texts: Any) -> Any:
    sound = type(texts) is list and {str, type(None)}.issuperset(map(type, texts))
    if type(plain) is not bool or not sound:
        raise ValueRefused("", "no column of text")
    if storage != "pyarrow" or not _has_arrow():
        storage = "python"
    return pandas.array(texts, dtype=_string_dtype(pandas, storage, plain))


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


def _arrow(writer: Writer, value: Any) -> None:
    arrow = sys.modules["pyarrow"]
    kind = next(n for n, name in enumerate(_ARROW_KINDS) if isinstance(value, _class(arrow, name)))
    if kind >= 2:
        column = value if kind == 2 else arrow.chunked_array([value])
        table = arrow.Table.from_arrays([column], names=[""])
    else:
        table = value
    sink = arrow.BufferOutputStream()
    # Not compressed: a reader is to know how much it will be.
    options = arrow.ipc.IpcWriteOptions(compression=None)
    with arrow.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write(table)
    writer.enter(value, 1)
    writer.begin(ARROW)
    writer.buf.append(kind)
    writer.aligned(memoryview(sink.getvalue()).cast("B"))
    writer.end()
    writer.leave(value)


def _read_arrow(reader: Reader, end: int) -> Any:
    arrow = library("pyarrow")
    version = tuple(int(part) for part in arrow.__version__.split(".")[:3] if part.isdigit())
    if version < _SAFE_ARROW:
        raise ValueRefused("", "pyarrow %s is not safe to read this with" % arrow.__version__)
    kind, zeros = reader.piece(2)
    reader.piece(zeros)
    if kind >= len(_ARROW_KINDS) or reader.at > end:
        raise ValueRefused("", "an Arrow stream of no known kind")
    data = memoryview(reader.source).cast("B")[reader.at : end]
    reader.at = end
    ipc = arrow.ipc
    stream = arrow.py_buffer(data)
    messages = ipc.MessageReader.open_stream(stream)
    while True:
        try:
            message = messages.read_next_message()
        except StopIteration:
            break
        if _compressed(memoryview(message.metadata).cast("B")):
            raise ValueRefused("", "an Arrow stream that is compressed")
    table = ipc.open_stream(stream).read_all()
    table.validate(full=True)
    if kind == 0:
        return table
    if kind == 1:
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else arrow.RecordBatch.from_pylist([], schema=table.schema)
    column = table.column(0)
    if kind == 2:
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


_INT32, _UINT16 = struct.Struct("<i"), struct.Struct("<H")


def _slot(data: memoryview, table: int, slot: int) -> int:
    """Where a table of a flatbuffer has that field; 0 where it has none."""
    vtable = table - _INT32.unpack_from(data, table)[0]
    entry = 4 + 2 * slot
    if vtable < 0 or entry + 2 > _UINT16.unpack_from(data, vtable)[0]:
        return 0
    offset = _UINT16.unpack_from(data, vtable + entry)[0]
    return table + offset if offset else 0


def _follow(data: memoryview, at: int) -> int:
    return at + int(_INT32.unpack_from(data, at)[0])


def _compressed(metadata: memoryview) -> bool:
    """Whether a message of an Arrow stream says that its body is. Source: Message.fbs, format 1.5:
    a Message has its header's type and the header as fields 1 and 2, a DictionaryBatch (2) its
    RecordBatch (3) as field 1, and that its compression as field 3."""
    message = _follow(metadata, 0)
    kind_at, header_at = _slot(metadata, message, 1), _slot(metadata, message, 2)
    if not kind_at or not header_at:
        return False
    kind, header = metadata[kind_at], _follow(metadata, header_at)
    if kind == 2:
        batch_at = _slot(metadata, header, 1)
        if not batch_at:
            return False
        header = _follow(metadata, batch_at)
    return kind in (2, 3) and _slot(metadata, header, 3) != 0


LIBRARIES = {"pandas": _pandas}
NESTED: dict[int, Read] = {
    PANDAS_FRAME: _read_frame,
    PANDAS_SERIES: _read_series,
    PANDAS_INDEX: _read_index,
    ARROW: _read_arrow,
}
