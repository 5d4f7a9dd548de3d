"""Variables of the environment that have a meaning for Python, in one that has already started."""

from __future__ import annotations

import os
import sys
import time
import warnings
from typing import TYPE_CHECKING

from remit._agent.base import environment

if TYPE_CHECKING:
    from typing import Mapping


def update(env: Mapping[bytes, bytes | None]) -> None:
    """Changes the environment, and what Python has made of it as far as that can still be changed.

    What is read whenever it is used (PYTHONBREAKPOINT, PYTHONASYNCIODEBUG) needs nothing; what
    cannot be changed any more the caller refuses. Streams and warnings are opened after this, by
    `streams` and `filter_warnings`.
    """
    before = os.environ.get("PYTHONPATH", "")
    environment.change(os.environb, env)
    if b"TZ" in env:
        time.tzset()
    if not env.keys().isdisjoint((b"LC_ALL", b"LC_CTYPE", b"LANG")):
        _set_locale()
    if b"PYTHONPATH" in env:
        old = [place for place in before.split(os.pathsep) if place]
        new = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
        sys.path[:] = new + [place for place in sys.path if place not in old]
    if b"PYTHONDONTWRITEBYTECODE" in env:
        sys.dont_write_bytecode = bool(env[b"PYTHONDONTWRITEBYTECODE"])
    if b"PYTHONPYCACHEPREFIX" in env:
        sys.pycache_prefix = os.environ.get("PYTHONPYCACHEPREFIX") or None
    if env.get(b"PYTHONFAULTHANDLER"):
        import faulthandler

        faulthandler.enable()
    frames = _number(env, b"PYTHONTRACEMALLOC")
    if frames:
        import tracemalloc

        tracemalloc.start(frames)
    digits = _number(env, b"PYTHONINTMAXSTRDIGITS")
    if digits is not None and hasattr(sys, "set_int_max_str_digits"):
        sys.set_int_max_str_digits(digits)


def _number(env: Mapping[bytes, bytes | None], name: bytes) -> int | None:
    text = env.get(name) or b""
    return int(text) if text.isdigit() else None


def _set_locale() -> None:
    import locale

    try:
        locale.setlocale(locale.LC_CTYPE, "")
    except locale.Error:
        pass  # as Python itself, where there is no such locale


def filter_warnings() -> None:
    """As PYTHONWARNINGS says, on top of what is there."""
    words = os.environ.get("PYTHONWARNINGS", "")
    options = [word.strip() for word in words.split(",") if word.strip()]
    if options:
        warnings._processoptions(options)  # type: ignore[attr-defined]


def streams() -> tuple[str, str | None, bool]:
    """Encoding and error handler that PYTHONIOENCODING asks for, and whether stdout and stderr are
    to be unbuffered."""
    encoding, _, errors = os.environ.get("PYTHONIOENCODING", "").partition(":")
    return encoding or "utf-8", errors or None, bool(os.environ.get("PYTHONUNBUFFERED"))
