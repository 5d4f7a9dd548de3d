"""Values as data on the caller's side: what the codec refuses is a ResultError here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remit._errors import ResultError
from remit._values import codec
from remit._values.limits import DEFAULT, Limits, ValueRefused

if TYPE_CHECKING:
    from remit._values.reader import Source
    from remit._values.writer import Buffer


def encode(value: object, limits: Limits = DEFAULT) -> list[Buffer]:
    """As `codec.encode`. Raises ResultError."""
    try:
        return codec.encode(value, limits)
    except ValueRefused as refused:
        raise result_error(refused) from refused


def decode(data: Source, limits: Limits = DEFAULT) -> Any:
    """As `codec.decode`. Raises ResultError, and nothing else."""
    try:
        return codec.decode(data, limits)
    except ValueRefused as refused:
        raise result_error(refused) from refused


def result_error(refused: ValueRefused) -> ResultError:
    """What the caller is told, also of a value that was refused on the target."""
    if refused.path:
        hint = "return what it holds as lists, dicts, numbers and text"
        return ResultError(f"cannot be sent as data: {refused}", hint=hint)
    return ResultError(f"a result could not be read: {refused.why}")
