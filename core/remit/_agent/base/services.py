"""What a session does for the modules of the verbs, by name.

Each of these is for those who need no more than that. The agent is all of them; `Link.session` is
where they are found. They are for type checkers alone: nothing of them runs, or is sent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Callable, Protocol, TypeVar

    from remit._agent.base.children import Children
    from remit._agent.base.helpers import Done
    from remit._agent.base.link import Link, Verbs
    from remit._agent.base.loop import Loop
    from remit._agent.base.news import Lifetimes, News
    from remit._agent.base.process_tree import Steps
    from remit._agent.base.subreaper import Subreaper
    from remit._jobdir.statedir import State
    from remit._wire.conversation import Conversation

    _Kind = TypeVar("_Kind")

    # Is called at the end of the session with a callback, which it calls when it is done, with the
    # descriptions of what it could not end.
    SessionEnd = Callable[[Callable[..., object]], object]

    class Place(Protocol):
        """Where what a module watches and forks is looked after."""

        loop: Loop
        children: Children

    class Helpers(Protocol):
        """Who does what would take long, in forks."""

        def helper(
            self,
            function: Callable[..., object],
            args: tuple[object, ...],
            done: Done,
            keep_fds: tuple[int, ...] = (),
        ) -> None:
            """Calls ``function(*args)`` in a fork, then ``done(value, None)`` or
            ``done(None, why)``.

            The value has to be one that MessagePack can say. Of the agent's file descriptors the
            fork keeps 0 to 2 and ``keep_fds``. Raises OSError where no process can be had.
            """

        def take(self, steps: Steps[Any], done: Done) -> None:
            """Takes these steps in a helper, then calls ``done`` as `helper` does. Where no process
            can be had for that they are taken in the loop, between its turns."""

    class Session(Place, Helpers, Protocol):
        """All of them, and what a session knows."""

        conversation: Conversation  # with its own caller
        verbs: Verbs  # what callers may ask for
        local_callers: list[Link]  # who came by another way: `remit._agent.enter.control_socket`
        on_session_end: list[SessionEnd]
        ending: bool  # no new jobs
        hello: dict[str, Any]  # its caller's
        state: State | None
        state_problem: str | None
        lifetimes: Lifetimes  # of jobs, interpreters and terminals
        news: News  # to the janitor

        def only(self, kind: Callable[[Session], _Kind]) -> _Kind:
            """The session's one object of that class, made of the session at first use: who
            owns what jobs or callers of a session share."""

        @property
        def orphans(self) -> Subreaper:
            """Adopts from the first time that it is asked for."""
