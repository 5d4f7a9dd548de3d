"""How this command reaches its targets: what was said of that for all of them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import remit
from remit import Session
from remit._session.farewell import Callers

# Seconds, as `--connect-timeout` says; None: as remit's functions have it.
timeout: float | None = None
# How long a connection stays for the next command, where its transport can have that.
PERSIST = 60.0


def reuse() -> None:
    """From now on connections are reused."""
    Callers.persist = PERSIST


def connect(target: str, **options: Any) -> AbstractAsyncContextManager[Session]:
    """As `remit.connect`, within the time that the user gives it."""
    if timeout is not None:
        options["connect_timeout"] = timeout
    return remit.connect(target, **options)
