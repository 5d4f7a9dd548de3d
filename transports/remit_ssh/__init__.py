"""Reach a computer by OpenSSH's client: ``ssh:HOST``, ``ssh://USER@HOST:PORT``, or just ``HOST``.

Whatever ``ssh HOST`` knows holds here too: ssh_config, agent, jump hosts, known_hosts.
``?config=`` is ssh's ``-F``; ``?key=`` is its ``-i``, which adds to the configuration's keys.
"""

from __future__ import annotations

import logging
import os
import shlex
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager

import attrs

import remit
from remit.abc import ByteStream, End, Target, Transport
from remit_ssh._address import Address, parse_address
from remit_ssh._hosts import hosts
from remit_ssh._quiet import is_quiet

_log = logging.getLogger("remit.ssh")

# ssh should give up before remit does: it knows why. A day is more than anybody waits.
_SHARE_OF_TIMEOUT = 0.9
_LONGEST_TIMEOUT = 86400.0


@attrs.frozen
class Ssh:
    """Starts the command by ``ssh``; never asks, never has a terminal."""

    program: str = "ssh"
    api: int = 1
    scheme: str = "ssh"
    bare_words: bool = True
    option_names: Collection[str] = ("config", "key")

    def check(self, target: Target) -> None:
        """Raises TargetError for an invalid target; starts nothing."""
        parse_address(target)
        for name in self.option_names:
            _file(target, name)

    def open(self, target: Target, argv: Sequence[str]) -> AbstractAsyncContextManager[ByteStream]:
        """Starts ``argv`` by ssh, which quotes nothing itself: the words go as one line for a
        shell. Raises TargetError and, entering, ConnectError where there is no ssh."""
        address = parse_address(target)
        timeout = min(target.connect_timeout, _LONGEST_TIMEOUT) * _SHARE_OF_TIMEOUT
        words = [self.program, "-T", "-o", "BatchMode=yes"]
        words += ["-o", f"ConnectTimeout={max(1, int(timeout))}"]
        if is_quiet(target.options.get("config")):
            words += ["-o", "LogLevel=ERROR"]  # else no failure would have a reason
        words += _way(target, address)
        _log.debug("%s", shlex.join([*words, address.host]))
        # ssh joins its arguments with spaces for the login shell over there: ssh(1).
        return remit.open_process([*words, "--", address.host, shlex.join(argv)])

    def explain(self, target: Target, end: End) -> remit.ConnectError | None:
        """What ssh's words mean: name not found, refused, host key changed, not let in."""
        from remit_ssh._failures import explain  # its many patterns are slow to compile

        address = parse_address(target)
        return explain(target, shlex.join(["ssh", *_way(target, address)]), address.host, end)

    def addresses(self) -> Collection[str]:
        """The hosts that the account's own ssh_config names."""
        return hosts(os.path.expanduser("~/.ssh/config"))


def _way(target: Target, address: Address) -> list[str]:
    """The options that lead ssh there, for us and for a person alike."""
    words = []
    if config := _file(target, "config"):
        words += ["-F", config]
    if key := _file(target, "key"):
        words += ["-i", key]
    if address.port is not None:
        words += ["-p", str(address.port)]
    if address.user:
        words += ["-l", address.user]
    return words


def _file(target: Target, option: str) -> str | None:
    given = target.options.get(option)
    if given is None:
        return None
    # Made absolute: a name with a leading "-" would be an option.
    path = os.path.abspath(os.path.expanduser(given))
    if not os.path.isfile(path):
        raise remit.TargetError(f"{target}: {option}={given}: there is no such file")
    if not os.access(path, os.R_OK):
        raise remit.TargetError(f"{target}: {option}={given}: it is not readable")
    return path


@remit.hookimpl
def remit_transports() -> list[Transport]:
    """The transports that come with this plugin: the hook of that name."""
    return [Ssh()]
