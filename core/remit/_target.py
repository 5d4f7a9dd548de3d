"""Targets: ``scheme:address?options`` as the user wrote it, taken apart and checked. No I/O."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from remit._errors import PluginError, RemitError, TargetError
from remit._plugins import COMMON_OPTIONS, Plugins
from remit.abc import ChecksTarget, TakesOptions, TakesRawAddress, Target, Transport

# RFC 3986, 3.1.
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):")
# Bytes of the command line that are no text: PEP 383.
_NO_TEXT = re.compile(r"[\ud800-\udfff]")
_VIA = "via"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def parse_target(
    text: str,
    plugins: Plugins,
    *,
    via: Sequence[str] = (),
    connect_timeout: float = 30.0,
    persist: float = 0.0,
) -> tuple[Target, Transport]:
    """The target and its transport. ``via``: words that stand before the interpreter there, as
    ``?via=`` has them; the target says them then, if it has options. Raises TargetError for what
    can never be right."""
    _check_text(text)
    scheme, transport, rest = _split_scheme(text, plugins)
    raw = isinstance(transport, TakesRawAddress) and transport.raw_address
    address, _, query = (rest, "", "") if raw else rest.partition("?")
    if not raw and address.startswith("//"):
        address = address[2:].rstrip("/")
    if address.startswith("-"):
        # A tool would take it for an option: CVE-2017-1000117 was that.
        raise TargetError(f"the address in {text!r} starts with '-'")
    known = COMMON_OPTIONS | set(
        transport.option_names if isinstance(transport, TakesOptions) else ()
    )
    options = _options(text, query, known)
    if via:
        if _VIA in options:
            raise TargetError(f"{text!r} gives {_VIA!r} twice", hint="in the target or beside it")
        options[_VIA] = shlex.join(via)
        text = text if raw else with_option(text, _VIA, options[_VIA])
    target = Target(
        scheme=scheme,
        address=address,
        options=options,
        text=text,
        connect_timeout=connect_timeout,
        persist=persist,
    )
    if isinstance(transport, ChecksTarget):
        try:
            transport.check(target)
        except RemitError:
            raise
        except BaseException as exc:
            raise PluginError.of(plugins.whose(transport), "check()", exc) from exc
    return target, transport


def _check_text(text: str) -> None:
    if not text:
        raise TargetError(
            "the target is empty", hint="local:, or SCHEME:ADDRESS; `remit transports`"
        )
    if _NO_TEXT.search(text):
        raise TargetError(
            f"the target {text!r} holds a byte that is not UTF-8", hint="%XX in options"
        )
    if _CONTROL.search(text):
        raise TargetError(f"the target {text!r} holds a control character")


def _split_scheme(text: str, plugins: Plugins) -> tuple[str, Transport, str]:
    match = _SCHEME.match(text)
    if match:
        return match[1], plugins.transport(match[1]), text[match.end() :]
    transport = plugins.bare_word_transport()
    if transport is None:
        raise TargetError(f"{text!r} names no transport, and no plugin claims bare words")
    return transport.scheme, transport, text


def _options(text: str, query: str, known: frozenset[str] | set[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    if not query:
        return options
    from urllib.parse import unquote  # slow to import, and few targets have options

    for pair in filter(None, query.split("&")):
        # A "+" is itself, not a blank as in a form: it is common in the names of files.
        name, _, value = (unquote(part, errors="surrogateescape") for part in pair.partition("="))
        if name not in known:
            raise TargetError(
                f"{text!r} has an option {name!r} that its transport does not know",
                hint="one of " + ", ".join(sorted(known)),
            )
        if name in options:
            raise TargetError(f"{text!r} gives {name!r} twice")
        if not value or value.startswith("-") or _CONTROL.search(value):
            raise TargetError(f"{text!r}: {name}={value!r} is invalid")
        if name == _VIA:
            _check_via(text, value)
        options[name] = value
    return options


def _check_via(text: str, value: str) -> None:
    try:
        words = shlex.split(value)
    except ValueError as exc:
        raise TargetError(
            f"{text!r}: {_VIA}={value!r} is no list of words: {exc}",
            hint="`&` within is written %26",
        ) from exc
    if not words or not words[0]:
        raise TargetError(f"{text!r}: {_VIA}={value!r} names no program")


def via(target: Target) -> tuple[str, ...]:
    """The words that stand before the interpreter there."""
    return tuple(shlex.split(target.options.get(_VIA, "")))


def with_option(text: str, name: str, value: str) -> str:
    """The text of a target with one more option."""
    # What else a value may hold is no part of the query's own marks.
    quoted = value.replace("%", "%25").replace("&", "%26")
    return f"{text}{'&' if '?' in text else '?'}{name}={quoted}"
