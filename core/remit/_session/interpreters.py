"""The interpreters of a target that run functions, as the caller knows them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import attrs

from remit._decoding import decode
from remit._errors import JobFailed, LinkLost, RemitError
from remit._link.channel import Channel, Parcel
from remit._link.link import Link
from remit._link.listener import Listener, own_trouble
from remit._link.messages import Greeting, PackageCount
from remit._link.notify import Notifier

if TYPE_CHECKING:
    from remit._session.connection import Connection
    from remit._shipping.packages import Package
    from remit._shipping.runtime import Runtime

_SIZE = struct.Struct(">Q")
# How often a package is sent again after the interpreter has ended.
_ATTEMPTS = 3
_NAMES = {"cpython": "CPython", "pypy": "PyPy"}


class Interpreter(Listener):
    """One interpreter there, over one link after another: over each it is started anew when it is
    first wanted."""

    def __init__(self, connection: Connection, path: bytes | None) -> None:
        """``path``: its file there; None is the one that the agent runs on."""
        self.path = path
        self._connection = connection
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._peer: Runtime | None = None
        self._error: RemitError | None = None
        self._shipped: list[Package] = []
        self._taken = 0  # packages that have arrived there, over this link
        self._sent = 0
        self._sending = anyio.Lock()
        self._opened = 0  # how often
        self._notifier = Notifier()

    def known(self, link: Link | None) -> Runtime | None:
        """What it is, where it is up over that link."""
        return self._peer if link is self._link else None

    async def peer(self) -> Runtime:
        """What it is, once it is up. Raises TargetError where it cannot be had, and what
        `Session.start` raises for a lost session."""
        while True:
            link = await self._connection.ready()
            if self._link is not link:
                self._open(link)
            if self._peer is not None:
                return self._peer
            if self._error is not None:
                error, self._error = self._error, None
                self._link = None
                if not isinstance(error, LinkLost):
                    raise error.again()
                await self._connection.relinked(link)
                continue
            await self._notifier.wait()

    async def ship(self, package: Package) -> None:
        """Sends a package and waits until it can be imported there. The same again is quiet."""
        if package not in self._shipped:
            self._shipped = [one for one in self._shipped if one.name != package.name]
            # In front of what is new nothing is sent again: the newest of a name counts there.
            self._shipped.append(package)
            if self._link is not None and self._peer is not None:
                self._peer = self._with_shipped(self._peer)
                self._start_sending(package.body)
                self._sent += 1
        opened = self._opened
        while True:
            await self.peer()
            if self._taken >= self._sent:
                return
            if self._opened - opened > _ATTEMPTS:
                raise JobFailed(
                    f"the interpreter for functions on {self._connection.location} ended each time "
                    f"that {package.name} was sent to it",
                    location=self._connection.location,
                    reason="signalled",
                )
            await self._notifier.wait()

    def _with_shipped(self, peer: Runtime) -> Runtime:
        return attrs.evolve(
            peer,
            shipped=frozenset(package.name for package in self._shipped),
            contents=frozenset(package.digest for package in self._shipped),
        )

    def _open(self, link: Link) -> None:
        self._peer = self._error = None
        self._opened += 1
        self._taken = 0
        self._sent = 1 + len(self._shipped)
        arguments = {"python": self.path, "packages": self._sent}
        self._channel = link.open("python", arguments, self)
        self._link = link

    def _start_sending(self, *packages: bytes) -> None:
        self._connection.tasks.start_soon(self._send, self._channel, packages, failed=self._trouble)

    async def _send(self, channel: Channel, packages: Sequence[bytes]) -> None:
        async with self._sending:
            for package in packages:
                try:
                    await channel.send(Parcel(_SIZE.pack(len(package)) + package))
                except RemitError:
                    return  # the interpreter is gone, or the link: another one is sent all again

    # -- what the link tells

    def accepted(self, body: bytes) -> None:
        greeting = decode(body, Greeting)
        name = _NAMES.get(greeting.implementation, greeting.implementation)
        # Whoever runs commands alone has no use for what functions need.
        from remit._shipping import worker_payload
        from remit._shipping.runtime import Runtime

        self._peer = self._with_shipped(Runtime(greeting.version, name))
        kit = worker_payload.kit(self._peer.minor, self._peer.runs_our_bytecode)
        self._start_sending(kit, *(one.body for one in self._shipped))
        self._notifier.notify()

    def event(self, name: str, arguments: bytes) -> None:
        if name == "packages":
            self._taken = decode(arguments, PackageCount).count
            self._notifier.notify()

    def ended(self, body: bytes) -> None:
        self._link = None  # it was killed; the next use starts another
        self._peer = None
        self._notifier.notify()

    def refused(self, error: RemitError) -> None:
        self._finish(error)

    def lost(self, error: RemitError) -> None:
        self._finish(error)

    def _trouble(self, exc: Exception) -> None:
        self._finish(own_trouble(exc))

    def _finish(self, error: RemitError) -> None:
        self._peer = None
        self._error = error
        self._notifier.notify()


def path_of(python: str | None) -> bytes | None:
    """Raises ValueError for what can be no interpreter."""
    if python is None:
        return None
    if not python or "\0" in python:
        raise ValueError(
            f"python must be the path or name of an interpreter on the target, not {python!r}"
        )
    return python.encode("utf-8", "surrogateescape")
