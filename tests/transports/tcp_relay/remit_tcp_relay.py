"""Reach a computer by a relay: ``remit run 'tcp-relay:HOST:PORT?secret=FILE' -- COMMAND``.

The relay listens there and is told a secret and a command, as a line of JSON. What follows is the
command's stdin. It answers in messages: what it is about (a byte), the size (4 bytes), and that.
"""

import json
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import attrs
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

import remit

HEAD = struct.Struct(">cI")


@attrs.frozen
class TcpRelay:
    scheme: str = "tcp-relay"
    api: int = 1
    option_names: tuple[str, ...] = ("secret",)

    def check(self, target: remit.Target) -> None:
        host, colon, port = target.address.rpartition(":")
        if not (host and colon and port.isdecimal() and port.isascii()):
            raise remit.TargetError(f"{target} names no HOST:PORT", hint="tcp-relay:build7:7000")
        if "secret" not in target.options:
            raise remit.TargetError(f"{target} names no secret", hint="…?secret=FILE")

    def open(
        self, target: remit.Target, argv: Sequence[str]
    ) -> AbstractAsyncContextManager[remit.ByteStream]:
        self.check(target)
        return _connected(target, argv)


@asynccontextmanager
async def _connected(target: remit.Target, argv: Sequence[str]) -> AsyncIterator[remit.ByteStream]:
    host, _, port = target.address.rpartition(":")
    try:
        secret = Path(target.options["secret"]).read_text().strip()
    except OSError as exc:
        raise remit.ConnectError(
            f"the secret for {target} cannot be read: {exc}", lasting=True
        ) from exc
    connection = await anyio.connect_tcp(host.strip("[]"), int(port))
    async with connection:
        asked = json.dumps({"secret": secret, "argv": list(argv)})
        await connection.send(asked.encode() + b"\n")
        answers = BufferedByteReceiveStream(connection)
        kind, words = await _message(answers)
        if kind != b"y":
            raise remit.AuthenticationError(f"{target} refused: {words.decode(errors='replace')}")
        async with _stream(connection, answers) as stream:
            yield stream


def _stream(
    connection: SocketStream, answers: BufferedByteReceiveStream
) -> AbstractAsyncContextManager[remit.ByteStream]:
    async def pump(into: remit.Pumped) -> int:
        while True:
            kind, data = await _message(answers)
            if kind == b"o":
                await into.stdout(data)
            elif kind == b"e":
                into.stderr(data)
            elif kind == b"x":
                return int(data)

    # What is sent goes there as it is, so signs of life may be written beside it.
    fileno = connection.extra(SocketAttribute.raw_socket).fileno()
    return remit.open_pump(pump, connection.send, fileno=fileno)


async def _message(answers: BufferedByteReceiveStream) -> tuple[bytes, bytes]:
    kind, size = HEAD.unpack(await answers.receive_exactly(HEAD.size))
    return kind, await answers.receive_exactly(size) if size else b""


@remit.hookimpl
def remit_transports() -> list[remit.Transport]:
    return [TcpRelay()]
