"""What is under way for a return job: helpers, and calls that are put off."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.helpers import Done
    from remit._agent.base.loop import Timer
    from remit._agent.base.process_tree import Steps
    from remit._agent.base.services import Session


class Work:
    def __init__(self, session: Session, after: Callable[[], object]) -> None:
        """``after`` is called after each."""
        self.helpers = 0  # how many are at work
        self._session = session
        self._after = after
        self._timers: dict[str, Timer] = {}

    def help(self, steps: Steps[Any], done: Done) -> None:
        """As `services.Helpers.take`."""
        self.helpers += 1

        def helped(*answer: Any) -> None:
            self.helpers -= 1
            done(*answer)
            self._after()

        self._session.take(steps, helped)

    def later(self, name: str, seconds: float, callback: Callable[[], object]) -> None:
        """Calls it then, unless there is one of that name already."""
        if name not in self._timers:

            def due() -> None:
                del self._timers[name]
                callback()
                self._after()

            self._timers[name] = self._session.loop.call_later(seconds, due)

    def cancel(self, *names: str) -> None:
        """Quiet where there is none."""
        for name in names:
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """The job is over: nothing of that is to come. Twice is quiet."""
        self.cancel(*self._timers)
        # The job holds this; the other way as well would leave both to Python's collector.
        self._after = _nothing


def _nothing() -> None:
    """For who wants to hear no more."""
