"""Return jobs that are functions: forked from a warm interpreter rather than started as programs.

They are return jobs in all else. What they make beside their output comes on a third pipe, as the
records of `remit._wire.records`, and goes to the caller as it comes, like the output.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.loop import nothing
from remit._agent.functions import known
from remit._agent.returned.program import Root, close_all
from remit._agent.returned.stdin import Stdin
from remit._wire.msgpack import pack
from remit._wire.records import Spotter
from remit._wire.refusal import Refused
from remit._wire.streams import RECORDS, STDERR, STDOUT

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.channel import Channel
    from remit._agent.returned.program import Job
    from remit._agent.returned.record import Wanted

_SIZE = struct.Struct(">I")
# What the fork is told once it may call the function; it exits where it is told nothing.
GO = b"g"
_MAX_REPORT = 4096


class Function(Root):
    """A fork of an interpreter, and the task that is on its way to it."""

    streams = (STDOUT, STDERR, RECORDS)
    is_timed = False  # the interpreter may have to be brought up before

    def __init__(self, channel: Channel, wanted: Wanted, args: dict[str, Any]) -> None:
        """Raises Refused where its interpreter is gone."""
        super().__init__(channel.link.session, wanted.id)
        self.spotter = Spotter()
        head, size = task_head(args["function"], wanted.cwd, wanted.env)
        self._begun = (head, args["task"])  # what is there of the task
        self._size = len(head) + size
        self._interpreter = known.of(channel.link.session, args["python"])
        self._channel = channel
        self._loop = channel.link.loop
        self._shipment: _Shipment | None = None
        self._report = -1

    def start(self, fds: list[int], job: Job) -> bool:
        try:
            task_fd, feed_fd = os.pipe()
            fds.append(task_fd)
            self._shipment = _Shipment(self._channel, feed_fd, self._size)
            report, reporter = socket.socketpair()
            self._report = report.detach()
            fds.append(reporter.detach())
            # The process tells its pid by itself, when it is about to run.
            self._interpreter.fork("job", self._id, fds, lambda: close_all(fds), nothing)
        except (OSError, Refused):
            close_all(fds)
            raise
        self._loop.watch_fd(self._report, lambda: self._reported(job))
        for part in self._begun:
            self._shipment.take(part)
        self._begun = (b"", b"")
        return False

    def _reported(self, job: Job) -> None:
        """The fork is ready to call the function and waits for our word, or says why it cannot."""
        try:
            report = os.read(self._report, _MAX_REPORT)
            if report.startswith(b"+"):
                os.write(self._report, GO)
        except OSError:
            report = b""  # it was killed
        self._close_report()
        if report.startswith(b"+"):
            self.pid = int(report[1:])
            job.begun()
        elif report:
            job.never_ran(report[1:].decode("utf-8", "replace"))
        else:
            job.never_ran("the process for the function ended before it ran")

    def watch(self, job: Job) -> None:
        self._interpreter.watch(self.pid, self._telling(job))

    def take(self, data: bytes) -> None:
        if self._shipment is not None:
            self._shipment.take(data)

    def ending(self, grace: float) -> process_tree.Steps[list[str]]:
        """INT before all else, and half of the grace to clean up."""
        return _interrupting_first(self.places, self.search(), grace)

    def give_up(self) -> None:
        if self._shipment is not None:
            self._shipment.close()
        self._close_report()
        self._begun = (b"", b"")

    def _close_report(self) -> None:
        if self._report >= 0:
            self._loop.unwatch_fd(self._report)
            os.close(self._report)
            self._report = -1


def _interrupting_first(
    places: list[tuple[int, int]], search: process_tree.Search, grace: float
) -> process_tree.Steps[list[str]]:
    left = yield from process_tree.interrupting(places, grace)
    survivors: list[str] = yield from process_tree.ending(search, left)
    return survivors


class _Shipment(Stdin):
    """What is to be run, on its way to the fork that runs it."""

    def __init__(self, channel: Channel, fd: int, size: int) -> None:
        self._left = size
        super().__init__(channel, fd)

    def take(self, data: bytes) -> None:
        super().take(data)
        self._left -= len(data)
        if self._left <= 0:
            self.end()

    def _unread(self) -> None:
        self.close()  # its report, or the lack of it, says why


def task_head(
    function: dict[str, Any], cwd: bytes | None, env: dict[bytes, bytes]
) -> tuple[bytes, int]:
    """The head of a task (`remit._worker.job`), and the size of what follows it."""
    program, size = function["program"], function["arguments"]
    head = pack([cwd, env, function["trust"], function["kind"], program, size])
    return _SIZE.pack(len(head)) + head, program + size
