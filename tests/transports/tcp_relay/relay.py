"""The other side of ``tcp-relay:``, a program of its own: ``relay.py SECRET``.

It listens on 127.0.0.1, prints its port, and runs what it is asked for. On stdin it is told, a word
a line, what is to become of the connections that there are: one of `FAULTS`; it answers ``done``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import struct
import subprocess
import sys
import threading
from typing import IO, ClassVar

HEAD = struct.Struct(">cI")
GRACE = 2.0
RESET = struct.pack("ii", 1, 0)  # a close says so at once: socket(7), SO_LINGER


class Connection(socketserver.BaseRequestHandler):
    """One connection, and the command that was asked for over it."""

    request: socket.socket
    served: ClassVar[set[Connection]] = set()

    def handle(self) -> None:
        self._saying = threading.Lock()
        self._silent = False
        self._unread = threading.Event()  # nothing more is read from the connection
        asked = json.loads(self._line())
        if asked["secret"] != sys.argv[1]:
            self._say(b"n", b"who are you?")
            return
        self._say(b"y", b"")
        try:
            self._command = subprocess.Popen(
                asked["argv"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            self._say(b"e", str(exc).encode())
            self._say(b"x", b"127")
            return
        self.served.add(self)
        self._serve()
        self.served.discard(self)

    def _line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self.request.recv(1)
        return line

    def _serve(self) -> None:
        stdin, stdout, stderr = self._command.stdin, self._command.stdout, self._command.stderr
        assert stdin is not None
        assert stdout is not None
        assert stderr is not None
        pumps = [
            threading.Thread(target=self._pour, args=(b"o", stdout), daemon=True),
            threading.Thread(target=self._pour, args=(b"e", stderr), daemon=True),
        ]
        threading.Thread(target=self._feed, args=(stdin,), daemon=True).start()
        for pump in pumps:
            pump.start()
        self._command.wait()
        for pump in pumps:
            pump.join(GRACE)  # what the command left running may hold its pipes open
        if self._silent:
            self._unread.wait()
        with contextlib.suppress(OSError):
            self._say(b"x", b"%d" % self._command.returncode)

    def _feed(self, stdin: IO[bytes]) -> None:
        """Nothing more comes where the caller has gone: then the command has to go, too."""
        with contextlib.suppress(OSError), stdin:
            while data := self.request.recv(65536):
                while data and not self._silent:
                    data = data[os.write(stdin.fileno(), data) :]
        self._unread.set()
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._command.wait(GRACE)
                return
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._command.pid, number)

    def _pour(self, kind: bytes, pipe: IO[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := os.read(pipe.fileno(), 65536):
                self._say(kind, data)

    def _say(self, kind: bytes, data: bytes) -> None:
        with self._saying:
            if not self._silent:
                self.request.sendall(HEAD.pack(kind, len(data)) + data)

    # -- faults

    def cut(self) -> None:
        """The caller is told of a message that does not come."""
        with self._saying:
            self.request.sendall(HEAD.pack(b"o", 1000) + b"half a message")
            self.request.shutdown(socket.SHUT_RDWR)

    def half_close(self) -> None:
        """The caller hears nothing more, and is heard."""
        with self._saying:
            self.request.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.request.shutdown(socket.SHUT_RD)
        self._unread.wait()  # while somebody reads a socket, it is not closed
        self.request.close()

    def silence(self) -> None:
        """Nothing passes, either way, and no end of it is told."""
        self._silent = True


FAULTS = {
    "cut": Connection.cut,
    "half-close": Connection.half_close,
    "reset": Connection.reset,
    "silence": Connection.silence,
}


class Relay(socketserver.ThreadingTCPServer):
    daemon_threads = True
    request_queue_size = 64


def main() -> None:
    with Relay(("127.0.0.1", 0), Connection) as relay:
        print(relay.server_address[1], flush=True)
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        for line in sys.stdin:
            for connection in list(Connection.served):
                with contextlib.suppress(OSError):  # it has just ended by itself
                    FAULTS[line.strip()](connection)
            print("done", flush=True)


if __name__ == "__main__":
    main()
