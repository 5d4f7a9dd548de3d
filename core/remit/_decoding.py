"""What a target sends, decoded and checked by type before anyone reads it. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec

from remit._errors import RemoteProtocolError

_T = TypeVar("_T")

_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def decode(body: bytes, kind: type[_T]) -> _T:
    """The value in ``body``. Raises RemoteProtocolError where it is no ``kind``."""
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.msgpack.Decoder(kind)
    try:
        value: _T = decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise RemoteProtocolError(f"the agent's {kind.__name__} is malformed: {exc}") from exc
    return value


def moment(time: float | None) -> datetime | None:
    """An aware datetime of Unix seconds. Raises RemoteProtocolError for a time that cannot be."""
    if time is None:
        return None
    try:
        return datetime.fromtimestamp(time, UTC)
    except (ValueError, OverflowError, OSError) as exc:
        raise RemoteProtocolError(f"the agent told a time of {time!r}") from exc
