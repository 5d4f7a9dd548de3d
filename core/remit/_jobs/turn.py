"""Whether a job may be asked for yet: a child of a group waits for its turn, which may not come."""

from __future__ import annotations

from collections.abc import Callable

from remit._errors import JobStateError
from remit._link.notify import Notifier


class Turn:
    """Of one job. ``notifier`` notifies when it changes; by default it has come long ago."""

    def __init__(self, notifier: Notifier) -> None:
        self._notifier = notifier
        self._give_up: Callable[[], None] | None = None
        self._is_starting = False
        self.came = True  # False once the job is over without a word to the target

    def wait_for(self, give_up: Callable[[], None]) -> None:
        """It has to be waited for from now on. ``give_up`` is called where that is of no use."""
        self._give_up = give_up

    def starts(self) -> None:
        """It has come: the target is being asked."""
        self._give_up, self._is_starting = None, True

    def over(self) -> None:
        """The target has answered."""
        self._is_starting = False
        self._notifier.notify()

    def never(self) -> None:
        """The job is over without having run there, as far as is known."""
        self._give_up, self.came = None, False
        self.over()

    def give_up(self) -> None:
        """Quiet where it has come."""
        if self._give_up is not None:
            self._give_up()

    @property
    def is_known(self) -> bool:
        """Whether the target may know of the job."""
        return self._give_up is None and self.came

    async def wait(self) -> None:
        """Until the target has answered, or will never be asked."""
        while self._give_up is not None or self._is_starting:
            await self._notifier.wait()

    async def check(self, what: str) -> None:
        """Waits while the job is being started. Raises JobStateError where it is not asked for;
        ``what`` says how it stands."""
        if self._is_starting:
            await self.wait()
        if not self.is_known:
            raise JobStateError(f"{what}: it was not started")
