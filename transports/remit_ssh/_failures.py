"""What ssh's failures mean: its own words, and what to try. No I/O."""

from __future__ import annotations

import re

import attrs

import remit
from remit.abc import End, Target

# ssh's own; also that of a remote command that ended so, or was killed by a signal: ssh(1).
_OWN_STATUS = 255


# How ssh's own lines begin. Whatever the target's login prints comes before its last ones.
_OWN = re.compile(
    r"ssh: |\S+@\S+: Permission denied |Permission denied, |(?:kex|ssh)_exchange_identification"
    r"|Connection (?:closed|reset|timed out|to )|Host key |No \S+ host key|@|IT IS POSSIBLE|Someone"
    r"|It is |The |(?:SHA256|MD5):|Please contact|Add correct|Offending|\s+(?:remove|ssh-keygen)"
    r"|Password auth|Keyboard|UpdateHostkeys|Received disconnect|Disconnected from|Timeout, server"
    r"|Unable to negotiate|Cannot execute|\S+:? line \d+|\S+: terminating|command-line|Bad |Can't"
    r"|Load key|Permissions |This private key|Warning: |debug\d|client_loop|channel \d+:|stdio forw"
    r"|banner exchange|ssh_dispatch|Authentication|sign_and_send|Too many|no such identity|WARNING"
    r"|REVOKED|Exceeded|Not allowed|mux|Killed by|identity_sign|get_agent|key_load|agent"
    r"|\S+ host key"
)
# What a connection says that is led through another program, once that has ended.
_LED_THROUGH = re.compile(
    r"Connection (?:closed|reset) by UNKNOWN port|(?:kex|ssh)_exchange_identification|stdio forw"
    r"|ssh_dispatch_run_fatal: Connection to UNKNOWN port"
)
_NOT_FROM_THERE = re.compile(r"^channel \d+: open failed: (.*)", re.MULTILINE)
# Whom ssh speaks of.
_WHO = re.compile(
    r"^ssh: connect to host (?P<a>\S+) port|^ssh: Could not resolve hostname (?P<b>[^\s:]+)"
    r"|^(?:\S+@)?(?P<c>[^@\s]+): Permission denied |host key is known for (?P<d>\S+)"
    r"|^Host key for (?P<e>\S+) has changed",
    re.MULTILINE,
)


@attrs.frozen
class _Failure:
    pattern: re.Pattern[str]
    message: str
    hint: str
    kind: type[remit.ConnectError] = remit.ConnectError
    lines: int = 2  # of the last ones, in which it is said
    lasting: bool = False  # until a person has done something


def _failure(pattern: str, message: str, hint: str, **more: object) -> _Failure:
    return _Failure(re.compile(pattern, re.MULTILINE), message, hint, **more)  # type: ignore[arg-type]


# A warning of a changed host key has 13 lines.
_BLOCK = 20

# The first that fits is taken, so causes stand before what follows from them.
_FAILURES = (
    _failure(
        r"REMOTE HOST IDENTIFICATION HAS CHANGED",
        "the host key of {host} has changed; nothing was sent there",
        "find out why. If it may have changed, remove the line that ssh names, then `{ssh} {host}`",
        lines=_BLOCK,
        lasting=True,
    ),
    _failure(
        r"REVOKED HOST KEY DETECTED|host key .* is marked as revoked",
        "the host key of {host} is revoked; nothing was sent there",
        "ask whoever runs {host} for its new key",
        lines=_BLOCK,
        lasting=True,
    ),
    _failure(
        r"host key is known for|Host key verification failed",
        "the host key of {host} is not known",
        "`{ssh} {host}` once, and compare the fingerprint it shows",
        lasting=True,
    ),
    _failure(
        r"Bad configuration option|[Bb]ad configuration options?|Bad owner or permissions"
        r"|^Can't open user config file",
        "ssh does not accept its configuration",
        "`{ssh} -G {host}` reads the same configuration",
        lasting=True,
    ),
    _failure(
        r"Cannot execute command-line and remote command",
        "the configuration of {host} has a RemoteCommand, which leaves no room for remit's own",
        "a Host block without RemoteCommand, in a file of its own for ?config=",
        lasting=True,
    ),
    _failure(
        r"Permission denied(?: \(.*|, please.*)\Z|[Aa]uthentication failed.*\Z"
        r"|Too many authentication failures(?:\nDisconnected from .*)?\Z",
        "{host} did not let us in",
        "`{ssh} {host}` to see what it asks for; a key by ?key=FILE, `ssh-add`, or `remit login`",
        kind=remit.AuthenticationError,
        lasting=True,
    ),
    _failure(
        r"^ssh: Could not resolve hostname",
        "the name {host} was not found",
        "check the spelling; names from ssh_config count too",
    ),
    _failure(
        r"^ssh: .*Connection refused",
        "{host} refused the connection",
        "check that an ssh server runs there, and on that port: ssh://HOST:PORT",
    ),
    _failure(
        r"^ssh: .*timed out|^Connection (?:timed out|to .* timed out)|^banner exchange.*timed out"
        r"|^Timeout, server .* not responding",
        "{host} did not answer in time",
        "check that it is up, and that no firewall stops ssh; a longer connect timeout may help",
    ),
    _failure(
        r"^ssh: .*(?:No route to host|Network is unreachable|Host is down)",
        "there is no route to {host}",
        "check that this computer is on the right network",
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
    the command that leads there."""
    if end.exit_status != _OWN_STATUS:
        return None
    own = _own_lines(end.stderr.decode(errors="replace"))
    cause = list(own)
    led = any("UNKNOWN port" in line for line in own[-2:])
    while led and cause and _LED_THROUGH.match(cause[-1]):
        cause.pop()
    found = _find(cause)
    if led:
        message, hint, kind, lasting = _on_the_way(cause, found, ssh, host)
    elif found is not None:
        message, hint = found.message.format(host=host), found.hint.format(ssh=ssh, host=host)
        kind, lasting = found.kind, found.lasting
    else:
        return None
    return kind(
        f"{target}: {message}",
        evidence="\n".join(own[-_BLOCK:]),
        hint=hint,
        exit_status=end.exit_status,
        stderr_tail=end.stderr,
        lasting=lasting,
    )


def _on_the_way(
    cause: list[str], found: _Failure | None, ssh: str, host: str
) -> tuple[str, str, type[remit.ConnectError], bool]:
    """What is said of a host that was to be reached through another, and was not."""
    refused = _NOT_FROM_THERE.search("\n".join(cause[-2:]))
    if refused is not None:
        words = f"{host} was not reached from its jump host: {refused[1]}"
        return words, f"is it up, and may the jump host reach it? `{ssh} -v {host}`", _PLAIN, False
    if found is None:
        words = f"{host} was not reached: what leads there (ProxyJump, ProxyCommand) ended"
        return words, f"`{ssh} -v {host}` shows how far it comes", _PLAIN, False
    named = _WHO.search("\n".join(cause[-_BLOCK:]))
    jump = next(filter(None, named.groups()), "") if named else ""
    words = found.message.format(host=f"the jump host {jump}".rstrip())
    hint = found.hint.format(ssh="ssh", host=jump or "JUMP")
    return f"{host} was not reached: {words}", hint, _PLAIN, found.lasting


_PLAIN = remit.ConnectError


def _find(lines: list[str]) -> _Failure | None:
    for failure in _FAILURES:
        if failure.pattern.search("\n".join(lines[-failure.lines :])):
            return failure
    return None


def _own_lines(said: str) -> list[str]:
    """ssh's last words: what it says comes after all that a login may print."""
    lines = [line.rstrip() for line in said.splitlines()]
    own: list[str] = []
    for line in reversed([line for line in lines if line]):
        if not _OWN.match(line):
            break
        own.insert(0, line)
    return own
