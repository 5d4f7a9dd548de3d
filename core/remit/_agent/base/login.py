"""A line run by the account's login shell, so that what only logins read is there."""

from __future__ import annotations

import os

from remit._agent.base.environment import account

# Those that are login shells by how they are called, and may know no option for it: dash, csh.
_BY_NAME = (b"sh", b"dash", b"ash", b"ksh", b"mksh", b"csh", b"tcsh", b"busybox")


def shell() -> bytes:
    """By the password database, else the environment; else /bin/sh."""
    import pwd

    try:
        named = os.fsencode(pwd.getpwuid(os.geteuid()).pw_shell)
    except KeyError:
        named = account().get(b"SHELL", b"")
    return named or b"/bin/sh"


def words(program: bytes, line: bytes) -> list[bytes]:
    """What that shell is given, its own name first."""
    name = os.path.basename(program)
    if name in _BY_NAME:
        return [b"-" + name, b"-c", line]
    return [name, b"-l", b"-c", line]
