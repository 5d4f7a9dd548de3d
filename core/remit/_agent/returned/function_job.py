"""Return jobs that are functions: forked from a warm interpreter rather than started as programs.

They are return jobs in all else. What they make beside their output comes on a third pipe, as the
records of `remit._wire.records`, and goes to the caller as it comes, like the output.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from remit._agent.base import arguments, process_tree
from remit._agent.base.spawn import SpawnError
from remit._agent.functions import interpreter
from remit._agent.returned.return_job import ReturnJob
from remit._agent.returned.stdin import Stdin
from remit._wire.msgpack import pack
from remit._wire.records import Spotter
from remit._wire.refusal import Refused
from remit._wire.streams import RECORDS, STDERR, STDOUT, TASK

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.link import Link
    from remit._wire.conversation import Piece

_SIZE = struct.Struct(">I")
# What the fork is told once it may call the function; it exits where it is told nothing.
GO = b"g"
_MAX_REPORT = 4096


class FunctionJob(ReturnJob):
    """See the module."""

    def __init__(self, link: Link, channel: int, job_id: str, args: dict[str, Any]) -> None:
        """Raises Refused, as the base."""
        super().__init__(link, channel, job_id, args)
        self._sizes[RECORDS] = 0
        self._cwd = arguments.path(args, "cwd")
        self._head, self._task_size = task_head(args, self._cwd, self._env)
        self._task_begun: bytes = arguments.take(args, "task", bytes, default=b"")
        self._interpreter = interpreter.of(link.session, arguments.path(args, "python"))
        self._spotter = Spotter()
        self._shipment: _Shipment | None = None
        self._report = -1

    # -- the beginning

    def begin(self) -> None:
        theirs: list[int] = []
        try:
            if self._wants_stdin:
                stdin_fd, feed_fd = os.pipe()
                theirs.append(stdin_fd)
                self._stdin = Stdin(self._link, self._channel, feed_fd)
            else:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
            self._open_output(STDOUT, theirs)
            if self._merge:
                theirs.append(os.dup(theirs[-1]))
            else:
                self._open_output(STDERR, theirs)
            self._open_output(RECORDS, theirs)
            task_fd, feed_fd = os.pipe()
            theirs.append(task_fd)
            size = len(self._head) + self._task_size
            self._shipment = _Shipment(self._link, self._channel, feed_fd, size)
            report, reporter = socket.socketpair()
            self._report = report.detach()
            theirs.append(reporter.detach())
            self._link.session.session_job(self.id, True)
            self._interpreter.fork("job", self.id, theirs, lambda: _close(theirs), _ignored)
        except (OSError, Refused):
            _close(theirs)
            self._let_go()
            self._link.session.session_job(self.id, False)
            raise
        self._link.handlers[self._channel] = self
        self._link.loop.watch_fd(self._report, self._reported)
        self._shipment.take(self._head)
        self._shipment.take(self._task_begun)
        self._task_begun = b""

    def _reported(self) -> None:
        """The fork is ready to call the function and waits for our word, or says why it cannot."""
        try:
            report = os.read(self._report, _MAX_REPORT)
            if report.startswith(b"+"):
                os.write(self._report, GO)
        except OSError:
            report = b""  # it was killed
        self._close_report()
        if report.startswith(b"+"):
            self._begun(int(report[1:]))
        elif report:
            self._never_ran(SpawnError("directory", 0, report[1:].decode("utf-8", "replace")))
        else:
            words = "the process for the function ended before it ran"
            self._never_ran(SpawnError("program", 0, words))

    def _watch_root(self, pid: int) -> None:
        self._interpreter.watch(pid, self._root_ended)

    @staticmethod
    def _ending(
        search: process_tree.Search, roots: list[tuple[int, int]], grace: float
    ) -> process_tree.Steps[list[str]]:
        """INT before all else, and half of the grace to clean up."""
        left = yield from process_tree.interrupting(roots, grace)
        survivors: list[str] = yield from process_tree.ending(search, left)
        return survivors

    # -- what arrives on its channel

    def on_data(self, piece: Piece) -> None:
        if piece.stream == TASK and self._shipment is not None:
            self._shipment.take(piece.data)
        else:
            super().on_data(piece)

    # -- output and end

    def _pass_on(self, output: Any, data: bytes) -> None:
        if output.stream == RECORDS:
            self._spotter.feed(data)
        super()._pass_on(output, data)

    def _judge(self, outcome: dict[str, object]) -> dict[str, object]:
        return self._spotter.judge(outcome)

    def _forget(self) -> None:
        super()._forget()
        self._head = self._task_begun = b""

    def _let_go(self) -> None:
        super()._let_go()
        if self._shipment is not None:
            self._shipment.close()
        self._close_report()

    def _close_report(self) -> None:
        if self._report >= 0:
            self._link.loop.unwatch_fd(self._report)
            os.close(self._report)
            self._report = -1


class _Shipment(Stdin):
    """What is to be run, on its way to the fork that runs it."""

    def __init__(self, link: Link, channel: int, fd: int, size: int) -> None:
        self._left = size
        super().__init__(link, channel, fd)

    def take(self, data: bytes) -> None:
        super().take(data)
        self._left -= len(data)
        if self._left <= 0:
            self.end()

    def _unread(self) -> None:
        self.close()  # its report, or the lack of it, says why


def task_head(
    args: dict[str, Any], cwd: bytes | None, env: dict[bytes, bytes]
) -> tuple[bytes, int]:
    """The head of a task (`remit._worker.job`), and the size of what follows it. Raises Refused."""
    function = arguments.take(args, "function", dict)
    kind = arguments.take(function, "kind", str)
    program = arguments.take(function, "program", int)
    size = arguments.take(function, "arguments", int)
    trust = arguments.take(function, "trust", bool, default=False)
    if program < 0 or size < 0:
        raise Refused("bad-request", "a function of a size below 0")
    head = pack([cwd, env, trust, kind, program, size])
    return _SIZE.pack(len(head)) + head, program + size


def _ignored(pid: int, error: int) -> None:
    """The process tells it by itself, when it is about to run."""


def _close(fds: list[int]) -> None:
    while fds:
        os.close(fds.pop())
