"""What the parts of a session share: how it stands, the link to the agent, and what they ask of
each other.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from remit._errors import LinkLost, PluginError, RemitError, SessionClosed
from remit._jobs.request import Function
from remit._jobs.session_jobs import SessionJobs
from remit._jobs.stores import Stores
from remit._jobs.tasks import Tasks
from remit._link.background import Home
from remit._link.carrier import Carrier
from remit._link.link import Link
from remit._link.listener import own_trouble
from remit._link.messages import Hello
from remit._link.notify import Changes, Notifier
from remit._plugins import Plugins
from remit._session import states
from remit._session.calls import Calls
from remit._session.interpreters import Interpreter, path_of
from remit._session.seals import Seals
from remit._session.settings import Settings
from remit._target import via
from remit._types import SessionState
from remit._wire.sanitize import one_line
from remit.abc import Target

if TYPE_CHECKING:
    from remit._shipping.shipment import Shipment

_T = TypeVar("_T")
_log = logging.getLogger("remit.session")


class Connection:
    """Of one session. Jobs and their readers use it as a `remit._jobs.port.Port`, which says the
    rest. What makes its links, one after another, is `remit._session.life.Life`."""

    def __init__(
        self, target: Target, carrier: Carrier, plugins: Plugins, settings: Settings
    ) -> None:
        self.target = str(target)
        self.here = carrier.here
        # Where jobs start that name no directory: another account may not enter the caller's own.
        self.in_own_directory = carrier.here and not via(target)
        self.location = "localhost" if carrier.here else target.address
        self.trust = settings.trust
        self.settings = settings
        self.plugins = plugins
        self.state = SessionState.OPENING  # only `_move` changes it
        self.link: Link | None = None
        self.hello: Hello | None = None
        self.trouble: RemitError | None = None  # what became of the last link
        self.closing = False  # it was asked to end
        self.parting = False  # and nothing more may be asked of it
        self._notifier = Notifier(f"the session with {target}")  # the state or the link changed
        self.home = Home(f"the session with {target}")
        self.tasks = Tasks(self._note)
        self.jobs = SessionJobs(plugins, self.tasks)
        self.stores = Stores()
        self.seals = Seals(self.tasks, self.ready)
        self._interpreters: dict[bytes | None, Interpreter] = {}
        self.calls: dict[Interpreter, Calls] = {}

    def __repr__(self) -> str:
        running = len(self.jobs.returned.running())
        return one_line(f"<remit.Session {self.target} {self.state}, {running} return jobs run>")

    # -- how it stands

    def changes(self) -> AsyncIterator[SessionState]:
        return Changes(self._notifier, lambda: self.state, states.finished)

    def check(self) -> None:
        if self.state is SessionState.CLOSED or self.parting:
            raise SessionClosed(f"the session with {self.target} is closed")
        if self.state is SessionState.BROKEN:
            assert self.trouble is not None
            raise self.trouble.again()

    async def ready(self) -> Link:
        """The link, once there is one. Raises SessionClosed, LinkLost, RemoteProtocolError."""
        self.home.check()
        while True:
            self.check()
            if self.link is not None and self.state is SessionState.OPEN:
                return self.link
            await self._notifier.wait()

    async def relinked(self, lost: Link) -> None:
        while await self.ready() is lost:
            await self._notifier.wait()

    async def unlinked(self, link: Link) -> None:
        """Waits until that link is over."""
        while self.link is link:
            await self._notifier.wait()

    # -- what jobs, readers and calls ask of it

    async def ask(self, verb: str, arguments: Mapping[str, Any], answer: type[_T]) -> _T:
        while True:
            link = await self.ready()
            try:
                return await link.ask(verb, arguments, answer)
            except LinkLost:
                await self.relinked(link)

    def interpreter(self, python: str | None) -> Interpreter:
        path = path_of(python)
        if path not in self._interpreters:
            self._interpreters[path] = Interpreter(self, path)
        return self._interpreters[path]

    async def shipment(self, function: Function) -> Shipment:
        interpreter = self.interpreter(function.python)
        peer = await interpreter.peer()
        from remit._shipping.shipment import Shipment

        return Shipment.of(function.call, function.args, peer, interpreter.path, self.trust)

    async def give_up(self, job_id: str, *, spare: bool = False) -> None:
        await self.seals.give_up(self.link, job_id, spare=spare)

    def _note(self, exc: Exception) -> None:
        if isinstance(exc, PluginError):
            self.plugins.report(exc.plugin, exc.method, exc.__cause__ or exc)
        elif not isinstance(exc, (LinkLost, SessionClosed)):
            _log.error("%s: %r", self, exc, exc_info=exc)

    # -- what becomes of its links: `remit._session.dialing.Owner`

    def opened(self, link: Link) -> None:
        assert link.hello is not None
        self.hello = link.hello
        self.link = link
        self.trouble = None
        self._move(states.LINK_UP)
        _log.debug("%s: an agent in Python %s", self.target, one_line(link.hello.python))
        self.seals.link_up(link)
        self.jobs.link_up(link)

    def lost(self, error: RemitError) -> RemitError:
        link, self.link = self.link, None
        assert link is not None
        if self.closing and link.goodbye_said is not None:
            error = SessionClosed(f"the session with {self.target} is closed")
        self.trouble = error
        _log.info("%s", one_line(error.message))
        if isinstance(error, LinkLost) and self.settings.reconnect != 0 and not self.closing:
            self._move(states.LINK_LOST)
        self.jobs.link_down(error)
        self._notifier.notify()
        return error

    def over(self) -> None:
        """There will be no other link."""
        self.link = None
        broken = self.trouble is not None and not self.closing
        self._move(states.GIVEN_UP if broken else states.CLOSED_HERE)
        closed = SessionClosed(f"the session with {self.target} is closed")
        self.jobs.link_down(self.trouble or closed)

    def broken(self, exc: Exception) -> None:
        """It is at its end by this."""
        self.trouble = own_trouble(exc)

    def _move(self, event: str) -> None:
        self.state = states.move(self.state, event)
        _log.info("%s is %s", self.target, self.state)
        self._notifier.notify()
