"""Ctrl-Z, and a computer that sleeps: a caller that is stopped is no caller that is lost."""

from __future__ import annotations

import os
import signal
from types import FrameType

from remit import _heartbeat
from remit._frames import PING, encode
from remit._msgpack import pack
from remit._session import Callers

# Seconds that an agent waits for us without a word. Before that the stream ends wherever we are
# gone: the transport's own program sees to it, as long as its settings say (ssh: TCPKeepAlive,
# ServerAliveInterval; sshd: ClientAliveInterval).
PATIENCE = 86400.0


def expect() -> None:
    """From now on what the command line starts outlives that it is stopped for a while.

    The links say so before a Ctrl-Z, and after the `fg`. A sleep of the computer or a SIGSTOP
    leaves no time to say anything, so agents are patient anyway.
    """
    Callers.patience = PATIENCE
    if signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL:
        signal.signal(signal.SIGTSTP, _stop)


def _stop(_number: int, _frame: FrameType | None) -> None:
    _heartbeat.announce(encode(PING, 0, pack({"away": True})))
    # As if nobody had caught it, so that whoever waits for us sees a process that was stopped.
    signal.signal(signal.SIGTSTP, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTSTP)
    signal.signal(signal.SIGTSTP, _stop)
    _heartbeat.announce(encode(PING, 0, pack({"away": False})))
