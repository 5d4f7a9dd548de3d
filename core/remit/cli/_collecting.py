"""Starting the collector of a return job: what it is told, and what it answers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from remit._jobs.options import Leftovers
from remit.cli import _connecting
from remit.cli._report import LINK, ToldElsewhere
from remit.cli._work import Work

# Seconds that a collector has for taking its job back when we are interrupted.
_GIVE_UP = 10.0


class Command(msgspec.Struct, kw_only=True):
    """What it runs, in bytes: words and directories need not be UTF-8."""

    argv: list[bytes] | None
    line: bytes | None
    login: bool
    cwd: bytes | None
    env: dict[bytes, bytes]
    group: str | None

    @classmethod
    def of(cls, work: Work) -> Command:
        line = work.command if isinstance(work.command, str) else None
        return cls(
            argv=None if line is not None else [os.fsencode(word) for word in work.command],
            line=None if line is None else os.fsencode(line),
            login=work.login,
            cwd=None if work.cwd is None else os.fsencode(work.cwd),
            env={os.fsencode(name): os.fsencode(value) for name, value in work.env.items()},
            group=work.group,
        )

    def facts(self) -> dict[str, Any]:
        """Its part of `Work`."""
        return {
            "command": os.fsdecode(self.line)
            if self.line is not None
            else tuple(os.fsdecode(word) for word in self.argv or ()),
            "login": self.login,
            "cwd": None if self.cwd is None else os.fsdecode(self.cwd),
            "group": self.group,
            "env": {os.fsdecode(name): os.fsdecode(value) for name, value in self.env.items()},
        }


class Assignment(msgspec.Struct, kw_only=True):
    """What a collector is to do. It travels over a pipe: neither ``ps`` nor a disk shows it."""

    target: str
    id: str
    command: Command
    name: str | None
    timeout: float | None
    leftovers: Leftovers
    stdin: int | None
    connect_timeout: float | None

    @classmethod
    def of(cls, target: str, job_id: str, work: Work) -> Assignment:
        return cls(
            target=target,
            id=job_id,
            command=Command.of(work),
            name=work.name,
            timeout=work.timeout,
            leftovers=work.leftovers,
            stdin=work.stdin,
            connect_timeout=_connecting.timeout,
        )

    def work(self) -> Work:
        return Work(
            name=self.name,
            timeout=self.timeout,
            leftovers=self.leftovers,
            stdin=self.stdin,
            **self.command.facts(),
        )


class Answer(msgspec.Struct, kw_only=True):
    """What a collector says once: its job runs, or why there is none and with which status.
    ``problem``, with its hint: there is a job, and nothing of it runs."""

    problem: str = ""
    message: str | None = None
    evidence: str = ""
    hint: str = ""
    status: int = 0


async def collect(target: str, job_id: str, work: Work) -> Answer:
    """Returns once the job is there and a process of its own collects what it sends.

    Raises ToldElsewhere where it does not run. Cancelled, the job is taken back.
    """
    collector = _start(() if work.stdin is None else (work.stdin,))
    try:
        # In a thread: both ends are pipes, and the collector takes its time.
        told = await anyio.to_thread.run_sync(
            _converse,
            collector,
            msgspec.msgpack.encode(Assignment.of(target, job_id, work)),
            abandon_on_cancel=True,
        )
    except BaseException:
        collector.terminate()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_await_end, collector)
        raise
    try:
        answer = msgspec.msgpack.decode(told, type=Answer)
    except msgspec.MsgspecError:
        status = collector.wait()
        answer = Answer(message=f"the collector ended with status {status}", status=LINK)
    if answer.message is not None:
        collector.wait()
        raise ToldElsewhere(
            answer.message, status=answer.status, evidence=answer.evidence, hint=answer.hint
        )
    return answer


def _start(inherited: Sequence[int]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        # -P: a module in the current directory is none of ours.
        [sys.executable, "-P", "-m", "remit.cli._collector"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        # Neither the terminal's end nor its Ctrl-C is meant for it.
        start_new_session=True,
        pass_fds=inherited,
    )


def _converse(collector: subprocess.Popen[bytes], assignment: bytes) -> bytes:
    """All that it answers; it lets go of the pipe then, and goes on."""
    assert collector.stdin is not None
    assert collector.stdout is not None
    with collector.stdout, suppress(BrokenPipeError):
        with collector.stdin:
            collector.stdin.write(assignment)
        return collector.stdout.read()
    return b""


def _await_end(collector: subprocess.Popen[bytes]) -> None:
    try:
        collector.wait(_GIVE_UP)
    except subprocess.TimeoutExpired:
        collector.kill()
