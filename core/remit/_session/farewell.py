"""What goes for all sessions of this process: how long their agents wait and are waited for, and
how long connections stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, Final

import anyio

# How long an orderly end may take: the agent gives its session-bound jobs 5 s between TERM and
# KILL, and as long again until the last of them is gone.
CLOSE_GRACE: Final = 15.0


class Callers:
    """What goes for all callers in this process, besides what each session says."""

    # Seconds that an agent waits for a caller that says nothing; None: those of ``silence``. A
    # program that is stopped or sleeps with its computer is silent, and comes back.
    patience: float | None = None
    # Seconds that a connection may stay for the next caller, as `remit.abc.Target.persist`.
    persist: float = 0.0
    # Seconds that an agent has for an orderly end.
    farewell = CLOSE_GRACE
    _leaving: ClassVar[set[anyio.CancelScope]] = set()

    @classmethod
    def hurry(cls, seconds: float) -> None:
        """Whoever takes leave of an agent, now or later, waits no longer than this for its answer.
        An agent ends all the same once its link is gone."""
        cls.farewell = min(cls.farewell, seconds)
        for scope in cls._leaving:
            scope.deadline = min(scope.deadline, anyio.current_time() + seconds)

    @classmethod
    @contextmanager
    def leaving(cls) -> Iterator[None]:
        """The time that an orderly end may take."""
        with anyio.move_on_after(cls.farewell) as scope:
            cls._leaving.add(scope)
            try:
                yield
            finally:
                cls._leaving.discard(scope)
