"""The warm interpreters of a session: what function jobs and workers are forked from.

Each is an ordinary Python of the target, started at its first use, and runs `remit._worker.server`.
The modules for that come from the caller, as packages on the channel of the verb `python`.
"""

from __future__ import annotations

import array
import os
import socket
import struct
import sys
from collections import deque, namedtuple
from functools import partial
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.channel import Handler
from remit._agent.base.spawn import SpawnError, spawn
from remit._agent.functions.known import Interpreters
from remit._jobdir import proc
from remit._wire.msgpack import pack, unpack
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Any, Callable, Iterator, Sequence

    from remit._agent.base.link import Link
    from remit._wire.conversation import Piece

# What an interpreter is started with. It tells what it is, is given the size of the first package,
# and that package: Python source which installs an importer for the rest.
STAGE = """\
import os, sys, zlib
sys.path[:] = [place for place in sys.path if place]
os.write(0, ("%d.%d.%d" % sys.version_info[:3]).encode() + b"\\0"
    + sys.implementation.name.encode() + b"\\0" + os.fsencode(sys.executable or ""))
size, kit = int(os.read(0, 20) or sys.exit(1)), b""
while len(kit) < size:
    kit += os.read(0, 1 << 18) or sys.exit(1)
exec(compile(zlib.decompress(kit), "remit", "exec"), {})
from remit._worker.server import main
main()
"""
# What a kept function's own interpreter is started with; its script comes on descriptor 3: the
# packages, each after its size, a size of 0, and the task.
COLD_STAGE = """\
import io, sys, zlib
sys.path[:] = [place for place in sys.path if place]
script = io.open(3, "rb")
kit = script.read(int.from_bytes(script.read(8), "big"))
exec(compile(zlib.decompress(kit), "remit", "exec"), {})
from remit._worker.alone import main
main(script)
"""
_PACKET = 1 << 17
_WINDOW = 1 << 20
_SIZE = struct.Struct(">Q")
MAX_PACKAGE = 64 << 20
GRACE = 3.0
# How many ended children are remembered that nobody has claimed yet, or ever will.
_REMEMBERED = 256
# Seconds between two looks at those whose end is told by nobody.
_LOOK = 0.5


def python(link: Link, channel: int, args: dict[str, Any]) -> None:
    """The verb: an interpreter, by its path; None is the agent's own."""
    path = args["python"]
    known = link.session.only(Interpreters).by_path
    interpreter = known.get(path)
    if interpreter is None or interpreter.gone:
        known[path] = interpreter = Interpreter(link, path)
    interpreter.open(channel, args["packages"])


# A fork that is wanted: message bytes, fds tuple of ints, sent and forked callables
_Fork = namedtuple("_Fork", "message fds sent forked")


class _Gathering:
    """Packages on their way, each after its size."""

    def __init__(self) -> None:
        self._gathered = bytearray()
        self._size: int | None = None  # of the one that is being gathered

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Those that are whole now. Raises ValueError where one is too large."""
        self._gathered += data
        while True:
            if self._size is None:
                if len(self._gathered) < _SIZE.size:
                    return
                self._size = _SIZE.unpack_from(self._gathered)[0]
                del self._gathered[: _SIZE.size]
                if self._size > MAX_PACKAGE:
                    raise ValueError("a package of %d bytes" % self._size)
            if len(self._gathered) < self._size:
                return
            package = bytes(self._gathered[: self._size])
            del self._gathered[: self._size]
            self._size = None
            yield package


class _Ends:
    """How the children of an interpreter end, for those who want to know; whoever tells it first:
    the interpreter, or the kernel once that is gone and we have adopted them."""

    def __init__(self, link: Link) -> None:
        self._loop = link.loop
        self._children = link.session.children
        # Should the interpreter be killed, its children become ours.
        self._adopts = link.session.orphans.adopting
        self._wanted: dict[int, tuple[int | None, Callable[[int | None], object]]] = {}
        self._early: dict[int, int] = {}  # statuses of children that nobody has claimed yet

    def watch(self, pid: int, ended: Callable[[int | None], object], gone: bool) -> None:
        """``gone``: the interpreter is, and tells nothing any more."""
        self._wanted[pid] = proc.start_time(pid), self._loop.bound(ended)
        if pid in self._early:
            self._over(pid, self._early.pop(pid))
        elif self._adopts:
            self._children.watch_adopted(pid, partial(self._over, pid))
        elif gone:
            self._look()

    def forked(self, pid: int) -> None:
        self._early.pop(pid, None)  # an earlier one's, by the same pid

    def told(self, pid: int, status: int) -> None:
        """By the interpreter."""
        if pid in self._wanted:
            self._over(pid, status)
            return
        self._early[pid] = status
        if len(self._early) > _REMEMBERED:
            del self._early[next(iter(self._early))]

    def interpreter_gone(self) -> None:
        if not self._adopts:
            self._look()

    def _over(self, pid: int, status: int | None) -> None:
        _, ended = self._wanted.pop(pid)
        self._children.forget(pid)
        ended(status)

    def _look(self) -> None:
        """Where its children have gone to init, which tells nothing."""
        for pid, (start, _) in list(self._wanted.items()):
            if not proc.lives(pid, start):
                self._over(pid, None)
        if self._wanted:
            self._loop.call_later(_LOOK, self._look)


class Interpreter(Handler):
    """One warm interpreter, and the handler of the channel on which its packages come."""

    def __init__(self, link: Link, path: bytes | None) -> None:
        """Starts it. Raises Refused where it cannot be had."""
        self.gone = False
        self.packages: list[bytes] = []
        self.on_lost: list[Callable[[], object]] = []
        self._on_ready: list[Callable[[], object]] = []
        self.id = "w" + os.urandom(6).hex()  # as long as a job's: `remit._agent.base.environment`
        self._link = link
        self._channel = 0
        self._wanted = 0  # packages that have to be there before anything is forked
        self._gathering = _Gathering()
        self._waiting: list[_Fork] = []  # until the packages are there
        self._forking: deque[Callable[[int, int], object]] = deque()  # who waits for the pid
        self._out: list[tuple[bytes, tuple[int, ...]]] = []  # packets to be sent
        self._ends = _Ends(link)
        self._greeting: dict[str, object] | None = None
        self.program = program = path or os.fsencode(sys.executable or "python3")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.open(os.devnull, os.O_WRONLY)
        # What it forks as a job is that one's; with calls it starts something itself: `pool`.
        link.session.news.root(self.id, (0, 0))
        link.session.news.send()
        try:
            command = {"argv": [program, b"-c", STAGE.encode()]}
            pid = spawn(self.id.encode(), command, None, {}, theirs.fileno(), null, 2)
        except (SpawnError, OSError) as exc:
            ours.close()
            link.session.news.job(self.id, False)
            words = exc.message if isinstance(exc, SpawnError) else exc.strerror
            raise Refused(
                "no-python",
                "no interpreter for functions: %s" % words,
                hint="python= or ?python= names one",
            ) from exc
        finally:
            theirs.close()
            os.close(null)
        self.pid = pid
        self.start = proc.start_time(pid) or 0
        ours.setblocking(False)
        self._socket = ours
        link.session.children.watch(pid, self._over)
        link.loop.watch_fd(ours.fileno(), self._hear)
        link.session.on_session_end.append(self._session_over)

    # -- the channel

    def open(self, channel: int, packages: int) -> None:
        self._channel = channel
        self._wanted = packages
        self._link.handlers[channel] = self
        self._link.conversation.grant(channel, _WINDOW)
        if self._greeting is not None:
            self._link.accept(channel, self._greeting)

    def on_data(self, piece: Piece) -> None:
        self._link.conversation.grant(self._channel, len(piece.data))
        for package in self._gathering.feed(piece.data):
            self._take_package(package)

    def _take_package(self, package: bytes) -> None:
        if self.packages:
            self._send(pack(["package", len(package)]))
        else:
            self._send(b"%d" % len(package))
        for start in range(0, len(package), _PACKET):
            self._send(package[start : start + _PACKET])
        self.packages.append(package)
        self._link.event(self._channel, "packages", count=len(self.packages))
        if self.is_ready:
            waiting, self._waiting = self._waiting, []
            for fork in waiting:
                try:
                    self._order(fork)
                except OSError as exc:
                    fork.sent()
                    fork.forked(0, exc.errno or 0)
            self._call_ready()

    @property
    def is_ready(self) -> bool:
        return len(self.packages) >= max(1, self._wanted)

    def when_ready(self, callback: Callable[[], object]) -> None:
        """Calls it once all packages are there, or never will be."""
        self._on_ready.append(self._link.loop.bound(callback))
        if self.is_ready or self.gone:
            self._call_ready()

    def _call_ready(self) -> None:
        callbacks, self._on_ready = self._on_ready, []
        for callback in callbacks:
            callback()

    def cold_start(self) -> tuple[list[bytes], bytes]:
        """The argv of an interpreter of its own, and how its script begins; the task follows."""
        parts = []
        for package in self.packages:
            parts += [_SIZE.pack(len(package)), package]
        return [self.program, b"-c", COLD_STAGE.encode()], b"".join([*parts, _SIZE.pack(0)])

    # -- forks

    def fork(
        self,
        verb: str,
        argument: object,
        fds: Sequence[int],
        sent: Callable[[], object],
        forked: Callable[[int, int], object],
    ) -> None:
        """Has a process forked that gets ``fds``; they are copied, and ``sent`` is called when
        that has been done, ``forked`` with the pid and 0, or 0 and an errno. How it ends is told to
        who `watch`es it. Raises Refused, and OSError where no descriptors are left."""
        if self.gone:
            raise Refused("no-python", "the interpreter for functions was killed")
        # What fails in what they do is their own trouble, and not the interpreter's.
        told = self._link.loop.bound(forked)
        fork = _Fork(pack([verb, argument]), tuple(fds), sent, told)
        if self.is_ready:
            self._order(fork)
        else:
            self._waiting.append(fork)

    def _order(self, fork: _Fork) -> None:
        self._send(fork.message, fork.fds)
        self._forking.append(fork.forked)
        fork.sent()

    def watch(self, pid: int, ended: Callable[[int | None], object]) -> None:
        """Calls ``ended(status)`` once the child has ended; None where that cannot be known."""
        self._ends.watch(pid, ended, self.gone)

    def _send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        self._out.append((data, _copies(fds)))
        self._write()

    def _write(self) -> None:
        while self._out and not self.gone:
            data, fds = self._out[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._socket.sendmsg([data], rights)
            except BlockingIOError:
                self._link.loop.watch_writable(self._socket.fileno(), self._write)
                return
            except OSError:
                self._lost()
                return
            self._out.pop(0)
            for fd in fds:
                os.close(fd)
        if not self.gone:
            self._link.loop.unwatch_writable(self._socket.fileno())

    # -- what it tells

    def _hear(self) -> None:
        try:
            data = self._socket.recv(_PACKET)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
        elif self._greeting is None:
            self._greeting = _greeting(data)
            if self._greeting is None:
                self._lost()  # whatever it is, it is no Python
            else:
                self._link.accept(self._channel, self._greeting)
        else:
            self._take_news(unpack(data))

    def _hear_out(self) -> None:
        """Takes what it told before it ended."""
        while self._greeting is not None:
            try:
                data = self._socket.recv(_PACKET)
            except OSError:
                return
            if not data:
                return
            self._take_news(unpack(data))

    def _take_news(self, news: Any) -> None:
        if news[0] == "forked":
            self._ends.forked(news[1])
            self._forking.popleft()(news[1], news[2])
            return
        _, pid, status = news
        self._ends.told(pid, status)

    def _over(self, status: int) -> None:
        self._lost()

    def _lost(self) -> None:
        """It has ended, or it was killed: what it forked lives on, and its end is told to us."""
        if self.gone:
            return
        self.gone = True
        self._link.loop.call_for(self._link.loop.owner, self._hear_out)
        self._link.loop.unwatch_fd(self._socket.fileno())
        self._link.loop.unwatch_writable(self._socket.fileno())
        self._socket.close()
        for _, fds in self._out:
            for fd in fds:
                os.close(fd)
        self._out = []
        for fork in self._waiting:
            fork.sent()  # so that they close what they hold, and see that nobody is there
        self._waiting = []
        self._ends.interpreter_gone()
        for callback in self.on_lost:
            callback()
        self._call_ready()
        if self._link.handlers.pop(self._channel, None) is self:
            if self._greeting is None:
                self._link.refuse(
                    self._channel, "no-python", "the interpreter for functions ended at once"
                )
            else:
                self._link.end(self._channel, {})

    def _session_over(self, finished: Callable[..., object]) -> None:
        def done(survivors: object, refused: Refused | None) -> None:
            self._link.session.news.job(self.id, False)
            finished(survivors or [])

        # Its own jobs are ended by who started them; this is for the workers and itself.
        search = process_tree.Search({self.id.encode(): [(self.pid, self.start)]})
        self._link.session.take(process_tree.ending(search, GRACE), done)


def _greeting(data: bytes) -> dict[str, object] | None:
    try:
        version, implementation, executable = data.split(b"\0", 2)
        return {
            "version": [int(part) for part in version.split(b".")],
            "implementation": implementation.decode(),
            "executable": executable,
        }
    except ValueError:
        return None


def _copies(fds: Sequence[int]) -> tuple[int, ...]:
    """Copies of our own: the giver closes its descriptors. Raises OSError, and leaves none."""
    copies: list[int] = []
    try:
        for fd in fds:
            copies.append(os.dup(fd))
    except OSError:
        for fd in copies:
            os.close(fd)
        raise
    return tuple(copies)
