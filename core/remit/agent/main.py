"""The agent: serves one caller over one link, until the caller leaves or cannot be heard any more.

One thread. Nothing in the loop waits: what takes time is left to helper processes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from remit._conversation import AGENT, PROTOCOL, Conversation, ProtocolError, Pulse
from remit._frames import CLOSE, CREDIT, DATA, END, EVENT, GOODBYE, HELLO, MAX_PAYLOAD, REQUEST
from remit._msgpack import UnpackError, pack, unpack
from remit.agent import fds
from remit.agent.children import Children
from remit.agent.helpers import Helper, Refused, refusal_of
from remit.agent.loop import Loop

if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from remit._conversation import Event
    from remit.agent.helpers import Done
    from remit.agent.loop import Timer
    from remit.agent.returned import ReturnedJob
    from remit.agent.statedir import State
    from remit.agent.verbs import Verb


# Who reads pipes for the link stops where this much is waiting to be sent.
ROOM = 1 << 20
# Seconds that the end of a session may take: stopping its jobs, then sending what is queued.
END_PATIENCE = 12.0
LAST_WORDS_PATIENCE = 3.0
# Seconds after which the janitor is told what can wait.
NEWS_DELAY = 1.0
SILENCE = 15.0


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


class Agent:
    """What the verbs' modules hold in their hands."""

    def __init__(self, link_in: int, link_out: int, tell_fd: int) -> None:
        self.conversation = Conversation(AGENT)
        self.loop = Loop()
        self.watch_fd = self.loop.watch_fd
        self.unwatch_fd = self.loop.unwatch_fd
        self.call_later = self.loop.call_later
        self.children = Children(self.loop)
        # channel: an object with any of on_event(name, args), on_data(piece), on_end(body),
        # on_credit(), on_close() and on_room()
        self.handlers: dict[int, Any] = {}
        # Called at the end of the session, each with a callback that it calls when it is done,
        # with the descriptions of what it could not end.
        self.on_session_end: list[Callable[[Callable[..., object]], object]] = []
        self.returned: dict[str, ReturnedJob] = {}
        self.hello: dict[str, Any] = {}  # the caller's
        self.state: State | None = None
        self.pulse = Pulse(SILENCE, time.monotonic())
        self._link_in = link_in
        self._link_out = link_out
        self._out = memoryview(b"")  # frames begun to be written
        self._waiting_for_room = False
        self._tell_fd = tell_fd
        self._news = b""
        self._news_timer: Timer | None = None
        self._greeted = False
        self.ending = False  # no new jobs
        self._parted = False
        self._termed = False
        self._status: int | None = None

    def run(self) -> int:
        """Serves until the session is over; the exit status."""
        os.set_blocking(self._link_out, False)
        os.set_blocking(self._tell_fd, False)
        for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
            signal.signal(signum, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._note_term)
        self.watch_fd(self._link_in, self._read_link)
        while self._status is None:
            self._write_link()
            self.loop.turn(self.pulse.next_look(time.monotonic()))
            self._look_at_pulse()
            if self._termed:
                self._finish(128 + signal.SIGTERM, "the agent was told to end")
        # The link may be shared with a shell that goes on after us.
        os.set_blocking(self._link_out, True)
        return self._status

    # -- for the modules of the verbs

    def reply(self, channel: int, value: object) -> None:
        self.handlers.pop(channel, None)
        self.conversation.reply(channel, self._body(value))

    def accept(self, channel: int, value: object) -> None:
        self.conversation.accept(channel, self._body(value))

    def refuse(
        self,
        channel: int,
        code: str,
        message: str,
        evidence: str | None = None,
        hint: str | None = None,
        **facts: object,
    ) -> None:
        self.handlers.pop(channel, None)
        facts.update(code=code, message=message, evidence=evidence, hint=hint)
        self.conversation.refuse(channel, self._body(facts))

    def fail(self, channel: int, exc: Exception) -> None:
        """Refuses for the reason that ``exc`` gives."""
        refused = refusal_of(exc)
        self.refuse(
            channel,
            refused.code,
            refused.message,
            refused.evidence,
            refused.hint,
            **refused.facts,
        )

    def event(self, channel: int, name: str, **args: object) -> None:
        self.conversation.event(channel, self._body([name, args]))

    def end(self, channel: int, value: object) -> None:
        self.handlers.pop(channel, None)
        self.conversation.end(channel, self._body(value))

    def has_room(self) -> bool:
        """Whether more may be queued; where not, handlers get ``on_room`` once it may."""
        if self.conversation.queued_data < ROOM:
            return True
        self._waiting_for_room = True
        return False

    def helper(
        self,
        function: Callable[..., object],
        args: tuple[object, ...],
        done: Done,
        keep_fds: tuple[int, ...] = (),
    ) -> None:
        """Calls ``function(*args)`` in a fork, and ``done(value, None)`` or ``done(None, refused)``.

        The value has to be one that MessagePack can say. Of the agent's file descriptors the fork
        keeps 0 to 2 and ``keep_fds``. Raises OSError where no process can be had.
        """
        helper = Helper(function, args, keep_fds)
        over: list[bool] = []

        def finish() -> None:
            if not over:
                over.append(True)
                self.unwatch_fd(helper.fd)
                os.close(helper.fd)
                done(*helper.result())

        def readable() -> None:
            if helper.read():
                finish()

        def ended(status: int) -> None:
            if not over:
                helper.read()
                finish()

        self.watch_fd(helper.fd, readable)
        self.children.watch(helper.pid, ended)

    def session_job(
        self,
        job_id: str,
        alive: bool,
        kept: bool = False,
        root: tuple[int, int] | None = None,
    ) -> None:
        """Tells the janitor of a session-bound job: before it is started, and when it is gone.

        ``root``: in a second call, the pid and start time of its first process.
        """
        if root is not None:
            self._tell("=%s %d %d\n" % ((job_id, *root)))
        elif not alive:
            self._tell("-%s\n" % job_id)
        else:
            self._tell("+%s%s\n" % (job_id, " kept" if kept else ""))
            self._send_news()  # what is started before the janitor knows might be left behind

    def _tell(self, line: str) -> None:
        self._news += line.encode()
        if self._news_timer is None:
            self._news_timer = self.call_later(NEWS_DELAY, self._send_news)

    def _send_news(self) -> None:
        if self._news_timer is not None:
            self._news_timer.cancel()
            self._news_timer = None
        try:
            self._news = self._news[os.write(self._tell_fd, self._news) :]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            self._news = b""  # nobody is left to be told
        if self._news:
            self._news_timer = self.call_later(NEWS_DELAY, self._send_news)

    def _body(self, value: object) -> bytes:
        body = pack(value)
        if len(body) > MAX_PAYLOAD:
            raise ValueError("an answer of %d bytes, the most is %d" % (len(body), MAX_PAYLOAD))
        return body

    # -- what arrives

    def _read_link(self) -> None:
        try:
            data = os.read(self._link_in, 1 << 18)
        except OSError:
            data = b""
        if not data:
            self._cut()
            return
        self.pulse.heard(time.monotonic())
        try:
            for event in self.conversation.receive(data):
                self._take(event)
        except ProtocolError as exc:
            self._finish(2, "the caller said what it may not say: %s" % exc)

    def _take(self, event: Event) -> None:
        kind, channel = event.kind, event.channel
        if kind == HELLO:
            self._greet(event.body)
        elif kind == GOODBYE:
            self._finish(0, None)
        elif kind == REQUEST:
            self._serve(channel, event.body)
        else:
            handler = self.handlers.get(channel)
            if handler is None:
                return
            if kind == CLOSE:
                del self.handlers[channel]
            try:
                self._hand_over(handler, event)
            except Exception:
                sys.excepthook(*sys.exc_info())

    def _hand_over(self, handler: Any, event: Event) -> None:
        if event.kind == DATA:
            _call(handler, "on_data", event.body)
        elif event.kind == CREDIT:
            _call(handler, "on_credit")
        elif event.kind == CLOSE:
            _call(handler, "on_close")
        elif event.kind == END:
            _call(handler, "on_end", unpack(event.body) if event.body else None)
        elif event.kind == EVENT:
            body = unpack(event.body)
            if isinstance(body, list) and len(body) == 2 and isinstance(body[1], dict):
                _call(handler, "on_event", body[0], body[1])

    def _greet(self, body: bytes) -> None:
        try:
            hello = unpack(body)
        except UnpackError as exc:
            raise ProtocolError("the hello: %s" % exc) from exc
        if not isinstance(hello, dict):
            raise ProtocolError("the hello is no map")
        self.hello = hello
        silence = hello.get("silence")
        if isinstance(silence, (int, float)) and silence > 0:
            self.pulse = Pulse(float(silence), time.monotonic())
        self._greeted = True
        self.conversation.hello(pack(self._own_hello()))
        # Once the hello is out: what comes next is most likely a request.
        self.call_later(0, _import_verbs)
        if hello.get("protocol") != PROTOCOL:
            self._finish(2, "this agent speaks protocol %d" % PROTOCOL)

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
        from remit.agent import statedir

        asked = self.hello.get("state")
        try:
            state = statedir.State(statedir.choose(asked if isinstance(asked, bytes) else None))
            problem = state.problem()
        except Refused as exc:
            return {"state": None, "state_problem": exc.message}
        if problem is None:
            self.state = state
        return {"state": state.path, "state_problem": problem}

    def _serve(self, channel: int, body: bytes) -> None:
        try:
            try:
                request = unpack(body)
            except UnpackError as exc:
                raise Refused("bad-request", "the request: %s" % exc) from exc
            if not (
                isinstance(request, list)
                and len(request) == 2
                and isinstance(request[0], str)
                and isinstance(request[1], dict)
            ):
                raise Refused("bad-request", "a request is a verb and its arguments")
            verb = _import_verbs().get(request[0])
            if verb is None:
                raise Refused("bad-request", "this agent knows no %r" % request[0])
            verb(self, channel, request[1])
        except Exception as exc:
            self.fail(channel, exc)

    # -- what goes out

    def _write_link(self) -> None:
        """Sends what is queued, as far as the link takes it."""
        while True:
            if not self._out:
                self._out = memoryview(self.conversation.data_to_send())
                if not self._out:
                    self.loop.unwatch_writable(self._link_out)
                    break
            try:
                self._out = self._out[os.write(self._link_out, self._out) :]
                self.pulse.said(time.monotonic())
            except BlockingIOError:
                self.loop.watch_writable(self._link_out, _nothing)
                break
            except OSError:
                self._cut()
                break
        if self._waiting_for_room and self.conversation.queued_data < ROOM:
            self._waiting_for_room = False
            for handler in list(self.handlers.values()):
                _call(handler, "on_room")

    def _look_at_pulse(self) -> None:
        now = time.monotonic()
        if self.ending:
            # The caller has left: it is not listened to any more.
            self.pulse.heard(now)
        if self.pulse.dead(now):
            self._cut()
        elif self.pulse.due(now):
            # Where something waits to be sent, that is the sign of life, once it can be.
            if self._greeted and not self._out and not self.conversation.queued:
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

    def _note_term(self, *_: object) -> None:
        self._termed = True  # the loop, which the signal has woken, looks at it

    def _finish(self, status: int, reason: str | None) -> None:
        """Ends the session: its jobs, then the last words, then the agent."""
        if self.ending:
            return
        self.ending = True
        self.unwatch_fd(self._link_in)
        left: list[str] = []
        pending = [len(self.on_session_end) + 1]

        def finished(survivors: object = ()) -> None:
            left.extend(survivors)  # type: ignore[arg-type]
            pending[0] -= 1
            if not pending[0]:
                self._say_goodbye(status, reason, left)

        for callback in self.on_session_end:
            try:
                callback(finished)
            except Exception:
                sys.excepthook(*sys.exc_info())
                finished()
        finished()
        self.call_later(END_PATIENCE, lambda: self._say_goodbye(status, reason, left))

    def _say_goodbye(self, status: int, reason: str | None, left: list[str]) -> None:
        if self._parted:
            return
        self._parted = True
        deadline = time.monotonic() + LAST_WORDS_PATIENCE

        def last_words() -> None:
            # What was queued before goes out before: nothing may follow a goodbye.
            if self.conversation.queued and time.monotonic() < deadline:
                self.call_later(0.01, last_words)
                return
            goodbye: dict[str, object] = {"left": left}
            if reason is not None:
                goodbye["reason"] = reason
            if self._greeted:
                self.conversation.goodbye(pack(goodbye))
            leave()

        def leave() -> None:
            if (self._out or self.conversation.queued) and time.monotonic() < deadline:
                self.call_later(0.01, leave)
                return
            self._send_news()
            self._status = status

        last_words()


def _call(handler: Any, method: str, *args: object) -> None:
    function = getattr(handler, method, None)
    if function is not None:
        function(*args)


def _import_verbs() -> dict[str, Verb]:
    from remit.agent.verbs import VERBS

    return VERBS


def _nothing() -> None:
    """For a watch whose only purpose is to wake the loop."""


def _account() -> dict[str, object]:
    import pwd

    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:
        return {"user": str(os.geteuid()), "home": os.environb.get(b"HOME", b"/")}
    return {"user": entry.pw_name, "home": os.fsencode(entry.pw_dir)}
