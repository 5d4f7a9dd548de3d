"""A connection whose transport does not end holds nobody up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
import attrs
import pytest

import remit
from remit._link import carrier as carrier_module
from remit._link.carrier import Carrier
from remit._plugins import Plugins, PluginWarning, plugins
from remit.testing import FakePeer, FakeTransport

TARGET = remit.Target("fake", "")

pytestmark = pytest.mark.anyio


async def _script(peer: FakePeer) -> int:
    await peer.receive()
    return 0


@attrs.frozen
class Hanging:
    """Leaving it hangs, with a task of its own or without one, shielded or not."""

    tasks: bool
    shielded: bool = False
    scheme: str = "fake"
    api: int = 1

    @asynccontextmanager
    async def open(
        self, target: remit.Target, argv: Sequence[str]
    ) -> AsyncIterator[remit.ByteStream]:
        async with FakeTransport(_script).open(target, argv) as stream:
            if not self.tasks:
                try:
                    yield stream
                finally:
                    await self.hang()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.hang)
                yield stream

    async def hang(self) -> None:
        with anyio.CancelScope(shield=self.shielded):
            await anyio.sleep_forever()


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_module, "LEAVING", 0.05)
    monkeypatch.setattr(carrier_module, "GRACE", 0.05)


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("shielded", [False, True])
@pytest.mark.parametrize("tasks", [False, True])
async def test_leaving_that_hangs_is_bounded_and_reported(tasks: bool, shielded: bool) -> None:
    carrier = Carrier(Hanging(tasks, shielded), Plugins([]))
    with anyio.fail_after(60), pytest.warns(PluginWarning, match=r"not closed within 0\.05 s"):
        async with carrier.open(TARGET, ["true"]):
            pass


@pytest.mark.usefixtures("soon")
async def test_an_error_on_the_way_out_is_kept() -> None:
    carrier = Carrier(Hanging(tasks=False), Plugins([]))

    async def leave() -> None:
        async with carrier.open(TARGET, ["true"]):
            raise LookupError("of the body")

    with (
        anyio.fail_after(60),
        pytest.warns(PluginWarning, match="not closed within"),
        pytest.raises(LookupError, match="of the body"),
    ):
        await leave()


@pytest.mark.parametrize("tasks", [False, True])
async def test_a_cancel_ends_leaving_at_once(tasks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_module, "LEAVING", float("inf"))
    carrier = Carrier(Hanging(tasks), Plugins([]))
    with anyio.fail_after(60), anyio.CancelScope() as scope:
        async with carrier.open(TARGET, ["true"]):
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.usefixtures("soon")
@pytest.mark.parametrize("tasks", [False, True])
async def test_a_cancel_ends_no_later_where_leaving_shields_itself(tasks: bool) -> None:
    carrier = Carrier(Hanging(tasks, shielded=True), Plugins([]))
    with (
        anyio.fail_after(60),
        pytest.warns(PluginWarning, match=r"went on for 0\.05 s after a cancel"),
        anyio.CancelScope() as scope,
    ):
        async with carrier.open(TARGET, ["true"]):
            scope.cancel()
    assert scope.cancelled_caught


@pytest.mark.usefixtures("soon")
async def test_what_shows_why_no_agent_came_up_is_kept_where_leaving_hangs() -> None:
    carrier = Hanging(tasks=True, shielded=True)
    plugins().transports["fake"] = carrier
    try:
        with (
            anyio.fail_after(60),
            pytest.warns(PluginWarning, match="is left behind"),
            pytest.raises(remit.BootstrapError, match="ended with status 0"),
        ):
            async with remit.connect("fake:", connect_timeout=20):
                pass
    finally:
        del plugins().transports["fake"]
        plugins()._faults.clear()
