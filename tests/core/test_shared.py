"""`Hub.session`: all who ask for a target share its session, which is replaced once it is over."""

from __future__ import annotations

from itertools import product

import anyio
import pytest
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

import remit
from remit.testing import FakePeer

from .conftest import Play
from .fake_agent import FakeAgent, agent_script

pytestmark = pytest.mark.anyio


async def idle(agent: FakeAgent) -> None:
    async for _ in agent.requests():
        pass


async def test_who_asks_for_a_target_shares_its_session() -> None:
    async with remit.open_hub() as hub:
        one = await hub.session("local:")
        assert await hub.session("local:") is one
        assert await hub.session("local:", silence=7.0) is not one
        assert await hub.connect("local:") is not one
        assert (await one.run(["true"])).exit_status == 0
    assert one.state == "CLOSED"


class Gate:
    """Holds up the agents of ``fake:`` until it is opened."""

    def __init__(self, play: Play) -> None:
        self.open = anyio.Event()
        script = agent_script(idle)

        async def held(peer: FakePeer) -> int | None:
            await self.open.wait()
            return await script(peer)

        self.transport = play(held)

    @property
    def count(self) -> int:
        return len(self.transport.opened)


@pytest.mark.parametrize("cancelled", list(product([False, True], repeat=3)))
async def test_cancelled_waiters_leave_the_opening_to_the_others(
    play: Play, cancelled: tuple[bool, ...]
) -> None:
    gate = Gate(play)
    scopes = [anyio.CancelScope() for _ in cancelled]
    got: dict[int, remit.Session] = {}

    async def ask(number: int) -> None:
        with scopes[number]:
            got[number] = await hub.session("fake:")

    async with remit.open_hub() as hub:
        async with anyio.create_task_group() as tasks:
            for number in range(len(cancelled)):
                tasks.start_soon(ask, number)
            await wait_all_tasks_blocked()
            for scope, is_cancelled in zip(scopes, cancelled, strict=True):
                if is_cancelled:
                    scope.cancel()
            await wait_all_tasks_blocked()
            gate.open.set()
        assert sorted(got) == [n for n, is_cancelled in enumerate(cancelled) if not is_cancelled]
        last = await hub.session("fake:")
        assert all(session is last for session in got.values())
        assert gate.count == 1


@pytest.mark.parametrize("steps", range(12))
async def test_the_first_to_ask_may_be_cancelled_at_any_step(play: Play, steps: int) -> None:
    gate = Gate(play)
    gate.open.set()
    scope = anyio.CancelScope()

    async def ask() -> None:
        with scope:
            await hub.session("fake:")

    async with remit.open_hub() as hub, anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        for _ in range(steps):
            await checkpoint()
        scope.cancel()
        with anyio.fail_after(20):
            session = await hub.session("fake:")
        assert session.state == "OPEN"
        assert gate.count == 1


async def test_an_error_goes_to_all_who_wait_and_the_next_opens_anew(play: Play) -> None:
    refuse = True

    async def script(peer: FakePeer) -> int | None:
        return 7 if refuse else await agent_script(idle)(peer)

    transport = play(script)
    errors: list[BaseException] = []

    async def ask() -> None:
        with pytest.raises(remit.ConnectError, match="no agent came up") as caught:
            await hub.session("fake:")
        errors.append(caught.value)

    async with remit.open_hub() as hub:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
        assert len(set(map(id, errors))) == len(errors) == 3
        refuse, tried = False, len(transport.opened)
        await hub.session("fake:")
        assert len(transport.opened) == tried + 1
        with pytest.raises(remit.TargetError, match="no transport is called 'nonsense'"):
            await hub.session("nonsense:there")
        with pytest.raises(ValueError, match="silence"):
            await hub.session("fake:", silence=-1)


async def test_one_that_is_over_is_replaced(play: Play) -> None:
    leave = anyio.Event()

    async def gone(agent: FakeAgent) -> None:
        await leave.wait()

    play(agent_script(gone))
    async with remit.open_hub() as hub:
        broken = await hub.session("fake:", reconnect=0)
        leave.set()
        async for state in broken.changes():
            assert state in ("OPEN", "BROKEN")
        play(agent_script(idle))
        closed = await hub.session("fake:", reconnect=0)
        assert closed is not broken
        await closed.aclose()
        assert (await hub.session("fake:", reconnect=0)).state == "OPEN"


async def test_one_that_is_being_closed_is_replaced(play: Play) -> None:
    play(agent_script(idle))
    async with remit.open_hub() as hub:
        first = await hub.session("fake:")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.aclose)
            while not first._connection.closing:
                await checkpoint()
            assert await hub.session("fake:") is not first


async def test_leaving_the_hub_ends_an_opening_and_who_waits_for_it(play: Play) -> None:
    Gate(play)
    hub = await remit.Hub.open()

    async def ask() -> None:
        with pytest.raises((remit.SessionClosed, RuntimeError), match="is closed"):
            await hub.session("fake:")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        await wait_all_tasks_blocked()
        with anyio.fail_after(20):
            await hub.aclose()
    with pytest.raises(RuntimeError, match="not open"):
        await hub.session("fake:")
