"""Targets on which no agent comes up: the error says which, why, and what to try."""

from __future__ import annotations

import anyio
import anyio.abc
import pytest

import remit
from testbed.containers import Engine
from testbed.sshd import Sshd

pytestmark = [pytest.mark.anyio, pytest.mark.real]


async def refused(target: str, **settings: float) -> remit.ConnectError:
    with pytest.raises(remit.ConnectError) as caught, anyio.fail_after(40):
        async with remit.connect(target, **settings):  # type: ignore[arg-type]
            raise AssertionError("it was open")
    return caught.value


@pytest.mark.parametrize("name", ["docker", "podman"])
async def test_a_container_without_python(name: str, request: pytest.FixtureRequest) -> None:
    engine = request.getfixturevalue(name)
    assert isinstance(engine, Engine)
    error = await refused(f"{name}:{engine.bare}")
    assert type(error) is remit.BootstrapError
    assert "no Python 3.6 or later" in str(error)
    assert "no Python 3.6 or later is on the PATH" in error.stderr_tail.decode()
    error = await refused(f"{name}:{engine.stopped}")
    assert "not running" in str(error) or "stopped" in str(error)
    error = await refused(f"{name}:{engine.absent}")
    assert engine.absent in str(error)


async def test_a_key_that_is_refused(sshd: Sshd) -> None:
    target = f"ssh://nobody@127.0.0.1:{sshd.port}?config={sshd.config}"
    error = await refused(target)
    assert type(error) in (remit.AuthenticationError, remit.ConnectError)
    assert error.exit_status == 255
    assert error.stderr_tail


async def test_an_interpreter_that_is_not_there(sshd: Sshd) -> None:
    error = await refused(f"ssh:quiet?config={sshd.config}&python=/no/such/python3")
    assert type(error) is remit.BootstrapError
    assert error.exit_status == 127
    assert b"/no/such/python3" in error.stderr_tail


async def test_an_interpreter_that_is_none(sshd: Sshd) -> None:
    error = await refused(f"ssh:quiet?config={sshd.config}&python=/bin/echo")
    assert type(error) is remit.BootstrapError
    assert "stdout" in str(error)  # what it said instead


async def test_a_host_that_does_not_answer() -> None:
    """A listener that takes the connection and says nothing: ssh waits for its version line."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        error = await refused(f"ssh://127.0.0.1:{port}", connect_timeout=3.0)
    assert str(port) in str(error) or "within 3 s" in str(error)
