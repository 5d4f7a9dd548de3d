"""Sessions whose target is in memory: no transport, no agent, no process, and time that may jump.

What jobs and calls do of themselves is looked at here: a lost link, a silence, a wait, a cancel.
The session, its connection and its links are the real ones; only what makes a link is not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

import remit
from remit._errors import ConnectError
from remit._link.carrier import Carried
from remit._link.link import Link
from remit._link.notify import Notifier
from remit._link.statuses import Statuses
from remit._plugins import plugins
from remit._session.dialing import Owner
from remit._session.life import Life
from remit._session.session import Session
from remit._session.settings import Settings
from remit._wire import frames
from remit._wire.conversation import AGENT, Conversation, Piece
from remit._wire.credit import LEAST_CHARGE
from remit.testing import FakePeer, FakeTransport
from testbed.fake_link import HELLO

pack = msgspec.msgpack.encode


class FakeJob:
    """One job there: it runs until it is told to end, and prints what it is told to."""

    def __init__(self, job_id: str, asked: dict[str, Any]) -> None:
        self.facts: dict[str, Any] = {
            "id": job_id,
            "name": asked["name"],
            "state": "RUNNING",
            "placement": asked["placement"],
            "lifetime": asked["lifetime"],
            "created": 1.0,
            "started": 1.0,
        }
        self.output = b""
        self.changed = Notifier()
        self.callers = 0  # channels on which somebody is told of it

    @property
    def is_kept(self) -> bool:
        return bool(self.facts["placement"] == "keep")

    @property
    def is_over(self) -> bool:
        return self.facts["state"] in ("COMPLETED", "FAILED", "STOPPED")

    def map(self) -> dict[str, Any]:
        return {**self.facts, "sizes": {"stdout": len(self.output), "stderr": 0}}

    def prints(self, data: bytes) -> None:
        self.output += data
        self.changed.notify()

    def ends(self, state: str = "COMPLETED", **outcome: object) -> None:
        outcome = outcome or {"exit_status": 0, "reason": "exited"}
        if not self.is_over:
            self.facts.update(state=state, finished=2.0, outcome=outcome)
            self.changed.notify()


class FakeTarget:
    """A computer that can be reached while it ``is_up``. ``asked`` are the verbs that came, with
    their job; ``dials`` the times at which a link was to be made."""

    def __init__(self) -> None:
        self.is_up = True
        self.is_silent = False  # nothing is said there any more, signs of life included
        self.turns = 0  # of the event loop, before each answer
        self.asked: list[tuple[str, str]] = []
        self.dials: list[float] = []
        self.jobs: dict[str, FakeJob] = {}
        self.ever: set[str] = set()
        self.sealed: set[str] = set()
        self._peers: list[FakePeer] = []

    def cut(self) -> None:
        """All links are lost."""
        peers, self._peers = self._peers, []
        for peer in peers:
            peer.cut_stdin()
            peer.cut_stdout()

    def only(self) -> FakeJob:
        (job,) = self.jobs.values()
        return job

    @asynccontextmanager
    async def session(self, **settings: Any) -> AsyncIterator[remit.Session]:
        """As `remit.connect`."""
        options = Settings(**settings)
        target = remit.Target("fake", "")
        session = Session(target, FakeTransport(self._serve), plugins(), options)
        session._life = Life(session._connection, _Dialer(self, options.silence))
        async with remit.open_hub() as hub:
            hub._sessions.add(session)
            hub._start_soon(partial(hub._serve, session))
            await session._connection.ready()
            yield session

    async def _serve(self, peer: FakePeer) -> int:
        self._peers.append(peer)
        await _Agent(self, peer).serve()
        return 0


class _Dialer:
    """`remit._session.dialing.Dialing`."""

    def __init__(self, target: FakeTarget, silence: float) -> None:
        self.statuses = Statuses("fake:", None)
        self._target = target
        self._silence = silence

    async def converse(self, owner: Owner) -> remit.RemitError:
        self._target.dials.append(anyio.current_time())
        if not self._target.is_up:
            raise ConnectError("fake: was not reached: no route")
        transport = FakeTransport(self._target._serve)
        async with transport.open(remit.Target("fake", ""), []) as stream:
            link = Link(Carried(stream, "fake", plugins()), self._silence, "fake:")
            hello = {"silence": self._silence}
            return owner.lost(await link.run(b"", b"", hello, lambda: owner.opened(link)))


class _Agent:
    """What answers on one link."""

    def __init__(self, target: FakeTarget, peer: FakePeer) -> None:
        self._target = target
        self._peer = peer
        self._say = Conversation(AGENT, LEAST_CHARGE)
        self._silence = 15.0
        self._returned: dict[int, FakeJob] = {}
        self._scopes: dict[int, anyio.CancelScope] = {}

    async def serve(self) -> None:
        self._say.hello(pack(HELLO))
        try:
            async with anyio.create_task_group() as self._tasks:
                await self._flush()
                await self._listen()
                self._tasks.cancel_scope.cancel()
        except* BrokenPipeError:
            pass  # it was cut
        finally:
            for job in self._returned.values():
                job.ends("STOPPED", reason="session-ended")
                self._forget(job)

    async def _flush(self) -> None:
        while not self._target.is_silent and (data := self._say.data_to_send()):
            await self._peer.send(data)

    async def _listen(self) -> None:
        while data := await self._peer.receive():
            for event in self._say.receive(data):
                if event.kind == frames.HELLO:
                    self._silence = msgspec.msgpack.decode(event.body)["silence"]
                    self._tasks.start_soon(self._live)
                elif event.kind == frames.GOODBYE:
                    self._say.goodbye(pack({}))
                    await self._flush()
                    return
                elif event.kind == frames.REQUEST:
                    for _ in range(self._target.turns):
                        await anyio.lowlevel.checkpoint()
                    verb, arguments = msgspec.msgpack.decode(event.body)
                    self._answer(event.channel, verb, arguments)
                elif event.kind == frames.CLOSE:
                    self._closed(event.channel)
                await self._flush()

    async def _live(self) -> None:
        while True:
            await anyio.sleep(self._silence / 3)
            self._say.ping()
            await self._flush()

    def _closed(self, channel: int) -> None:
        if channel in self._scopes:
            self._scopes.pop(channel).cancel()
        job = self._returned.pop(channel, None)
        if job is not None:
            job.ends("STOPPED", reason="stopped")
            self._forget(job)

    def _forget(self, job: FakeJob) -> None:
        self._target.jobs.pop(job.facts["id"], None)

    def _answer(self, channel: int, verb: str, arguments: dict[str, Any]) -> None:
        target, say = self._target, self._say
        job_id = str(arguments.get("job") or arguments.get("id") or arguments.get("name"))
        target.asked.append((verb, job_id))
        job = target.jobs.get(job_id)
        if verb == "start" and job is None and job_id in target.sealed | target.ever:
            words = f"job {job_id} was taken back: its id cannot be used again"
            say.refuse(channel, pack({"code": "gone", "message": words}))
        elif verb == "start":
            if job is None:
                job = target.jobs[job_id] = FakeJob(job_id, arguments)
                target.ever.add(job_id)
            if not job.is_kept:
                self._returned[channel] = job
            self._begin(self._tell, channel, job)
        elif verb in ("jobs", "find"):
            jobs = [one.map() for one in target.jobs.values() if one.is_kept]
            if verb == "find":
                jobs = [one for one in jobs if job_id in (one["id"], one["name"])]
            say.reply(channel, pack({"jobs": jobs, "next": None}))
        elif verb == "seal":
            target.sealed.add(job_id)
            say.reply(channel, pack({"ran": job_id in target.ever}))
        elif job is None:
            say.refuse(channel, pack({"code": "not-found", "message": f"no job {job_id}"}))
        elif verb == "watch":
            self._begin(self._tell, channel, job)
        elif verb == "read":
            self._begin(self._send, channel, job, arguments)
        elif verb == "stop":
            job.ends("STOPPED", reason="stopped")
            say.reply(channel, pack({"survivors": [], "job": job.map()}))
        elif verb == "remove":
            job.ends("STOPPED", reason="stopped")
            del target.jobs[job_id]
            say.reply(channel, pack({}))
        else:
            say.refuse(channel, pack({"code": "bad-request", "message": f"no verb {verb}"}))

    def _begin(self, serve: Any, channel: int, job: FakeJob, *args: Any) -> None:
        async def run() -> None:
            with self._scopes.setdefault(channel, anyio.CancelScope()):
                await serve(channel, job, *args)

        if serve == self._tell:
            self._say.accept(channel, pack(job.map()))
        self._tasks.start_soon(run)

    async def _tell(self, channel: int, job: FakeJob) -> None:
        """Of its output, where it returns, and of its end."""
        job.callers += 1
        sent = 0
        try:
            while True:
                while not job.is_kept and sent < len(job.output):
                    sent += self._piece(channel, job, sent)
                    await self._flush()
                if job.is_over:
                    break
                await job.changed.wait()
            if self._returned.pop(channel, None) is not None:
                self._forget(job)
            self._say.end(channel, pack({"job": job.map()}))
            await self._flush()
        finally:
            job.callers -= 1

    def _piece(self, channel: int, job: FakeJob, at: int) -> int:
        piece = job.output[at : at + self._say.credit(channel)]
        self._say.data(channel, Piece(1, at, at, 1.0, piece))
        return len(piece)

    async def _send(self, channel: int, job: FakeJob, arguments: dict[str, Any]) -> None:
        """What it has printed, as one who only looks is sent it."""
        begin = arguments["position"] or {}
        sent = begin.get("stdout", 0)
        self._say.accept(channel, pack({"position": {"stdout": sent}}))
        while True:
            while sent < len(job.output):
                sent += self._piece(channel, job, sent)
                await self._flush()
            if job.is_over or not arguments["follow"]:
                break
            await job.changed.wait()
        position = {"position": {"stdout": sent}, "complete": job.is_over}
        self._say.event(channel, pack(["all-sent", position]))
        self._say.end(channel, pack({"complete": job.is_over, "job": job.map()}))
        await self._flush()
