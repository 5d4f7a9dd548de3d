"""Dates, times of day, moments and spans, with their zones.

A zone travels as its key (``Europe/Berlin``) and the offset at that moment. The key is taken where
the reader's own tables have that zone and agree on the offset; else the offset, which always gives
the same moment. Any other tzinfo travels as its offset and name at that moment.

Standard library only, Python 3.6: both ends of a session use it.
"""

from __future__ import annotations

import os
import re
import struct
import sys
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING

from remit._values.codes import (
    DATE,
    DATE_FORM,
    DATETIME,
    TIME,
    TIME_FORM,
    TIMEDELTA,
    TIMEDELTA_FORM,
)
from remit._values.limits import ValueRefused

if TYPE_CHECKING:
    from remit._values.reader import Read, Reader
    from remit._values.writer import Write, Writer

# What an offset is, and how long the name that follows it: then there is the zone's key or name.
_ZONE = struct.Struct(">Bq")
_FIXED, _NAMED, _KEYED, _KEYED_ANYHOW = range(4)
_MOST_NAME = 255
_MICROSECOND = timedelta(microseconds=1)
_KEY = re.compile(r"[A-Za-z0-9_+-]{1,64}(?:/[A-Za-z0-9_+-]{1,64}){0,3}\Z")


def _pack_zone(zone: tzinfo | None, offset: timedelta | None, name: str | None) -> bytes:
    """``offset`` and ``name`` are what ``zone`` says for the moment in question."""
    if zone is None:
        return b""
    key = getattr(zone, "key", None) if _is_zoneinfo(zone) else None
    if isinstance(key, str) and is_key(key):
        if offset is None:
            return _ZONE.pack(_KEYED_ANYHOW, 0) + key.encode("ascii")
        return _ZONE.pack(_KEYED, offset // _MICROSECOND) + key.encode("ascii")
    if offset is None:
        raise ValueRefused("", "its time zone tells no offset")
    if type(zone) is timezone and len(zone.__getinitargs__()) == 1:  # type: ignore[attr-defined]
        name = None
    if name is None:
        return _ZONE.pack(_FIXED, offset // _MICROSECOND)
    text = name.encode("utf-8", "surrogatepass")[:_MOST_NAME]
    return _ZONE.pack(_NAMED, offset // _MICROSECOND) + text


def _is_zoneinfo(zone: tzinfo) -> bool:
    zoneinfo = sys.modules.get("zoneinfo")
    return zoneinfo is not None and type(zone) is getattr(zoneinfo, "ZoneInfo", None)


def _unpack_zone(data: bytes) -> tuple[tzinfo | None, tzinfo | None]:
    """The zone by its key, None where the reader does not have it, and the one by its offset."""
    if not data:
        return None, None
    kind, offset = _ZONE.unpack_from(data)
    if kind > _KEYED_ANYHOW or len(data) > _ZONE.size + _MOST_NAME:
        raise ValueRefused("", "a time zone of no known kind")
    name = str(data[_ZONE.size :], "utf-8", "surrogatepass")
    if kind == _KEYED_ANYHOW:
        zone = zone_of(name)
        if zone is None:
            raise ValueRefused("", "the time zone %r is not known here" % name)
        return zone, None
    span = timedelta(microseconds=offset)
    if kind == _FIXED:
        return None, timezone(span)
    return (zone_of(name) if kind == _KEYED else None), timezone(span, name)


def is_key(name: object) -> bool:
    """Whether it can be the key of a zone: no path out of the tables, no name of a package."""
    return type(name) is str and _KEY.match(name) is not None


def zone_of(key: str) -> tzinfo | None:
    """The zone of that key, where this Python has it. Raises ValueRefused for what is no key."""
    if not is_key(key):
        raise ValueRefused("", "a time zone of no sound name")
    try:
        import zoneinfo
    except ImportError:  # Python 3.8
        return None
    # ZoneInfo would look for a package by that name where there is no such file.
    known = any(os.path.isfile(os.path.join(path, key)) for path in zoneinfo.TZPATH)
    if not known and zoneinfo.TZPATH and any(map(os.path.isdir, zoneinfo.TZPATH)):
        return None
    if not known and key not in zoneinfo.available_timezones():
        return None
    try:
        return zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return None


def _pack_time(value: datetime | time) -> bytes:
    parts = (value.hour, value.minute, value.second, value.microsecond, value.fold)
    return TIME_FORM.pack(*parts)


def _asked(value: datetime | time) -> tuple[timedelta | None, str | None]:
    # A tzinfo of the user's own may raise anything.
    try:
        return value.utcoffset(), value.tzname()
    except Exception as exc:
        raise ValueRefused("", "its time zone raised %s" % type(exc).__name__) from None


def _datetime(writer: Writer, value: datetime) -> None:
    day = DATE_FORM.pack(value.year, value.month, value.day)
    zone = _pack_zone(value.tzinfo, *_asked(value))
    writer.ext(DATETIME, day + _pack_time(value) + zone)


def _read_datetime(reader: Reader, end: int) -> datetime:
    year, month, day = DATE_FORM.unpack(reader.piece(DATE_FORM.size))
    hour, minute, second, microsecond, fold = TIME_FORM.unpack(reader.piece(TIME_FORM.size))
    zone = reader.rest(end)
    named = zone[:1] == bytes((_KEYED,))
    keyed, fixed = _unpack_zone(zone)
    plain = datetime(year, month, day, hour, minute, second, microsecond, fold=fold)
    if keyed is not None:
        value = plain.replace(tzinfo=keyed)
        if fixed is None or value.utcoffset() == fixed.utcoffset(None):
            return value
    if named and reader.exact:
        raise ValueRefused("", "the time zone %s is not known here, or not as it is there" % fixed)
    return plain.replace(tzinfo=fixed)


def _date(writer: Writer, value: date) -> None:
    writer.ext(DATE, DATE_FORM.pack(value.year, value.month, value.day))


def _read_date(reader: Reader, end: int) -> date:
    return date(*DATE_FORM.unpack(reader.rest(end)))


def _time(writer: Writer, value: time) -> None:
    writer.ext(TIME, _pack_time(value) + _pack_zone(value.tzinfo, *_asked(value)))


def _read_time(reader: Reader, end: int) -> time:
    hour, minute, second, microsecond, fold = TIME_FORM.unpack(reader.piece(TIME_FORM.size))
    keyed, fixed = _unpack_zone(reader.rest(end))
    return time(hour, minute, second, microsecond, keyed or fixed, fold=fold)


def _timedelta(writer: Writer, value: timedelta) -> None:
    writer.ext(TIMEDELTA, TIMEDELTA_FORM.pack(value.days, value.seconds, value.microseconds))


def _read_timedelta(reader: Reader, end: int) -> timedelta:
    return timedelta(*TIMEDELTA_FORM.unpack(reader.rest(end)))


WRITERS: dict[type, Write] = {
    datetime: _datetime,
    date: _date,
    time: _time,
    timedelta: _timedelta,
}
PLAIN: dict[int, Read] = {
    DATETIME: _read_datetime,
    DATE: _read_date,
    TIME: _read_time,
    TIMEDELTA: _read_timedelta,
}
