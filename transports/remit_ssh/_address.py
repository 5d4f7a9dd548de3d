"""``user@host:port`` taken apart and checked. No I/O."""

from __future__ import annotations

import re
from typing import NoReturn

import attrs

import remit
from remit.abc import Target

# What can mean something to the shell of a ProxyCommand, where ssh puts host and user in unquoted
# (CVE-2023-51385; ssh itself refuses them from 9.6 on), and what is in no name: "/" and blanks.
_NEVER = re.compile(r"[\s\x00-\x1f\x7f-\x9f'\"`$;&<>|(){}/]")
_PORT = re.compile(r"[0-9]{1,5}", re.ASCII)


@attrs.frozen
class Address:
    """Where ssh is to go. ``user`` and ``port`` are None where ssh's configuration decides."""

    host: str
    user: str | None = None
    port: int | None = None


def parse_address(target: Target) -> Address:
    """Raises TargetError for what ssh could misread or never reach."""
    # As ssh does it, the last "@" counts: the user may be one of a directory, me@corp.
    user, at, place = target.address.rpartition("@")
    host, port = _host_and_port(target, place)
    if not host:
        _refuse(target, "names no host", hint="ssh:HOST, ssh://USER@HOST:PORT")
    if at and not user:
        _refuse(target, "has an empty user")
    if ":" in user:
        _refuse(target, "holds a password", hint="a key: ssh:HOST?key=FILE, or ssh-agent")
    for what, name in (("host", host), ("user", user)):
        if name.startswith("-"):
            # ssh would take it for an option: CVE-2017-1000117 was that.
            _refuse(target, f"has a {what} that starts with '-'")
        if _NEVER.search(name) or name.endswith("\\"):
            _refuse(target, f"has a {what} with a character that no {what} has")
    return Address(host, user or None, port)


def _host_and_port(target: Target, place: str) -> tuple[str, int | None]:
    if place.startswith("["):
        host, bracket, rest = place[1:].partition("]")
        if not bracket or not _is_ipv6(host) or rest[:1] not in ("", ":"):
            _refuse(target, "has no IPv6 address between [ and ]", hint="ssh://[::1]:22")
        return host, _port(target, rest[1:]) if rest else None
    if place.count(":") > 1:
        if not _is_ipv6(place):
            _refuse(target, "has more than one port", hint="ssh://HOST:PORT, ssh://[::1]:22")
        return place, None
    host, colon, port = place.partition(":")
    return host, _port(target, port) if colon else None


def _port(target: Target, text: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        _refuse(target, f"has the port {text!r}, which is not from 1 to 65535")
    return int(text)


def _is_ipv6(text: str) -> bool:
    import ipaddress  # slow to import, and few hosts are numbers

    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _refuse(target: Target, why: str, *, hint: str = "") -> NoReturn:
    raise remit.TargetError(f"the target {str(target)!r} {why}", hint=hint)
