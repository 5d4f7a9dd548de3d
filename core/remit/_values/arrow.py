"""pyarrow's tables, batches and arrays, as an Arrow IPC stream.

Standard library only when imported, Python 3.6: pyarrow is used where the writer already has it,
and asked for by name by the reader.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING

from remit._values.arrays import library
from remit._values.codes import ARROW
from remit._values.limits import ValueRefused

if TYPE_CHECKING:
    from typing import Any

    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

# Older ones made objects of what came in a stream, by its own account (CVE-2023-47248).
_SAFE_ARROW = (14, 0, 1)
_KINDS = ("Table", "RecordBatch", "ChunkedArray", "Array")


def kind_of(kind: type) -> Write | None:
    """What writes an array or a table of pyarrow's: there are many classes of them."""
    if kind.__module__.split(".")[0] != "pyarrow":
        return None
    arrow = sys.modules.get("pyarrow")
    kinds = tuple(filter(None, (getattr(arrow, name, None) for name in _KINDS)))
    return _arrow if issubclass(kind, kinds) else None


def _arrow(writer: Writer, value: Any) -> None:
    arrow = sys.modules["pyarrow"]
    kind = next(n for n, name in enumerate(_KINDS) if isinstance(value, getattr(arrow, name)))
    if kind >= 2:
        column = value if kind == 2 else arrow.chunked_array([value])
        table = arrow.Table.from_arrays([column], names=[""])
    else:
        table = value
    for column in table.columns:
        writer.weigh(_imagined(column))
    sink = arrow.BufferOutputStream()
    # Not compressed: a reader is to know how much it will be.
    version = arrow.ipc.MetadataVersion.V5
    options = arrow.ipc.IpcWriteOptions(compression=None, metadata_version=version)
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
    if kind >= len(_KINDS) or reader.at > end:
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
        _check_message(memoryview(message.metadata).cast("B"))
    table = ipc.open_stream(stream).read_all()
    table.validate(full=True)
    for column in table.columns:
        reader.weigh(_imagined(column))
    if kind == 0:
        return table
    if kind == 1:
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else arrow.RecordBatch.from_pylist([], schema=table.schema)
    column = table.column(0)
    if kind == 2:
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _imagined(column: Any) -> int:
    """How many items of it, and of the arrays within it, stand in no memory: so few bytes may tell
    of any number of them."""
    return (
        sum(map(_imagined_in, column.chunks)) if hasattr(column, "chunks") else _imagined_in(column)
    )


def _imagined_in(array: Any) -> int:
    types = sys.modules["pyarrow"].types
    kind = array.type
    if hasattr(array, "storage"):
        return _imagined_in(array.storage)
    if types.is_null(kind) or (types.is_fixed_size_binary(kind) and not kind.byte_width):
        return len(array)
    if getattr(types, "is_run_end_encoded", _never)(kind):
        return len(array) + _imagined_in(array.values)
    if types.is_dictionary(kind):
        return _imagined_in(array.dictionary)
    if types.is_struct(kind) or types.is_union(kind):
        fields = [array.field(place) for place in range(kind.num_fields)]
        return sum(map(_imagined_in, fields)) if fields else len(array)
    if types.is_fixed_size_list(kind) and not kind.list_size:
        return len(array)
    if types.is_map(kind):
        return _imagined_in(array.keys) + _imagined_in(array.items)
    return _imagined_in(array.values) if types.is_nested(kind) else 0


def _never(kind: Any) -> bool:
    return False


_INT32, _UINT16 = struct.Struct("<i"), struct.Struct("<H")
# MetadataVersion.V5. Earlier ones may say elsewhere that a body is compressed.
_VERSION = 4


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


def _check_message(metadata: memoryview) -> None:
    """Refuses one of another version than ours, or whose body is compressed. Source: Message.fbs,
    format 1.5: a Message has its version, its header's type and the header as fields 0 to 2, a
    DictionaryBatch (2) its RecordBatch (3) as field 1, and that its compression as field 3."""
    message = _follow(metadata, 0)
    version_at = _slot(metadata, message, 0)
    if not version_at or _UINT16.unpack_from(metadata, version_at)[0] != _VERSION:
        raise ValueRefused("", "an Arrow stream of another version than 5")
    kind_at, header_at = _slot(metadata, message, 1), _slot(metadata, message, 2)
    if not kind_at or not header_at:
        return
    kind, header = metadata[kind_at], _follow(metadata, header_at)
    if kind == 2:
        batch_at = _slot(metadata, header, 1)
        if not batch_at:
            return
        header = _follow(metadata, batch_at)
    if kind in (2, 3) and _slot(metadata, header, 3):
        raise ValueRefused("", "an Arrow stream that is compressed")


NESTED: dict[int, Read] = {ARROW: _read_arrow}
