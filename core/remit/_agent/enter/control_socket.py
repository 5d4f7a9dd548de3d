"""The way from an entered shell back to its session: a directory with a launcher and a socket.

The directory is 0700 and goes with the terminal; the janitor removes it where the agent was
killed. On disk is only what connects: the launcher's code comes over the socket. Standard library
only, Python 3.6.
"""

from __future__ import annotations

import os
import socket
import struct
import sys
from binascii import hexlify
from typing import TYPE_CHECKING

from remit._agent.base.link import Link
from remit._agent.enter import rc_files
from remit._jobdir import statedir
from remit._wire.conversation import PROTOCOL, ProtocolError
from remit._wire.msgpack import UnpackError, pack, unpack
from remit._wire.refusal import Refused

if TYPE_CHECKING:
    from typing import Callable

    from remit._agent.base.services import Session


_SOCKET = b"socket"
_LAUNCHER = b"remit"
_PREFIX = b"remit-enter-"
_BACKLOG = 16
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid

# Connects by descriptor, because the name of a unix socket holds 107 bytes at most.
# Until an interrupt just ends it, what Python would say of one goes nowhere; and a stream that is
# closed must not become the connection: it becomes one that cannot be written to. Nothing is read
# from stdin, which may be a directory: Python would not start.
_STUB = b"""\
#!/bin/sh
if (: >&2); then exec 3>&2; else exec 3>/dev/null; fi
exec %s -I -S -c '
import os, signal
if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
os.dup2(3, 2)
os.close(3)
for fd in range(3):
    try:
        os.fstat(fd)
    except OSError:
        os.open(os.devnull, os.O_RDONLY)
import socket, sys, zlib
try:
    directory = os.open(sys.argv[1], os.O_RDONLY)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect("/proc/self/fd/%%d/socket" %% directory)
    os.close(directory)
    size = int(connection.recv(8, socket.MSG_WAITALL))
    code = zlib.decompress(connection.recv(size, socket.MSG_WAITALL))
except (OSError, ValueError, zlib.error):
    sys.stderr.write("remit: this session is over, or does not let you in\\n")
    sys.exit(255)
exec(code)
' %s "$@" </dev/null 2>/dev/null
"""
_LAUNCH = "from remit._agent.enter.launcher import run\nrun(connection, sys.argv[2:])\n"
# What the launcher needs of what the agent was sent.
_MODULES = (
    "remit",
    "remit._agent",
    "remit._agent.base",
    "remit._agent.base.environment",
    "remit._agent.base.manner",
    "remit._agent.enter",
    "remit._agent.enter.client",
    "remit._agent.enter.launcher",
    "remit._agent.enter.printing",
    "remit._jobdir",
    "remit._jobdir.json",
    "remit._wire",
    "remit._wire.channels",
    "remit._wire.conversation",
    "remit._wire.credit",
    "remit._wire.frames",
    "remit._wire.msgpack",
    "remit._wire.names",
    "remit._wire.refusal",
    "remit._wire.requests",
    "remit._wire.sanitize",
    "remit._wire.states",
    "remit._wire.streams",
)


class ControlSocket:
    """Made by `open_in_first`. ``path`` is the directory."""

    def __init__(self, path: bytes, dir_fd: int) -> None:
        self.path = path
        self._dir_fd = dir_fd
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def furnish(self, place: str) -> None:
        """Puts the launcher and the rc files there, and opens the socket. Raises OSError."""
        for name, text in rc_files.files(self.path, place).items():
            self._write(name, text, 0o600)
        words = (rc_files.quoted(os.fsencode(sys.executable)), rc_files.quoted(self.path))
        self._write(_LAUNCHER, _STUB % words, 0o700)
        self._listener.bind(b"/proc/self/fd/%d/%s" % (self._dir_fd, _SOCKET))
        os.chmod(_SOCKET, 0o600, dir_fd=self._dir_fd)
        self._listener.listen(_BACKLOG)
        self._listener.setblocking(False)

    def fileno(self) -> int:
        """What can be read when somebody comes; -1 once it is closed."""
        return self._listener.fileno()

    def admit(self) -> int | None:
        """The descriptor of the next connection; None where there is none, or it is another
        account's."""
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return None
        peer = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        if _PEER.unpack(peer)[1] != os.geteuid():
            connection.close()
            return None
        return connection.detach()

    def close(self) -> None:
        """Removes the directory and all in it. Twice is quiet."""
        self._listener.close()
        if self._dir_fd >= 0:
            os.close(self._dir_fd)
            self._dir_fd = -1
            statedir.remove_flat(self.path)

    def _write(self, name: bytes, text: bytes, mode: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, mode, dir_fd=self._dir_fd), "wb") as file:
            file.write(text)
            os.fchmod(file.fileno(), mode)  # whatever the umask


def open_in_first(
    places: list[Callable[[], bytes]], place: str, beforehand: Callable[[bytes], object]
) -> ControlSocket:
    """A control socket in the first of the directories that can have one.

    ``beforehand(path)`` is called with the path before anything is there, so that somebody knows
    what to remove. Raises Refused, which says of each directory why not.
    """
    problems = []
    for find in places:
        try:
            return _open_in(find(), place, beforehand)
        except Refused as exc:
            problems.append(exc.message)
        except OSError as exc:
            problems.append("%s: %s" % (os.fsdecode(exc.filename or b"a file there"), exc.strerror))
    raise Refused("no-state", "; ".join(problems) or "no directory to put it in")


def _open_in(parent: bytes, place: str, beforehand: Callable[[bytes], object]) -> ControlSocket:
    parent_fd = statedir.open_directory(parent, None, parent)
    try:
        # Only now: what is looked up in a directory that others can write to may be swapped.
        if os.statvfs(parent_fd).f_flag & os.ST_NOEXEC:
            raise Refused("no-state", "%s: no program may be run there" % os.fsdecode(parent))
        name = _PREFIX + hexlify(os.urandom(8))
        path = os.path.join(parent, name)
        beforehand(path)
        os.mkdir(name, 0o700, dir_fd=parent_fd)
        os.chmod(name, 0o700, dir_fd=parent_fd)
        control_socket = ControlSocket(path, statedir.open_directory(name, parent_fd, path))
    finally:
        os.close(parent_fd)
    try:
        control_socket.furnish(place)
    except OSError:
        control_socket.close()
        raise
    return control_socket


def launch_code() -> bytes:
    """What the launcher is sent in front of the first frame: 8 digits of size, then zlib."""
    import zlib

    source = sys.modules[__name__].__loader__.get_source  # type: ignore[union-attr]
    sources = {name: source(name) for name in _MODULES}
    importer = source("remit._agent.base.importer")
    text = "%s\ninstall(%r)\n%s" % (importer, sources, _LAUNCH)
    packed = zlib.compress(text.encode("utf-8"))
    return b"%08d" % len(packed) + packed


class LocalCaller(Link):
    """A link to the session of the terminal that he sits at."""

    local = True

    def __init__(self, session: Session, fd: int, first: bytes) -> None:
        """``fd`` is a connected socket, which is the local caller's from here on. ``first`` is sent
        in front of the first frame."""
        super().__init__(session.loop, fd, fd, session.verbs, first)
        self.session = session
        self.present = True
        os.set_blocking(fd, False)
        session.local_callers.append(self)
        self.loop.watch_fd(fd, self._read_link)

    def close(self) -> None:
        """Gives up all that the local caller has asked for. Twice is quiet."""
        if not self.present:
            return
        self.present = False
        self.session.local_callers.remove(self)
        self.loop.unwatch_fd(self._link_in)
        self.loop.unwatch_writable(self._link_out)
        os.close(self._link_in)
        handlers, self.handlers = self.handlers, {}
        for handler in handlers.values():
            self.loop.call_for(None, handler.on_close)

    def write_link(self) -> None:
        if self.present:
            super().write_link()

    def _greet(self, body: bytes) -> None:
        try:
            hello = unpack(body)
        except UnpackError as exc:
            raise ProtocolError("the hello: %s" % exc) from exc
        if not isinstance(hello, dict) or hello.get("protocol") != PROTOCOL:
            raise ProtocolError("a local caller of another protocol")
        self.conversation.hello(pack({"protocol": PROTOCOL, "features": []}))

    def _finish(self, status: int, reason: str | None) -> None:
        self.close()

    def _cut(self) -> None:
        self.close()
