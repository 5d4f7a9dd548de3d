"""What a session is below its verbs: one link after another to the agent on a target, and what goes
on beside whoever asks for something.
"""

from __future__ import annotations

import logging
import math
import os
import random
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, ClassVar, TypeVar

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread

from remit._errors import (
    ConnectError,
    LinkLost,
    PluginError,
    RemitError,
    RemoteProtocolError,
    SessionClosed,
)
from remit._jobs.job import Job
from remit._jobs.kept_job import KeptJob
from remit._jobs.request import Function
from remit._jobs.return_jobs import ReturnJobs
from remit._jobs.stores import Stores
from remit._link import bootstrap
from remit._link.background import Home, outlast
from remit._link.carrier import Carried, Carrier
from remit._link.link import Link, own_trouble
from remit._link.messages import Hello
from remit._link.notify import Changes, Notifier
from remit._plugins import Plugins
from remit._session import states
from remit._session.calls import Calls
from remit._session.interpreters import Interpreter, path_of
from remit._session.seals import Seals
from remit._session.settings import Settings
from remit._shipping.shipment import Shipment
from remit._types import JobState, SessionState
from remit._version import __version__
from remit._wire.conversation import PROTOCOL
from remit._wire.sanitize import one_line
from remit.abc import Target, Transport

_T = TypeVar("_T")
_J = TypeVar("_J", bound=Job)
_log = logging.getLogger("remit")

# How long an orderly end may take: the agent gives its session-bound jobs 5 s between TERM and
# KILL, and as long again until the last of them is gone.
_CLOSE_GRACE = 15.0
# A start that was cancelled is taken back; the caller waits for that as long as this.
_TAKE_BACK_GRACE = 10.0
# How long plugins are not told that a function failed because it is not known how.
_FAILURE_GRACE = 5.0

# A session is to be back within 10 s of the link being possible, for as long as somebody may sit
# and wait for it (50 such pauses are the default of ``reconnect``); after that it may take longer.
_PROMPT_PAUSE = 6.0
_PROMPT_ATTEMPTS = 50
_LONGEST_PAUSE = 30.0


class Callers:
    """What goes for all callers in this process, besides what each session says."""

    # Seconds that an agent waits for a caller that says nothing; None: those of ``silence``. A
    # program that is stopped or sleeps with its computer is silent, and comes back.
    patience: float | None = None
    # Seconds that an agent has for an orderly end.
    farewell = _CLOSE_GRACE
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


def wait_before(attempt: int, jitter: float) -> float:
    """Seconds to wait before reconnect ``attempt`` (1, 2, …), times ``1 + jitter``: 0.5, 1, 2, 4,
    then 6 for some minutes, then 30. ``jitter`` is 0 to 0.2. Raises ValueError if ``attempt`` is
    under 1."""
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    if attempt > _PROMPT_ATTEMPTS:
        return _LONGEST_PAUSE * (1 + jitter)
    return min(0.5 * 2.0 ** min(attempt - 1, 10), _PROMPT_PAUSE) * (1 + jitter)


class Connection:
    """Of one session, which says what its parts do under the same names. Jobs and their readers use
    it as a `remit._jobs.port.Port`, which says the rest."""

    def __init__(
        self, target: Target, transport: Transport, plugins: Plugins, settings: Settings
    ) -> None:
        self._target = target
        self._transport = transport
        self._carrier = Carrier(transport, plugins)
        self.plugins = plugins
        self.settings = settings
        self._state = SessionState.OPENING
        self._notifier = Notifier(f"the session with {target}")  # the state or the link changed
        self.link: Link | None = None
        self._trouble: RemitError | None = None
        self._closing = False  # it was asked to end
        self._parting = False  # and nothing more may be asked of it
        self._scope = anyio.CancelScope()
        self._gone = anyio.Event()
        self._tasks: anyio.abc.TaskGroup | None = None
        self.home = Home(f"the session with {target}")
        self._undoing: set[anyio.Event] = set()  # what is being taken back
        self.seals = Seals()
        self.hello: Hello | None = None
        self.returned = ReturnJobs()
        self.stores = Stores()
        self._watched: weakref.WeakSet[KeptJob] = weakref.WeakSet()
        # Jobs with a lease that were started here: their session is a caller of theirs to its end,
        # over each new link, whether their handles are dropped or not.
        self._leased: set[KeptJob] = set()
        self._interpreters: dict[bytes | None, Interpreter] = {}
        self.calls: dict[Interpreter, Calls] = {}

    # -- what it is

    @property
    def target(self) -> str:
        return str(self._target)

    @property
    def location(self) -> str:
        return "localhost" if self.here else self._target.address

    @property
    def state(self) -> SessionState:
        return self._state

    def changes(self) -> AsyncIterator[SessionState]:
        return Changes(self._notifier, lambda: self._state, states.finished)

    def __repr__(self) -> str:
        return one_line(f"<remit.Session {self.target} {self._state}>")

    @property
    def here(self) -> bool:
        return self._carrier.here

    @property
    def trust(self) -> bool:
        return self.settings.trust

    # -- its end

    @property
    def closing(self) -> bool:
        """Whether it was asked to end from here."""
        return self._closing

    async def aclose(self) -> None:
        self.home.check()
        if not self._closing:
            self._closing = True
            if self._tasks is None or self._state is not SessionState.OPEN:
                self._parting = True
                self._scope.cancel()
            else:
                self._tasks.start_soon(self._part)
        await outlast(self._gone)

    async def _part(self) -> None:
        """Lets what is being taken back come to its end, and takes leave of the agent."""
        with anyio.move_on_after(_TAKE_BACK_GRACE):
            while self._undoing:
                await next(iter(self._undoing)).wait()
        self._parting = True
        link = self.link
        if link is not None:
            link.goodbye()
            with Callers.leaving():
                while self.link is link:
                    await self._notifier.wait()
        self._scope.cancel()

    def abandon(self) -> None:
        """Ends it without a word to the target, which may hear none: `aclose` has nothing to wait
        for then."""
        self._closing = True
        self._scope.cancel()

    # -- for jobs and their readers

    async def ask(self, verb: str, arguments: Mapping[str, Any], answer: type[_T]) -> _T:
        while True:
            link = await self.ready()
            try:
                return await link.ask(verb, arguments, answer)
            except LinkLost:
                await self.relinked(link)

    async def relinked(self, lost: Link) -> None:
        while await self.ready() is lost:
            await self._notifier.wait()

    async def ready(self) -> Link:
        """The link, once there is one. Raises SessionClosed, LinkLost, RemoteProtocolError."""
        self.home.check()
        while True:
            self.check()
            if self.link is not None and self._state is SessionState.OPEN:
                return self.link
            await self._notifier.wait()

    def interpreter(self, python: str | None) -> Interpreter:
        path = path_of(python)
        if path not in self._interpreters:
            self._interpreters[path] = Interpreter(self, path)
        return self._interpreters[path]

    async def shipment(self, function: Function) -> Shipment:
        interpreter = self.interpreter(function.python)
        peer = await interpreter.peer()
        return Shipment.of(function.call, function.args, peer, interpreter.path, self.trust)

    def check(self) -> None:
        if self._state is SessionState.CLOSED or self._parting:
            raise SessionClosed(f"the session with {self.target} is closed")
        if self._state is SessionState.BROKEN:
            assert self._trouble is not None
            raise self._trouble.again()

    def start_soon(
        self,
        function: Callable[..., Awaitable[Any]],
        *args: Any,
        failed: Callable[[Exception], None],
    ) -> None:
        if self._tasks is not None:
            self._tasks.start_soon(self._guarded, function, args, failed)

    async def _guarded(
        self,
        function: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        failed: Callable[[Exception], None],
    ) -> None:
        try:
            await function(*args)
        except Exception as exc:
            try:
                failed(exc)
            except Exception as another:
                self._break(own_trouble(another))

    async def see_through(self, function: Callable[[], Awaitable[None]]) -> None:
        """Takes something back, out of reach of the caller's cancels, and waits for that for a
        while; the session does not take leave before. Raises nothing of its own."""
        if self._tasks is not None:
            await outlast(self._undo(function), _TAKE_BACK_GRACE)
            return
        # The session is over: there is only something to be let go of here, and nobody to ask.
        with anyio.CancelScope(shield=True):
            try:
                await function()
            except Exception as exc:
                self.note(exc)

    def _undo(self, function: Callable[[], Awaitable[None]]) -> anyio.Event:
        undone = anyio.Event()

        async def act() -> None:
            try:
                await function()
            finally:
                self._undoing.discard(undone)
                undone.set()

        if self._tasks is None:
            undone.set()  # the session is over, and took it along
        else:
            self._undoing.add(undone)
            self.start_soon(act, failed=self.note)
        return undone

    def note(self, exc: Exception) -> None:
        if isinstance(exc, PluginError):
            self.plugins.report(exc.plugin, exc.method, exc.__cause__ or exc)
        elif not isinstance(exc, (LinkLost, SessionClosed)):
            _log.error("%s: %r", self, exc, exc_info=exc)

    def _break(self, exc: Exception) -> None:
        """The session is at its end by this."""
        self._trouble = own_trouble(exc)
        self._scope.cancel()

    async def give_up(self, job_id: str, *, spare: bool = False) -> None:
        self.seals.owe(job_id, spare=spare)
        if self.link is None:
            self._undo(partial(self._settle_later, job_id))
        else:
            await self._settle(self.link, [job_id])

    async def _settle_later(self, job_id: str) -> None:
        await self._settle(await self.ready(), [job_id])

    async def _settle(self, link: Link, job_ids: list[str] | None = None) -> None:
        if not await self.seals.settle(link, job_ids):
            # Not as what is being taken back: no close waits for a target that refuses.
            self.start_soon(self.seals.insist, link, failed=self.note)

    def watch(self, job: KeptJob) -> None:
        self._watched.add(job)

    def watch_leased(self, job: KeptJob) -> None:
        self._leased = {each for each in self._leased if not each.state.finished} | {job}

    def unwatch(self, job: KeptJob) -> None:
        self._watched.discard(job)
        self._leased.discard(job)

    def job_changed(self, job: Job, old: JobState | None) -> None:
        info = job._info
        told = partial(self.plugins.notify, "remit_job_changed", job=info, old=old, new=info.state)
        asked = job._failed_by_itself and self.plugins.listens("remit_job_changed", "failure")
        if not asked or self._tasks is None:
            told(failure=None)
            return

        async def tell() -> None:
            failure = None
            try:
                with anyio.move_on_after(_FAILURE_GRACE):
                    failure = await job._failure_told()
            finally:
                told(failure=failure)

        self._undo(tell)

    # -- its life

    async def serve(self) -> None:
        """Everything the session does by itself, in one task of its hub. Raises nothing."""
        try:
            async with self.stores.serving():
                await self._talk_on()
        finally:
            self._gone.set()

    async def _talk_on(self) -> None:
        """Its life but for what its stores still have to do."""
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    self._tasks = tasks
                    try:
                        await self._guarded(self._live, (), self._break)
                    finally:
                        self._tasks = None  # it takes no more
                    tasks.cancel_scope.cancel()
        finally:
            self.link = None
            broken = self._trouble is not None and not self._closing
            error = self._trouble or SessionClosed(f"the session with {self.target} is closed")
            self._move(states.GIVEN_UP if broken else states.CLOSED_HERE)
            self._tell_all(self.returned.running(), lambda job: job._link_over(error))
            self._tell_all(list(self._watched), KeptJob._link_down)
            self._undoing.clear()
            self._notifier.notify()

    def _tell_all(self, jobs: Sequence[_J], tell: Callable[[_J], None]) -> None:
        """What one job makes of it is no other's trouble."""
        for job in jobs:
            try:
                tell(job)
            except Exception as exc:
                self.note(exc)

    async def _live(self) -> None:
        """One link after another, until the session is closed or given up (`_trouble` says why)."""
        attempt = 0
        give_up_at = -math.inf
        while True:
            try:
                lost = await self._converse()
            except ConnectError as exc:
                if exc.lasting or anyio.current_time() >= give_up_at:
                    self._trouble = exc if self._trouble is None else self._given_up(exc)
                    return
            else:
                if self._closing or self._state is not SessionState.RECONNECTING:
                    self._trouble = lost
                    return
                attempt = 0
                limit = self.settings.reconnect
                give_up_at = math.inf if limit is None else anyio.current_time() + limit
            attempt += 1
            pause = wait_before(attempt, random.uniform(0, 0.2))
            await anyio.sleep(min(pause, max(0.0, give_up_at - anyio.current_time())))

    def _given_up(self, exc: ConnectError) -> LinkLost:
        assert self._trouble is not None
        why = f"for {self.settings.reconnect:g} s there was no new one"
        if exc.lasting:
            why = "no new one can be had"
        return LinkLost(
            f"{self._trouble.message}, and {why}",
            evidence="\n".join(filter(None, [self._trouble.evidence, f"last    {exc.message}"])),
            hint=exc.hint,
        )

    def _lose(self, link: Link, error: RemitError) -> None:
        """The link is over. Said at once: closing what carried it may take seconds."""
        assert self.link is link
        self.link = None
        self._trouble = error
        self._tell_all(self.returned.running(), lambda job: job._link_over(error))
        may_return = isinstance(error, LinkLost) and self.settings.reconnect != 0
        if may_return and not self._closing:
            self._move(states.LINK_LOST)
        self._tell_all(list(self._watched), KeptJob._link_down)
        self._notifier.notify()

    async def _converse(self) -> RemitError:
        """Connects, and serves the link until it is lost; tells why. Raises ConnectError."""
        for attempt in bootstrap.attempts(self._python()):
            heard = bootstrap.Heard()
            with anyio.CancelScope() as connecting:
                # What an earlier attempt took is not counted: it ended at once.
                connecting.deadline = anyio.current_time() + self._target.connect_timeout
                verdict = await self._try(attempt, connecting, heard)
            if connecting.cancelled_caught:
                raise bootstrap.late(self._target, self._carrier, attempt, heard)
            if verdict is not None and not heard.agent:
                raise verdict
            if verdict is not None:
                return verdict
        raise AssertionError("the last attempt has a verdict")

    async def _try(
        self, attempt: bootstrap.Attempt, connecting: anyio.CancelScope, heard: bootstrap.Heard
    ) -> RemitError | None:
        """A ConnectError where no agent came up, None where another attempt may do better, else
        why the link was lost."""
        try:
            async with self._carrier.open(self._target, attempt.argv) as stream:
                verdict = await self._talk(stream, attempt, connecting, heard)
                connecting.deadline = math.inf  # nor does leaving count
                return verdict
        except (ConnectError, PluginError) as exc:
            if self.link is None:
                raise
            self._lose(self.link, exc)  # a task of the transport's failed under the link
            return exc

    async def _talk(
        self,
        stream: Carried,
        attempt: bootstrap.Attempt,
        connecting: anyio.CancelScope,
        heard: bootstrap.Heard,
    ) -> RemitError | None:
        """As `_try`. Raises nothing: the transport's context may hold a task group, which would
        wrap it."""
        try:
            rest, opening = await bootstrap.reach(
                stream, attempt, self._target, self._carrier, heard
            )
        except bootstrap.NoPython:
            return None
        except (ConnectError, PluginError) as exc:
            return exc
        link = Link(stream, self.settings.silence, self.target)

        def met() -> None:
            connecting.deadline = math.inf
            self._open(link)
            heard.agent = True

        lost = await link.run(rest, opening, self._own_hello(), met)
        if self.link is link:
            if self._closing and link.goodbye_said is not None:
                lost = SessionClosed(f"the session with {self.target} is closed")
            self._lose(link, lost)
            return lost
        return await bootstrap.failed(stream, self._target, self._carrier, attempt, lost)

    def _python(self) -> str | None:
        """The one interpreter to try, where it is known."""
        return self._target.options.get("python") or (sys.executable if self.here else None)

    def _own_hello(self) -> dict[str, Any]:
        state = self._target.options.get("state")
        return {
            "protocol": PROTOCOL,
            "features": [],
            "silence": self.settings.silence,
            "patience": Callers.patience,
            "state": None if state is None else os.fsencode(state),
            "resume": None,
            "version": __version__,
        }

    def _open(self, link: Link) -> None:
        assert link.hello is not None
        if link.hello.protocol != PROTOCOL:
            raise RemoteProtocolError(
                f"it speaks protocol {link.hello.protocol}, this remit speaks {PROTOCOL}"
            )
        if link.hello.problem is not None:
            raise RemoteProtocolError(f"no agent can work on {self.target}: {link.hello.problem}")
        self.hello = link.hello
        self.link = link
        self._trouble = None
        self._move(states.LINK_UP)
        if self.seals:
            self._undo(partial(self._settle, link))
        self._tell_all(list(self._watched), lambda job: job._link_up(link))

    def _move(self, event: str) -> None:
        self._state = states.move(self._state, event)
        self._notifier.notify()
