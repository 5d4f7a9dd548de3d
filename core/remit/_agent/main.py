"""The agent: serves one caller over one link, until the caller leaves or cannot be heard any more.

One thread. Nothing in the loop waits: what takes time is left to helper processes.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from typing import TYPE_CHECKING

from remit._agent.base import fds
from remit._agent.base.children import Children
from remit._agent.base.helpers import Helper, refusal_of
from remit._agent.base.link import Link
from remit._agent.base.loop import Loop
from remit._agent.base.news import Lifetimes, News
from remit._jobdir import proc
from remit._wire.conversation import PROTOCOL, ProtocolError, Pulse
from remit._wire.msgpack import UnpackError, pack, unpack
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn, TypeVar

    from remit._agent.base import process_tree
    from remit._agent.base.helpers import Done
    from remit._agent.base.link import Verb
    from remit._agent.base.services import Session, SessionEnd
    from remit._agent.base.subreaper import Subreaper
    from remit._jobdir.statedir import State

    _Kind = TypeVar("_Kind")


# Seconds that the end of a session may take: stopping its jobs, then sending what is queued.
END_PATIENCE = 12.0
LAST_WORDS_PATIENCE = 3.0
SILENCE = 15.0
NO_PROC = "there is no /proc that shows processes, without which no job could be stopped"


def run(tell_fd: int) -> NoReturn:
    """The agent's whole life, on fds 0 and 1. ``tell_fd`` is the pipe to the janitor."""
    status = 1
    try:
        # Whoever prints or reads by mistake shall not hit the link.
        link_in, link_out = os.dup(0), os.dup(1)
        fds.point_at_null(0, 1)
        status = Agent(link_in, link_out, tell_fd).run()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


class Agent(Link):
    """The link of the session's own caller, and what all links share: `services.Session`."""

    def __init__(self, link_in: int, link_out: int, tell_fd: int) -> None:
        super().__init__(Loop(), link_in, link_out, _verbs)
        self.session = self
        self.children = Children(self.loop)
        self.local_callers: list[Link] = []
        self.on_session_end: list[SessionEnd] = []
        self._only: dict[Any, Any] = {}
        self.lifetimes = Lifetimes()
        self.news = News(self.loop, tell_fd, self.lifetimes)
        self.hello: dict[str, Any] = {}
        self.state: State | None = None
        self.state_problem: str | None = None
        self.pulse = Pulse(SILENCE, time.monotonic())
        self._orphans: Subreaper | None = None
        self._tell_fd = tell_fd
        self._greeted = False
        self.ending = False
        self._parted = False
        self._termed = False
        self._status: int | None = None

    def run(self) -> int:
        """Serves until the session is over; the exit status."""
        fds.raise_limit()
        os.set_blocking(self._link_out, False)
        os.set_blocking(self._tell_fd, False)
        for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._note_term)
        self.loop.watch_fd(self._link_in, self._read_link)
        # Nothing is to be read there: it is ready once nobody holds the other end.
        self.loop.watch_fd(self._tell_fd, self._bereft)
        while self._status is None:
            for link in [self, *self.local_callers]:
                link.write_link()
            self.loop.turn(self.pulse.next_look(time.monotonic()))
            self._look_at_pulse()
            if self._termed:
                self._finish(128 + signal.SIGTERM, "the agent was told to end")
        # The link may be shared with a shell that goes on after us.
        os.set_blocking(self._link_out, True)
        return self._status

    # -- for the modules of the verbs: `services.Session` says what these do

    @property
    def orphans(self) -> Subreaper:
        if self._orphans is None:  # sessions that start no job need no ctypes
            from remit._agent.base.subreaper import Subreaper

            self._orphans = Subreaper(self.children, self.lifetimes)
        return self._orphans

    def only(self, kind: Callable[[Session], _Kind]) -> _Kind:
        if kind not in self._only:
            self._only[kind] = kind(self)
        one: _Kind = self._only[kind]
        return one

    def helper(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        done: Done,
        keep_fds: tuple[int, ...] = (),
    ) -> None:
        helper = Helper(function, args, keep_fds)
        over: list[bool] = []

        def finish() -> None:
            if not over:
                over.append(True)
                self.loop.unwatch_fd(helper.fd)
                os.close(helper.fd)
                done(*helper.result())

        def readable() -> None:
            if helper.read():
                finish()

        def ended(status: int) -> None:
            if not over:
                helper.read()
                finish()

        self.loop.watch_fd(helper.fd, readable)
        self.children.watch(helper.pid, ended)

    def take(self, steps: process_tree.Steps[Any], done: Done) -> None:
        from remit._agent.base import process_tree

        def step() -> None:
            try:
                pause = next(steps)
            except StopIteration as over:
                done(over.value, None)
            except Exception as exc:
                done(None, refusal_of(exc))
            else:
                self.loop.call_later(pause, step)

        try:
            self.helper(process_tree.take, (steps,), done)
        except OSError:
            # What runs is to be ended all the same.
            self.loop.call_later(0, step)

    # -- what arrives

    def _heard(self) -> None:
        self.pulse.heard(time.monotonic())

    def _greet(self, body: bytes) -> None:
        try:
            hello = unpack(body)
        except UnpackError as exc:
            raise ProtocolError("the hello: %s" % exc) from exc
        if not isinstance(hello, dict):
            raise ProtocolError("the hello is no map")
        self.hello = hello
        if hello.get("trace") is not None:
            from remit._agent.base import tracing

            self.conversation.trace = tracing.of_agent(hello["trace"])
        silence, patience = _seconds(hello, "silence"), _seconds(hello, "patience")
        self.pulse = Pulse(silence or SILENCE, time.monotonic(), patience)
        self._greeted = True
        problem = None if proc.look(os.getpid()) else NO_PROC
        self.conversation.hello(pack(dict(self._own_hello(), problem=problem)))
        if problem is not None:
            self._finish(2, problem)
            return
        # Once the hello is out: what comes next is most likely a request.
        self.loop.call_later(0, self._prepare)
        if hello.get("protocol") != PROTOCOL:
            self._finish(2, "this agent speaks protocol %d" % PROTOCOL)

    def _prepare(self) -> None:
        """Has ready what most requests need that come first, unless one has come already."""
        if not self.is_asked:
            from remit._agent.returned import requests  # noqa: F401

    def _told(self, body: bytes) -> None:
        """A caller that is about to be stopped says so, and when it goes on again."""
        try:
            told = unpack(body)
        except UnpackError:
            return  # of a later version
        if isinstance(told, dict) and isinstance(told.get("away"), bool):
            self.pulse.away = told["away"]

    def _own_hello(self) -> dict[str, object]:
        system = os.uname()
        facts: dict[str, object] = {
            "protocol": PROTOCOL,
            "features": [],
            "resume": None,
            # This program came from the caller.
            "version": self.hello.get("version"),
            "python": "%d.%d.%d" % sys.version_info[:3],
            "executable": os.fsencode(sys.executable or ""),
            "hostname": system.nodename,
            "uid": os.geteuid(),
            "pid": os.getpid(),
            "platform": "%s %s %s" % (system.sysname, system.release, system.machine),
            "time": time.time(),
        }
        facts.update(_account())
        facts.update(self._choose_state())
        return facts

    def _choose_state(self) -> dict[str, object]:
        from remit._jobdir import statedir

        asked = self.hello.get("state")
        try:
            state = statedir.State(statedir.choose(asked if isinstance(asked, bytes) else None))
            problem = state.problem()
        except Refused as exc:
            self.state_problem = exc.message
            return {"state": None, "state_problem": exc.message}
        self.state_problem = problem
        if problem is None:
            self.state = state
        return {"state": state.path, "state_problem": problem}

    # -- what goes out

    def _said(self) -> None:
        self.pulse.said(time.monotonic())

    def _look_at_pulse(self) -> None:
        now = time.monotonic()
        if self.ending:
            # The caller has left: it is not listened to any more.
            self.pulse.heard(now)
        if self.pulse.dead(now) and _is_to_be_read(self._link_in):
            # It is we who were away, for as long as a request took, or stopped by somebody.
            self.pulse.heard(now)
        if self.pulse.dead(now):
            self._cut()
        elif self.pulse.due(now):
            # Where something waits to be sent, that is the sign of life, once it can be.
            if self._greeted and self.outgoing.is_all_out:
                self.conversation.ping()
            self.pulse.said(now)

    # -- the end

    def _cut(self) -> None:
        """The link has ended, or the caller has not been heard for too long."""
        self.loop.unwatch_writable(self._link_out)
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, self._link_out, False)
        os.close(null)
        self._finish(0, None)

    def _bereft(self) -> None:
        """The janitor was killed. Nobody would end what we leave should we be killed as well, so
        the session ends while we can do that; its caller may open another."""
        self.loop.unwatch_fd(self._tell_fd)
        if not self.ending:
            self._cut()

    def _note_term(self, *_: object) -> None:
        self._termed = True  # the loop, which the signal has woken, looks at it

    def _finish(self, status: int, reason: str | None) -> None:
        """Ends the session: its jobs, then the last words, then the agent."""
        if self.ending:
            return
        self.ending = True
        self.loop.unwatch_fd(self._link_in)
        left: list[str] = []
        pending = [len(self.on_session_end) + 1]

        def finished(survivors: object = ()) -> None:
            left.extend(survivors)  # type: ignore[arg-type]
            pending[0] -= 1
            if not pending[0]:
                self._say_goodbye(status, reason, left)

        for callback in list(self.on_session_end):
            try:
                callback(finished)
            except Exception:
                sys.excepthook(*sys.exc_info())
                finished()
        finished()
        self.loop.call_later(END_PATIENCE, lambda: self._say_goodbye(status, reason, left))

    def _say_goodbye(self, status: int, reason: str | None, left: list[str]) -> None:
        if self._parted:
            return
        self._parted = True
        deadline = time.monotonic() + LAST_WORDS_PATIENCE

        def last_words() -> None:
            # What was queued before goes out before: nothing may follow a goodbye.
            if self.conversation.queued and time.monotonic() < deadline:
                self.loop.call_later(0.01, last_words)
                return
            goodbye: dict[str, object] = {"left": left}
            if reason is not None:
                goodbye["reason"] = reason
            if self._greeted:
                self.conversation.goodbye(pack(goodbye))
            leave()

        def leave() -> None:
            if not self.outgoing.is_all_out and time.monotonic() < deadline:
                self.loop.call_later(0.01, leave)
                return
            self.news.send()
            self._status = status

        last_words()


def _verbs() -> dict[str, Verb]:
    from remit._agent.verbs import VERBS

    return VERBS


def _seconds(hello: dict[str, Any], name: str) -> float | None:
    value = hello.get(name)
    return float(value) if isinstance(value, (int, float)) and value > 0 else None


def _account() -> dict[str, object]:
    import pwd

    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return {"user": str(os.geteuid()), "home": os.environb.get(b"HOME", b"/")}
    return {"user": entry.pw_name, "home": os.fsencode(entry.pw_dir)}


def _is_to_be_read(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))
