"""How a function failed, as text: what `remit.JobFailed` tells."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from remit._values.limits import ValueRefused
from remit._wire.msgpack import pack
from remit._worker import programs

if TYPE_CHECKING:
    from typing import Any

_MAX_TRACEBACK = 1 << 16
_MAX_MESSAGE = 1 << 14
_OURS = "remit/_"


def told(exc: BaseException) -> tuple[str, list[bytes]]:
    """One line for an outcome, and the body: packed {kind, type, message, traceback, notes}.

    ``kind`` is ``raised``, or ``result`` where the function did return, but not data.
    """
    kind, name, message = "raised", _name(type(exc)), _text(exc)
    if isinstance(exc, ValueRefused):
        kind, name = "result", "ResultError"
    elif isinstance(exc, ImportError):
        try:
            message = programs.explain_missing(exc) or message
        except Exception:  # whatever was put into its attributes
            pass
    facts: dict[str, Any] = {
        "kind": kind,
        "type": name,
        "message": message,
        "traceback": _traceback(exc),
        "notes": _notes(exc),
    }
    summary = (name + ": " + message) if message else name
    return " ".join(summary.split()), [pack(facts)]


def _name(kind: type) -> str:
    """As tracebacks write it: without a module where everybody knows it."""
    module = getattr(kind, "__module__", None)
    name = kind.__qualname__
    if module in (None, "builtins", "__main__") or not isinstance(module, str):
        return name
    return "%s.%s" % (module, name)


def _text(exc: BaseException) -> str:
    try:
        return str(exc)[:_MAX_MESSAGE]
    except BaseException as problem:
        return "(its message cannot be shown: %s)" % type(problem).__name__


def _notes(exc: BaseException) -> list[str]:
    """Whatever the function, or what it uses, made of them."""
    try:
        notes = getattr(exc, "__notes__", None)
        if not isinstance(notes, (list, tuple)):
            return []
        return [str(note)[:_MAX_MESSAGE] for note in notes[:16]]
    except BaseException:
        return []


def _traceback(exc: BaseException) -> str:
    """What Python would print, but for our own part of the stack."""
    tb = exc.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith(_OURS):
        tb = tb.tb_next
    try:
        text = "".join(traceback.format_exception(type(exc), exc, tb))
    except BaseException as problem:  # an exception whose own methods fail
        text = "%s (no traceback: %s)\n" % (_name(type(exc)), type(problem).__name__)
    if len(text) > _MAX_TRACEBACK:
        half = _MAX_TRACEBACK // 2
        text = "%s\n… %d characters …\n%s" % (text[:half], len(text) - 2 * half, text[-half:])
    return text
