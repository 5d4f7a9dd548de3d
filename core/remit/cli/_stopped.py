"""Ctrl-Z, and a computer that sleeps: a caller that is stopped is no caller that is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from remit._link import heartbeat
from remit._session.farewell import Callers
from remit._wire.frames import PING, encode
from remit._wire.msgpack import pack

# Seconds that an agent waits for us without a word. Before that the stream ends wherever we are
# gone: the transport's own program sees to it, as long as its settings say (ssh: TCPKeepAlive,
# ServerAliveInterval; sshd: ClientAliveInterval).
PATIENCE = 86400.0
# What is called before we are stopped, and once we go on: see `around`.
_around: list[tuple[Callable[[], None], Callable[[], None]]] = []


def expect() -> None:
    """From now on what the command line starts outlives that it is stopped for a while.

    The links say so before a Ctrl-Z, and after the `fg`. A sleep of the computer or a SIGSTOP
    leaves no time to say anything, so agents are patient anyway.
    """
    Callers.patience = PATIENCE
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
        signal.signal(signal.SIGTSTP, _stop)


@contextmanager
def around(leave: Callable[[], None], come_back: Callable[[], None]) -> Iterator[None]:
    """Within the block a Ctrl-Z, or whoever sends a SIGTSTP, has ``leave()`` called before we are
    stopped, and ``come_back()`` once we go on."""
    _around.append((leave, come_back))
    try:
        yield
    finally:
        _around.pop()


def _stop(_number: int, _frame: FrameType | None) -> None:
    heartbeat.announce(encode(PING, 0, pack({"away": True})))
    for leave, _ in _around:
        leave()
    # As if nobody had caught it, so that whoever waits for us sees a process that was stopped.
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, _stop)
    for _, come_back in _around:
        come_back()
    heartbeat.announce(encode(PING, 0, pack({"away": False})))
