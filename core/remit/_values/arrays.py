"""numpy's arrays and scalars: what they hold is not copied, neither here nor there.

A type travels as numpy writes it (``<f8``), a structured one with its fields' offsets; objects have
no form as bytes. Standard library only when imported, Python 3.6: numpy is used where the writer
already has it, and asked for by name by the reader.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from remit._values.codes import NUMPY_ARRAY, NUMPY_SCALAR
from remit._values.limits import ValueRefused

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

# All that a type's name may be: nothing else is shown to numpy, which would look for commas, names
# of Python types and `O` in it.
_DTYPE = re.compile(
    r"\|b1|[|<>][iu]1|[<>][iu][248]|[<>]f(?:2|4|8|16)|[<>]c(?:8|16|32)"
    r"|\|S[1-9][0-9]{0,8}|[<>]U[1-9][0-9]{0,7}|\|V[1-9][0-9]{0,8}"
    r"|[<>][mM]8(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"
)
# numpy's own limit, before 2.0.
_MOST_DIMENSIONS = 32
_MOST_FIELDS = 10_000


def types(numpy: ModuleType) -> dict[type, Write]:
    return {numpy.ndarray: _array}


def scalar_of(kind: type) -> Write | None:
    numpy = sys.modules.get("numpy")
    generic = getattr(numpy, "generic", None)
    return _scalar if generic is not None and issubclass(kind, generic) else None


def library(name: str) -> Any:
    """A library that a value needs. Raises ValueRefused where it is not installed."""
    # No other name ever comes here.
    assert name in ("numpy", "pandas", "pyarrow")
    try:
        return __import__(name)
    except ImportError as exc:
        raise ValueRefused(
            "", "%s is needed to read this value, and is not installed" % name
        ) from exc


def _described(dtype: Any) -> Any:
    """What the type is as lists and text: a name; or a type and a shape; or the names, types and
    offsets of fields and their size together. Raises ValueRefused."""
    if dtype.hasobject:
        raise ValueRefused("", "an array of objects (%s); its tolist() can be sent" % dtype)
    if not dtype.itemsize:
        raise ValueRefused("", "numbers of size zero (%s)" % dtype)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return [_described(base), list(shape)]
    if dtype.names is not None:
        fields = [dtype.fields[name] for name in dtype.names]
        if any(len(field) > 2 for field in fields):
            raise ValueRefused("", "a structured type whose fields have titles")
        kinds = [_described(field[0]) for field in fields]
        return [list(dtype.names), kinds, [field[1] for field in fields], dtype.itemsize]
    name = dtype.str
    numpy = sys.modules["numpy"]
    # Types that others have added to numpy call themselves bytes of no type.
    if not _DTYPE.fullmatch(name) or numpy.dtype(name) != dtype:
        raise ValueRefused("", "the type %s has no form as bytes" % dtype)
    return name


def _dtype(numpy: Any, described: Any) -> Any:
    """Raises ValueRefused, and what numpy raises."""
    if type(described) is str:
        if not _DTYPE.fullmatch(described):
            raise ValueRefused("", "not a type of numpy's")
        return numpy.dtype(described)
    if type(described) is list and len(described) == 2:
        base, shape = described
        return numpy.dtype((_dtype(numpy, base), _shape(shape)))
    if type(described) is list and len(described) == 4:
        names, kinds, offsets, size = described
        lists = type(names) is list and type(kinds) is list and type(offsets) is list
        if lists and len(names) == len(kinds) == len(offsets) <= _MOST_FIELDS:
            texts = all(type(name) is str for name in names)
            if texts and all(type(number) is int for number in [*offsets, size]):
                formats = [_dtype(numpy, kind) for kind in kinds]
                words = {"names": names, "formats": formats, "offsets": offsets, "itemsize": size}
                return numpy.dtype(words)
    raise ValueRefused("", "not a type of numpy's")


def _shape(shape: Any) -> tuple[int, ...]:
    sound = type(shape) is list and len(shape) <= _MOST_DIMENSIONS
    if not sound or not all(type(size) is int and 0 <= size < 1 << 62 for size in shape):
        raise ValueRefused("", "not the shape of an array")
    return tuple(shape)


def _array(writer: Writer, value: Any) -> None:
    described = _described(value.dtype)
    if value.ndim > _MOST_DIMENSIONS:
        raise ValueRefused("", "an array of more than %d dimensions" % _MOST_DIMENSIONS)
    flags = value.flags
    order = "F" if flags.f_contiguous and not flags.c_contiguous else "C"
    whole = flags.f_contiguous or flags.c_contiguous
    writer.enter(value, 3)
    writer.begin(NUMPY_ARRAY)
    writer.value(described)
    writer.value(order)
    writer.value(list(value.shape))
    writer.aligned(_contents(value if whole else value.copy(order="C")))
    writer.end()
    writer.leave(value)


def _contents(value: Any) -> memoryview:
    if not value.size:
        return memoryview(b"")
    numpy = sys.modules["numpy"]
    # Python's buffers know no dates: as bytes.
    flat = value.reshape(-1, order="A").view(numpy.ndarray)
    return memoryview(flat.view(numpy.uint8))


def _read_array(reader: Reader, end: int) -> Any:
    reader.charge(3)
    dtype_words, order, shape_words = reader.value(), reader.value(), reader.value()
    (zeros,) = reader.piece(1)
    reader.piece(zeros)
    numpy = library("numpy")
    dtype, shape = _dtype(numpy, dtype_words), _shape(shape_words)
    sound = dtype.itemsize and dtype.subdtype is None and not dtype.hasobject
    if not sound or order not in ("C", "F"):
        raise ValueRefused("", "no array that could have been sent")
    count = 1
    for size in shape:
        count *= size
    if count * dtype.itemsize != end - reader.at:
        raise ValueRefused("", "an array of another size than its contents")
    if not count:
        return numpy.empty(shape, dtype, order)
    array = numpy.frombuffer(reader.source, dtype, count, reader.at)
    if not array.flags.aligned or not array.flags.writeable:
        # The encoding does not begin at a round address, or is not ours to write to.
        array = numpy.frombuffer(bytearray(array.view(numpy.uint8)), dtype)
    reader.at = end
    _check_text(numpy, array)
    return array.reshape(shape, order=order)


def _check_text(numpy: Any, array: Any) -> None:
    """numpy takes any 32 bits for a character, and fails when it is looked at."""
    if array.dtype.names is not None:
        for name in array.dtype.names:
            _check_text(numpy, array[name])
    elif array.dtype.kind == "U":
        characters = numpy.ascontiguousarray(array).reshape(-1).view(array.dtype.byteorder + "u4")
        if characters.max() > sys.maxunicode:
            raise ValueRefused("", "text of no characters")


def _scalar(writer: Writer, value: Any) -> None:
    numpy = sys.modules["numpy"]
    dtype = value.dtype
    # A text of no length has a type of no size, which numpy makes no array of.
    array = numpy.asarray(value, dtype if dtype.itemsize else dtype.kind + "1")
    writer.enter(value, 1)
    writer.begin(NUMPY_SCALAR)
    writer.value(_described(array.dtype))
    writer.contents(array.tobytes())
    writer.end()
    writer.leave(value)


def _read_scalar(reader: Reader, end: int) -> Any:
    reader.charge(1)
    words = reader.value()
    data = reader.rest(end)
    numpy = library("numpy")
    dtype = _dtype(numpy, words)
    if dtype.hasobject or dtype.subdtype is not None or dtype.itemsize != len(data):
        raise ValueRefused("", "no scalar that could have been sent")
    array = numpy.frombuffer(data, dtype)
    _check_text(numpy, array)
    return array[0]


NESTED: dict[int, Read] = {NUMPY_ARRAY: _read_array, NUMPY_SCALAR: _read_scalar}
