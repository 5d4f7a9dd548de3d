"""``remit login``: a connection that a person opens, for the commands that come after."""

from __future__ import annotations

from remit import TargetError
from remit._plugins import plugins
from remit._target import parse_target
from remit.abc import KeepsConnections, Target
from remit.cli import _connecting
from remit.cli._report import FAILED, OK, answer, say


def login(target: str, *, stay: float) -> int:
    """Opens it on this terminal, which may be asked for a password, and says how long it stays.
    Raises ConnectError where that does not work, and TargetError where there is no such thing."""
    parsed, transport = _keeping(target)
    answer(f"{parsed}: {transport.keep(parsed, stay)}")
    return OK


def logout(target: str) -> int:
    """Ends it. FAILED where there is none."""
    parsed, transport = _keeping(target)
    if transport.let_go(parsed):
        answer(f"{parsed}: the connection is closed")
        return OK
    say(f"remit: {parsed}: no connection stands")
    return FAILED


def _keeping(target: str) -> tuple[Target, KeepsConnections]:
    limit = _connecting.timeout or 30.0
    parsed, transport = parse_target(
        target, plugins(), connect_timeout=limit, persist=_connecting.PERSIST
    )
    if not isinstance(transport, KeepsConnections):
        raise TargetError(f"{target}: {parsed.scheme}: has no connection to be kept")
    return parsed, transport
