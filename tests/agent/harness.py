"""A caller for tests of the agent: blocking, one thread, every wait with a deadline."""

from __future__ import annotations

import base64
import os
import secrets
import select
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from remit._link import agent_payload
from remit._wire.conversation import CALLER, Conversation, Event, Piece, Pulse
from remit._wire.frames import (
    ACCEPT,
    DATA,
    END,
    EVENT,
    GOODBYE,
    HEADER,
    HELLO,
    PING,
    REFUSAL,
    REPLY,
    encode,
)
from remit._wire.msgpack import pack, unpack
from testbed.processes import everyone, find

DEADLINE = 10.0
PLENTY = 1 << 40
STDIN, STDOUT, STDERR = 0, 1, 2


class Refused(Exception):
    """The agent answered with a refusal; ``facts`` is its body."""

    def __init__(self, facts: dict[str, Any]) -> None:
        super().__init__(facts)
        self.facts = facts
        self.code = facts["code"]


class LinkEnded(Exception):
    """The agent closed its end."""


@dataclass
class Collected:
    """All that came on a channel until its END, from the moment of asking."""

    pieces: list[Piece] = field(default_factory=list)
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    end: dict[str, Any] = field(default_factory=dict)

    def stream(self, number: int) -> bytes:
        return b"".join(piece.data for piece in self.pieces if piece.stream == number)

    @property
    def stdout(self) -> bytes:
        return self.stream(STDOUT)

    @property
    def stderr(self) -> bytes:
        return self.stream(STDERR)

    @property
    def job(self) -> dict[str, Any]:
        job: dict[str, Any] = self.end["job"]
        return job

    @property
    def outcome(self) -> dict[str, Any]:
        outcome: dict[str, Any] = self.job["outcome"]
        return outcome

    @property
    def states(self) -> list[str]:
        return [args["state"] for name, args in self.events if name == "job"]


class Wire:
    """An agent under ``python`` and the caller's end of its link.

    Used as a context manager it leaves no process behind. ``state`` is the state directory that
    the caller asks for; ``agent_pid`` is in ``hello`` once the agent has greeted.
    """

    def __init__(
        self,
        python: str | Path,
        state: Path | None = None,
        env: dict[str, str] | None = None,
        silence: float = 15.0,
        cwd: Path | None = None,
        ping: bool = True,
        hello: dict[str, Any] | None = None,
    ) -> None:
        self._conversation = Conversation(CALLER)
        self._events: deque[Event] = deque()
        self._pulse = Pulse(silence, time.monotonic())
        self._ping = ping
        self._more_hello = hello or {}
        nonce = agent_payload.new_nonce()
        self.process = subprocess.Popen(
            agent_payload.stage0_argv(str(python), nonce),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=env,
            cwd=cwd,
            bufsize=0,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._to, self._from = self.process.stdin.fileno(), self.process.stdout.fileno()
        self._unsent = bytearray()
        os.set_blocking(self._to, False)
        try:
            self._bring_up(nonce, state, silence)
        except BaseException:
            self.close()
            raise

    def _bring_up(self, nonce: str, state: Path | None, silence: float) -> None:
        received = b""
        while (found := agent_payload.find_sentinel(nonce, received)) is None:
            received += self._read(time.monotonic() + DEADLINE)
        self._unsent += agent_payload.bring_up(found.version)
        self._python = "{}.{}.0".format(*found.version)
        self._conversation.hello(
            pack(
                {
                    "protocol": 1,
                    "features": [],
                    "silence": silence,
                    "state": None if state is None else os.fsencode(state),
                    "resume": None,
                    "version": "test",
                }
                | self._more_hello
            )
        )
        self._events += self._conversation.receive(received[found.end :])
        self.hello: Any = unpack(self.expect(HELLO, 0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # -- saying

    def request(self, verb: str, credit: int = PLENTY, **args: object) -> int:
        """Opens a channel; its number."""
        if verb in agent_payload.VERBS_WITH_MODULES:
            args.setdefault("modules", agent_payload.with_verb(verb, self._python))
        return self._conversation.request(pack([verb, args]), credit)

    def raw_request(self, body: bytes) -> int:
        return self._conversation.request(body)

    def event(self, channel: int, name: str, **args: object) -> None:
        self._conversation.event(channel, pack([name, args]))

    def say(self, body: bytes) -> None:
        """A PING with so much in it; returns once it is written."""
        self._conversation.ping(body)
        self.flush()

    def away(self, away: bool) -> None:
        """Says that it is about to be silent, or that it goes on."""
        self.say(pack({"away": away}))

    def grant(self, channel: int, more: int) -> None:
        self._conversation.grant(channel, more)

    def close_channel(self, channel: int) -> None:
        """Gives it up, together with whatever was said before; returns once that is written."""
        self._conversation.close(channel)
        self.flush()

    def send(self, channel: int, data: bytes, deadline: float = DEADLINE) -> None:
        """Sends it to stdin as the agent's credit allows. Raises TimeoutError."""
        until, offset = time.monotonic() + deadline, 0
        while offset < len(data):
            if size := min(self._conversation.credit(channel), 1 << 16, len(data) - offset):
                piece = Piece(STDIN, 0, offset, 0.0, data[offset : offset + size])
                self._conversation.data(channel, piece)
                offset += size
            else:
                self._pump(until)

    def credit(self, channel: int) -> int:
        """How much the agent lets us send."""
        return self._conversation.credit(channel)

    def send_eof(self, channel: int) -> None:
        self._conversation.end(channel)

    # -- hearing

    def expect(self, kind: int, channel: int, deadline: float = DEADLINE) -> Any:
        """The body of the next frame of that kind on the channel; others wait their turn.

        Raises Refused where a refusal comes instead, TimeoutError, and LinkEnded.
        """
        until = time.monotonic() + deadline
        while True:
            for event in self._events:
                if event.channel == channel and event.kind in (kind, REFUSAL):
                    self._events.remove(event)
                    if event.kind == REFUSAL and kind != REFUSAL:
                        raise Refused(unpack(event.body))  # type: ignore[arg-type]
                    return event.body
            self._pump(until)

    def reply(self, channel: int, deadline: float = DEADLINE) -> Any:
        return unpack(self.expect(REPLY, channel, deadline))

    def call(self, verb: str, deadline: float = DEADLINE, **args: object) -> Any:
        """A request that is answered at once: the answer. Raises Refused."""
        return self.reply(self._conversation.request(pack([verb, args])), deadline)

    def accepted(self, channel: int, deadline: float = DEADLINE) -> Any:
        return unpack(self.expect(ACCEPT, channel, deadline))

    def news(self, channel: int, name: str, deadline: float = DEADLINE) -> dict[str, Any]:
        """The arguments of the next EVENT of that name on the channel; earlier ones are dropped."""
        until = time.monotonic() + deadline
        while True:
            said: Any = unpack(self.expect(EVENT, channel, until - time.monotonic()))
            if said[0] == name:
                args: dict[str, Any] = said[1]
                return args

    def wait_for_state(self, channel: int, state: str, deadline: float = DEADLINE) -> None:
        until = time.monotonic() + deadline
        while self.news(channel, "job", until - time.monotonic())["state"] != state:
            pass

    def piece(self, channel: int, deadline: float = DEADLINE) -> Piece:
        piece: Piece = self.expect(DATA, channel, deadline)
        return piece

    def collect(self, channel: int, deadline: float = DEADLINE) -> Collected:
        """Everything on the channel until its END. Grants nothing."""
        until, collected = time.monotonic() + deadline, Collected()
        while True:
            mine = [event for event in self._events if event.channel == channel]
            for event in mine:
                self._events.remove(event)
                if event.kind == DATA:
                    collected.pieces.append(event.body)
                elif event.kind == EVENT:
                    said: Any = unpack(event.body)
                    collected.events.append((said[0], said[1]))
                elif event.kind == REFUSAL:
                    raise Refused(unpack(event.body))  # type: ignore[arg-type]
                elif event.kind == END:
                    collected.end = unpack(event.body) if event.body else {}  # type: ignore[assignment]
                    return collected
            self._pump(until)

    def settle(self, seconds: float) -> None:
        """Takes what comes for so long, where nothing is expected."""
        with suppress(TimeoutError):
            until = time.monotonic() + seconds
            while True:
                self._pump(until)

    def pings_in(self, seconds: float) -> int:
        """How many PINGs come in so long, where nothing else does. Says as much itself."""
        pings, until = 0, time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            if select.select([self._from], [], [], left)[0]:
                data = self._read(until)
                assert data == encode(PING, 0) * (len(data) // HEADER.size)
                pings += len(data) // HEADER.size
                os.write(self._to, encode(PING, 0))
        return pings

    @property
    def arrived(self) -> list[Event]:
        """What has come and was not asked for yet."""
        return list(self._events)

    # -- jobs

    def start(
        self, *argv: str | bytes, line: str | None = None, credit: int = PLENTY, **args: Any
    ) -> int:
        """Asks for a return job, of ``argv`` or of a /bin/sh line. Its channel."""
        return self.request("start", credit, **job(*argv, line=line, **args))

    def run(
        self, *argv: str | bytes, line: str | None = None, deadline: float = DEADLINE, **args: Any
    ) -> Collected:
        """A return job from beginning to end."""
        channel = self.start(*argv, line=line, **args)
        self.accepted(channel, deadline)
        return self.collect(channel, deadline)

    # -- the end

    def goodbye(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """The orderly end: what the agent answers."""
        self._conversation.goodbye(pack({}))
        answer: Any = unpack(self.expect(GOODBYE, 0, deadline))
        return answer  # type: ignore[no-any-return]

    def hang_up(self) -> None:
        """Closes the agent's stdin, as the end of a link does."""
        self.flush()
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._to = -1

    def flush(self, deadline: float = DEADLINE) -> None:
        """Returns once all that was said has been written."""
        until = time.monotonic() + deadline
        while self._unsent or self._conversation.queued:
            self._pump(until, reading=False)

    def wait_ended(self, deadline: float = 30.0) -> int:
        """The exit status of what was started: the janitor's."""
        return self.process.wait(deadline)

    @property
    def agent_pid(self) -> int:
        pid: int = self.hello["pid"]
        return pid

    def kill(self) -> None:
        """Kills the agent, as an administrator or the kernel may."""
        os.kill(self.agent_pid, signal.SIGKILL)

    def close(self) -> None:
        """Leaves nothing: the agent and the janitor are gone afterwards."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    # -- bytes

    def _pump(self, until: float, reading: bool = True) -> None:
        """Writes and reads once. Raises TimeoutError once it is ``until``."""
        now = time.monotonic()
        if now >= until:
            raise TimeoutError(f"nothing more came; waiting: {self.arrived}")
        if self._ping and self._pulse.due(now):
            self._conversation.ping()
            self._pulse.said(now)
        self._unsent += self._conversation.data_to_send()
        wait = min(until - now, self._pulse.next_look(now) if self._ping else DEADLINE)
        readable, writable, _ = select.select(
            [self._from] if reading else [], [self._to] if self._unsent else [], [], wait
        )
        if writable:
            sent = os.write(self._to, self._unsent[: 1 << 18])
            del self._unsent[:sent]
            self._pulse.said(now)
        if readable:
            self._events += self._conversation.receive(self._read(until))
            self._pulse.heard(now)

    def _read(self, until: float) -> bytes:
        if not select.select([self._from], [], [], max(0.0, until - time.monotonic()))[0]:
            raise TimeoutError("nothing came")
        data = os.read(self._from, 1 << 18)
        if not data:
            raise LinkEnded(f"the agent's stdout is at its end; status {self.process.poll()}")
        return data


def job(
    *argv: str | bytes, line: str | None = None, spool: bool = False, **args: Any
) -> dict[str, Any]:
    """The arguments of ``start``, with those that are given over the usual ones."""
    command = (
        {"argv": [os.fsencode(word) for word in argv]}
        if line is None
        else {"line": os.fsencode(line)}
    )
    usual: dict[str, Any] = {
        "id": new_id(),
        "command": command,
        "cwd": None,
        "env": {},
        "name": None,
        "group": None,
        "placement": "keep" if spool else "return",
        "spool": spool,
        "lifetime": "detached" if spool else "session",
        "timeout": None,
        "merge": False,
        "stdin": False,
        "limits": {},
    }
    return usual | args


def new_id() -> str:
    return "j" + base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]


def processes_of(*job_ids: str) -> list[int]:
    """The live processes that carry one of the jobs' ids in their environment."""
    marks = {f"REMIT_JOB={job_id}".encode() for job_id in job_ids}
    found = []
    for process in everyone():
        with suppress(OSError):
            if marks & set(Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")):
                found.append(process.pid)
    return found


def wait_until_gone(job_id: str, deadline: float = DEADLINE) -> float:
    """Seconds until no process of the job is left. Raises TimeoutError."""
    began = time.monotonic()
    while left := processes_of(job_id):
        if time.monotonic() - began > deadline:
            raise TimeoutError(f"still there: {left}")
        time.sleep(0.02)
    return time.monotonic() - began


def wait_until_ended(pid: int, deadline: float = DEADLINE) -> None:
    until = time.monotonic() + deadline
    while find(pid) is not None:
        if time.monotonic() > until:
            raise TimeoutError(f"process {pid} is still there")
        time.sleep(0.01)
