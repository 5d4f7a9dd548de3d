"""Sessions on this computer, and transports played by a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio.testing

import remit
from remit._plugins import plugins
from remit.testing import FakePeer, FakeTransport


def on_virtual_time() -> pytest.MarkDecorator:
    """A test with this runs on a clock that jumps when every task waits. On one event loop: the
    other has none."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    return pytest.mark.parametrize("anyio_backend", [("trio", {"clock": clock})], ids=["virtual"])


@pytest.fixture
async def session(anyio_backend: str) -> AsyncIterator[remit.Session]:
    async with remit.connect("local:") as session:
        yield session


def until(path: Path) -> str:
    """For a shell: goes on once the path is there."""
    return f"until [ -e {path} ]; do sleep 0.02; done"


Play = Callable[[Callable[[FakePeer], Awaitable[int | None]]], FakeTransport]


@pytest.fixture
def play() -> Iterator[Play]:
    """Puts a script behind the target ``fake:``."""

    def put(script: Callable[[FakePeer], Awaitable[int | None]]) -> FakeTransport:
        transport = FakeTransport(script)
        plugins().transports["fake"] = transport
        return transport

    yield put
    plugins().transports.pop("fake", None)
