"""Whether a job may be asked for yet: a child of a group waits for its turn, which may not come."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

import anyio.lowlevel

from remit._errors import JobStateError
from remit._link.notify import Notifier


class At(Enum):
    """How far a job is with its target."""

    WAITING = auto()  # it is not to be asked for yet
    STARTING = auto()  # the target is being asked
    ANSWERED = auto()  # the target knows of it; so do all that are no child of a group begin
    NEVER = auto()  # it is over without having run there, as far as is known


# What may follow what. Anything else is news that comes too late, and is dropped.
NEXT: Final[dict[At, frozenset[At]]] = {
    At.WAITING: frozenset({At.STARTING, At.NEVER}),
    At.STARTING: frozenset({At.ANSWERED, At.NEVER}),
    At.ANSWERED: frozenset(),
    At.NEVER: frozenset(),
}


class Turn:
    """Of one job. ``notifier`` notifies when it changes."""

    def __init__(self, notifier: Notifier) -> None:
        self.at = At.ANSWERED  # only `wait_for` and `move` change it
        self._notifier = notifier
        self._give_up: Callable[[], None] | None = None

    def wait_for(self, give_up: Callable[[], None]) -> None:
        """It has to be waited for, from the beginning on. ``give_up`` is called where that is of no
        use any more."""
        self.at, self._give_up = At.WAITING, give_up

    def move(self, to: At) -> None:
        """Quiet where that is too late."""
        if to in NEXT[self.at]:
            self.at = to
            self._notifier.notify()

    def give_up(self) -> None:
        """Quiet where it has come."""
        if self.at is At.WAITING and self._give_up is not None:
            self._give_up()

    async def wait(self) -> None:
        """Until the target has answered, or will never be asked."""
        while self.at in (At.WAITING, At.STARTING):
            await self._notifier.wait()

    async def is_known(self) -> bool:
        """Whether the target knows of the job; waits while that is being asked."""
        await anyio.lowlevel.checkpoint()
        while self.at is At.STARTING:
            await self._notifier.wait()
        return self.at is At.ANSWERED

    async def check(self, what: str) -> None:
        """Raises JobStateError where the target does not know of it; ``what`` says how it
        stands."""
        if self.at is not At.ANSWERED and not await self.is_known():
            raise JobStateError(f"{what}: it was not started")
