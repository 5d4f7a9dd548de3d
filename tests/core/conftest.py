"""Sessions on this computer, and transports played by a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import remit
from remit._plugins import plugins
from remit.testing import FakePeer, FakeTransport


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
