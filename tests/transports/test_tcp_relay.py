"""A transport from elsewhere that starts no program here: a package of its own, written from the
docs alone, over a relay that is a process of its own. Through the conformance kit and the product.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import anyio
import pytest

import remit
from remit._plugins import plugins
from remit.abc import Target, Transport
from remit.testing import TransportConformance

PACKAGE = Path(__file__).parent / "tcp_relay"


def load() -> ModuleType:
    """The plugin, without installing it."""
    path = PACKAGE / "remit_tcp_relay.py"
    spec = importlib.util.spec_from_file_location("remit_tcp_relay", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Relay:
    """The process on the other side; it goes with its stdin."""

    def __init__(self, secret: Path) -> None:
        words = secret.read_text().strip()
        self._process = subprocess.Popen(
            [sys.executable, str(PACKAGE / "relay.py"), words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Another worker of the tests may use the account's own at the same time.
            env={**os.environ, "REMIT_STATE_DIR": str(secret.with_name("state"))},
            text=True,
        )
        assert self._process.stdin
        assert self._process.stdout
        self._tell, self._told = self._process.stdin, self._process.stdout
        self.port = int(self._told.readline())

    def fail(self, how: str) -> None:
        """See the relay's own FAULTS."""
        self._tell.write(f"{how}\n")
        self._tell.flush()
        assert self._told.readline() == "done\n"

    def close(self) -> None:
        with self._process:
            self._tell.close()


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("relay") / "secret"
    path.write_text("open sesame\n")
    return path


@pytest.fixture(scope="module")
def relay(secret: Path) -> Iterator[Relay]:
    relay = Relay(secret)
    yield relay
    relay.close()


class TestTcpRelay(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        transport: Transport = load().TcpRelay()
        return transport

    @pytest.fixture
    def target(self, relay: Relay, secret: Path) -> Target:
        return Target("tcp-relay", f"127.0.0.1:{relay.port}", {"secret": str(secret)})

    @pytest.fixture
    def refused_addresses(self) -> list[str]:
        return ["", "build7", "build7:", ":7000", "build7:port", "127.0.0.1:1"]


# -- through the product


@pytest.fixture
def there(relay: Relay, secret: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The target, with the plugin in this process."""
    monkeypatch.setattr("remit._session.backoff.wait_before", lambda attempt, jitter: 0.01)
    known = plugins().transports
    known["tcp-relay"] = load().TcpRelay()
    yield f"tcp-relay:127.0.0.1:{relay.port}?secret={secret}"
    del known["tcp-relay"]


def talk(most: int) -> Iterator[dict[str, int]]:
    for number in range(most):
        logging.warning("at %d", number)
        yield {"number": number}


@pytest.mark.anyio
async def test_the_workflows(there: str) -> None:
    with anyio.fail_after(60):
        async with remit.connect(there) as session:
            done = await session.run(["sh", "-c", "cat; echo no >&2; exit 3"], stdin=b"bytes")
            assert done == remit.CommandResult(3, b"bytes", b"no\n")
            assert await session.call(divmod, 7, 2) == (3, 1)
            job = await session.start(talk, 20)
            seen = [record async for record in job.receive(keep=True)]
            assert await job.result() == [{"number": n} for n in range(20)]
            said = [record.data.message for record in seen if record.stream == "log"]
            assert said == [f"at {n}" for n in range(20)]
            kept = await session.start(talk, 3, placement="keep", name="relayed")
            await kept.wait()
        async with remit.connect(there) as session:
            kept = await session.job("relayed")
            assert await kept.result() == [{"number": n} for n in range(3)]
            await kept.remove()
        async with remit.start(there, ["seq", "200000"]) as numbers:
            assert len((await numbers.result()).stdout.split()) == 200_000


@pytest.mark.anyio
async def test_real_faults_of_the_connection(there: str, relay: Relay) -> None:
    with anyio.fail_after(60):
        async with remit.connect(there) as session:
            kept = await session.start(["seq", "60000"], placement="keep")
            for fault in ("cut", "half-close", "reset"):
                lost = await session.start(["cat"], stdin=remit.PIPE)
                reading = kept.receive(keep=True, from_start=True)
                records: list[remit.Record] = [await anext(reading)]
                relay.fail(fault)
                assert await lost.wait() is remit.JobState.LOST
                assert lost.outcome is not None
                assert "was lost: " in str(lost.outcome.error)
                records += [record async for record in reading]
                got = b"".join(record.data for record in records)
                assert got == b"".join(b"%d\n" % n for n in range(1, 60_001))
            await kept.remove()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])  # it is seconds of waiting
async def test_a_silent_relay_is_given_up(there: str, relay: Relay) -> None:
    with anyio.fail_after(60):
        async with remit.connect(there, silence=3.0, reconnect=0) as session:
            relay.fail("silence")
            with pytest.raises(remit.LinkLost, match="nothing was heard of it for 3 s"):
                await session.run(["true"])


@pytest.mark.anyio
async def test_a_busy_caller_shows_signs_of_life(there: str) -> None:
    async with remit.connect(there) as session:
        link = await session._connection.ready()
        assert link._outgoing._ping_writer is not None
        link._outgoing._ping_writer.interval = 0.0
        await session.run(["true"])
        link._outgoing._ping_writer.beat(time.monotonic())
        assert (await session.run(["echo", "on"])).stdout == b"on\n"
        assert await session._connection.ready() is link


@pytest.mark.anyio
async def test_who_does_not_know_the_secret_is_told_so_once(
    there: str, tmp_path: Path, relay: Relay
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("a guess")
    target = f"tcp-relay:127.0.0.1:{relay.port}?secret={wrong}"
    with pytest.raises(remit.AuthenticationError, match="refused: who are you") as caught:
        async with remit.connect(target):
            pass
    assert "a guess" not in str(caught.value)
    with pytest.raises(remit.ConnectError, match="cannot be read"):
        async with remit.connect(f"{target}-and-gone"):
            pass


@pytest.mark.anyio
async def test_a_relay_that_is_not_there(there: str, secret: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    with pytest.raises(remit.ConnectError, match="was not reached"):
        async with remit.connect(f"tcp-relay:127.0.0.1:{port}?secret={secret}"):
            pass
