"""What ``import remit`` gives to a function that runs as a job."""

from __future__ import annotations

from typing import TYPE_CHECKING

# What stands for objects whose classes stayed elsewhere: it may be an argument, or be returned.
from remit._values.placeholders import EnumMember, ExceptionRecord, Struct

if TYPE_CHECKING:
    from typing import NoReturn

__all__ = ["EnumMember", "ExceptionRecord", "Struct", "progress"]


def progress(done: float, total: float | None = None, text: str = "") -> None:
    """Tells the caller how far the function is, as a record of the stream ``progress``.

    Where nobody listens (in `Session.call`, or outside a job) it does nothing.
    """
    from remit._worker import outlet

    if outlet.current is not None:
        outlet.current.progress(done, total, text)


def __getattr__(name: str) -> NoReturn:
    raise AttributeError(
        "in a job's function remit has %s; there is no %r" % (", ".join(__all__), name)
    )
