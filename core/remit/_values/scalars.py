"""What pandas' columns hold, one by one: moments, spans, periods, intervals, what is missing.

Standard library only when imported, Python 3.6: pandas is used where the writer already has it, and
asked for by name by the reader.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from remit._values.arrays import library
from remit._values.codes import PANDAS_SCALAR
from remit._values.limits import ValueRefused
from remit._values.tables import CLOSED, UNITS, frequency, zone_read, zone_told

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

_MISSING = -(1 << 63)


def types(pandas: ModuleType) -> dict[type, Write]:
    return {
        pandas.Timestamp: _timestamp,
        pandas.Timedelta: _timedelta,
        pandas.Period: _period,
        pandas.Interval: _interval,
        type(pandas.NaT): _not_a_time,
        type(pandas.NA): _not_available,
    }


def _write(writer: Writer, value: object, *words: Any) -> None:
    writer.enter(value, len(words))
    writer.begin(PANDAS_SCALAR)
    for word in words:
        writer.value(word)
    writer.end()
    writer.leave(value)


def _timestamp(writer: Writer, value: Any) -> None:
    zone = None if value.tzinfo is None else zone_told(value.tzinfo)
    if zone is None and value.fold:
        raise ValueRefused("", "a Timestamp with a fold and no time zone")
    _write(writer, value, "timestamp", *_counted(value.to_datetime64()), zone)


def _timedelta(writer: Writer, value: Any) -> None:
    _write(writer, value, "timedelta", *_counted(value.to_timedelta64()))


def _counted(value: Any) -> tuple[str, int]:
    """The unit of a moment or a span of numpy's, and how many of them."""
    numpy = sys.modules["numpy"]
    return numpy.datetime_data(value.dtype)[0], int(value.view("i8"))


def _period(writer: Writer, value: Any) -> None:
    _write(writer, value, "period", str(value.freqstr), int(value.ordinal))


def _interval(writer: Writer, value: Any) -> None:
    _write(writer, value, "interval", value.closed, value.left, value.right)


def _not_a_time(writer: Writer, value: Any) -> None:
    _write(writer, value, "NaT")


def _not_available(writer: Writer, value: Any) -> None:
    _write(writer, value, "NA")


def _read(reader: Reader, end: int) -> Any:
    pandas = library("pandas")
    reader.charge(1)
    kind = reader.value()
    if kind == "NaT":
        return pandas.NaT
    if kind == "NA":
        return pandas.NA
    reader.charge(2)
    if kind == "interval":
        closed, left, right = reader.value(), reader.value(), reader.value()
        if closed not in CLOSED:
            raise ValueRefused("", "no interval")
        return pandas.Interval(left, right, closed=closed)
    unit, count = reader.value(), reader.value()
    if type(count) is not int or count == _MISSING:
        raise ValueRefused("", "no moment, span or period")
    if kind == "period":
        return pandas.Period(ordinal=count, freq=frequency(unit))
    if unit not in UNITS:
        raise ValueRefused("", "a moment or a span of no known unit")
    numpy = library("numpy")
    if kind == "timedelta":
        return pandas.Timedelta(numpy.timedelta64(count, unit))
    if kind != "timestamp":
        raise ValueRefused("", "nothing of pandas' that is known here")
    zone = reader.value()
    moment = pandas.Timestamp(numpy.datetime64(count, unit))
    return moment if zone is None else moment.tz_localize("UTC").tz_convert(zone_read(zone))


NESTED: dict[int, Read] = {PANDAS_SCALAR: _read}
