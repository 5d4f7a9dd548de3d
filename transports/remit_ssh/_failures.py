"""What ssh's failures mean: its own words, and what to try. No I/O."""

from __future__ import annotations

import re

import attrs

import remit
from remit.abc import End, Target

# ssh's own; also that of a remote command that ended so, or was killed by a signal: ssh(1).
_OWN_STATUS = 255
# A warning of a changed host key has 13 lines; banners and debug output can have any number.
_EVIDENCE_LINES = 20


@attrs.frozen
class _Failure:
    pattern: re.Pattern[str]
    message: str
    hint: str
    kind: type[remit.ConnectError] = remit.ConnectError


def _failure(
    pattern: str, message: str, hint: str, kind: type[remit.ConnectError] = remit.ConnectError
) -> _Failure:
    return _Failure(re.compile(pattern, re.MULTILINE), message, hint, kind)


# The first that fits is taken, so causes stand before what follows from them: a jump host that
# refuses the key also makes the connection through it end early.
_FAILURES = (
    _failure(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} is not the one that is known; nothing was sent there",
        "find out why. If it may have changed, remove the line that ssh names, then `{ssh} {host}`",
    ),
    _failure(
        r"REVOKED HOST KEY DETECTED|host key .* is marked as revoked",
        "the host key of {host} is revoked; nothing was sent there",
        "ask whoever runs {host} for its new key",
    ),
    _failure(
        r"host key is known for|Host key verification failed",
        "the host key of {host} is not known",
        "`{ssh} {host}` once, and compare the fingerprint it shows",
    ),
    _failure(
        r"Bad configuration option|[Bb]ad configuration options?|Bad owner or permissions"
        r"|^Can't open user config file",
        "ssh does not accept its configuration",
        "`{ssh} -G {host}` reads the same configuration",
    ),
    _failure(
        r"Cannot execute command-line and remote command",
        "the configuration of {host} has a RemoteCommand, which leaves no room for remit's own",
        "a Host block without RemoteCommand, in a file of its own for ?config=",
    ),
    _failure(
        r"Permission denied(?: \(|, please)|Too many authentication failures"
        r"|[Aa]uthentication failed",
        "{host} did not let us in",
        "`{ssh} {host}` to see what it asks for; a key by ?key=FILE, or `ssh-add`",
        remit.AuthenticationError,
    ),
    _failure(
        r"Could not resolve hostname",
        "the name {host} was not found",
        "is it spelt right? Names from ssh_config count too",
    ),
    _failure(
        r"Connection refused",
        "{host} refused the connection",
        "is an ssh server running there, and on that port? ssh://HOST:PORT",
    ),
    _failure(
        r"Connection timed out|Operation timed out|timed out during banner exchange"
        r"|Timeout, server .* not responding",
        "{host} did not answer in time",
        "is it up, and does a firewall let ssh through? A longer connect timeout may help",
    ),
    _failure(
        r"No route to host|Network is unreachable|Host is down",
        "there is no way to {host}",
        "is this computer on the right network?",
    ),
    _failure(
        r"Unable to negotiate with",
        "{host} and this ssh have no common way to encrypt",
        "`{ssh} -v {host}` shows what each side offers",
    ),
    _failure(
        # ssh_exchange_identification: the same before OpenSSH 8.
        r"^(?:kex|ssh)_exchange_identification|^Connection (?:closed|reset) by"
        r"|Exceeded MaxStartups|Not allowed at this time",
        "{host} ended the connection before the login",
        "it may have too many logins at once (MaxStartups of its sshd): try again in a moment",
    ),
)


def explain(target: Target, ssh: str, host: str, end: End) -> remit.ConnectError | None:
    """The error that ssh's last words speak of; None where they say nothing of the kind. ``ssh`` is
    how a person starts it for that target."""
    if end.exit_status != _OWN_STATUS:
        return None
    said = end.stderr.decode(errors="replace")
    for failure in _FAILURES:
        if failure.pattern.search(said):
            return failure.kind(
                f"{target}: {failure.message.format(host=host)}",
                evidence="\n".join(_lines(said)),
                hint=failure.hint.format(ssh=ssh, host=host),
                exit_status=end.exit_status,
                stderr_tail=end.stderr,
            )
    return None


def _lines(said: str) -> list[str]:
    lines = [line.rstrip() for line in said.splitlines()]
    return [line for line in lines if line][-_EVIDENCE_LINES:]
