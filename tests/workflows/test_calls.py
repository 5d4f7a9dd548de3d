"""Many calls at a time on a real pool: cancelled anywhere, workers killed, programs of any size."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import remit
from remit._session import pool_programs
from remit._wire.conversation import Conversation, Piece
from testbed import processes, waits

pytestmark = [pytest.mark.anyio, pytest.mark.real]

# In CI a few of them; a long run has more.
SCALE = float(os.environ.get("REMIT_SCALE", "1"))
SIZES = [1, 300, 5_000, 60_000, 70_000, 500_000, 3_000_000]


def program(number: int, size: int) -> Callable[[int, bytes], tuple[int, int, int, int]]:
    """A function that has ``size`` bytes with it."""
    data = random.Random(number).randbytes(size)

    def run(call: int, argument: bytes) -> tuple[int, int, int, int]:
        return number, len(data), call, len(argument)

    return run


def hold(call: int) -> None:
    import time

    time.sleep(1000)


def die(call: int) -> None:
    import os

    os.kill(os.getpid(), 9)


def own_pid() -> int:
    import os

    return os.getpid()


def agent_of(session: remit.Session) -> int:
    assert session._hello is not None
    return session._hello.pid


def workers_of(session: remit.Session) -> list[int]:
    """Children of the warm interpreter."""
    agent = agent_of(session)
    found = processes.descendants([agent])
    warm = {one.pid for one in found if one.parent == agent}
    return [one.pid for one in found if one.parent in warm]


def memory(pid: int | str) -> int:
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


async def cancelled_after(steps: int, scope: anyio.CancelScope) -> None:
    """Each step lets everything else have its turn: so cancels hit every await there is."""
    for _ in range(steps):
        await anyio.lowlevel.checkpoint()
    scope.cancel()


@pytest.mark.parametrize("workers", [1, 3])
async def test_a_storm(workers: int, anyio_backend: str) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    rng = random.Random(seed)
    functions = [(n, size, program(n, size)) for n, size in enumerate(SIZES * 3)]
    values = 0

    async def one(number: int, tasks: Any) -> None:
        nonlocal values
        kind = rng.choices(["value", "hold", "die"], [90, 6, 4])[0]
        with anyio.CancelScope() as scope:
            if kind == "hold" or rng.random() < 0.4:
                steps = rng.choice([0, 1, 2, 3, 5, 10, 30, 300])
                tasks.start_soon(cancelled_after, steps, scope)
            if kind == "hold":
                await session.call(hold, number)
            elif kind == "die":
                with pytest.raises(remit.JobFailed, match="was ended by SIGKILL") as caught:
                    await session.call(die, number)
                assert caught.value.signal == "SIGKILL"
            else:
                which, size, function = rng.choice(functions)
                argument = bytes(rng.choice([0, 10, 3000, 80_000]))
                got = await session.call(function, number, argument)
                assert got == (which, size, number, len(argument))
                values += 1

    async with remit.connect("local:", workers=workers, calls_per_worker=50) as session:
        with anyio.fail_after(120):
            async with anyio.create_task_group() as tasks:
                for number in range(int(250 * SCALE)):
                    tasks.start_soon(one, number, tasks)
                    if rng.random() < 0.3:
                        await anyio.lowlevel.checkpoint()
            assert await session.call(functions[0][2], 1, b"") == (0, 1, 1, 0)
            assert values
            # Nothing of what was cancelled runs on, or is held here.
            while len(left := workers_of(session)) > workers:
                await waits.any_gone(left)
        (calls,) = session._connection.calls.values()
        assert not len(calls._answers)
        assert all(not known.users for known in calls._programs._known.values())
        assert calls._programs._known == calls._programs._unused


async def test_more_functions_than_are_kept(anyio_backend: str) -> None:
    """200 at a time through one worker: each value is right, and memory is level."""
    count = int(600 * SCALE)
    wrong: list[object] = []
    async with remit.connect("local:", workers=1, calls_per_worker=1 << 30) as session:

        async def run(numbers: range) -> None:
            left = iter(numbers)

            async def work() -> None:
                for number in left:
                    got = await session.call(program(number, 4000), number, b"")
                    if got != (number, 4000, number, 0):
                        wrong.append(got)

            async with anyio.create_task_group() as tasks:
                for _ in range(200):
                    tasks.start_soon(work)

        with anyio.fail_after(60 + count / 50):
            await run(range(count))
            pids: list[int | str] = ["self", agent_of(session), *workers_of(session)]
            assert len(pids) == 3
            before = [memory(pid) for pid in pids]
            await run(range(count, 2 * count))
            after = [memory(pid) for pid in pids]
        assert not wrong
        assert workers_of(session) == pids[2:]
        grown = [(new - old) >> 10 for old, new in zip(before, after, strict=True)]
        assert max(grown) < 4096, grown  # KiB
        (calls,) = session._connection.calls.values()
        assert len(calls._programs._known) <= pool_programs._MOST_PROGRAMS


async def test_a_large_function_is_sent_once(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = 0
    data = Conversation.data

    def count(self: Conversation, number: int, piece: Piece) -> None:
        nonlocal sent
        sent += len(piece.data)
        data(self, number, piece)

    monkeypatch.setattr(Conversation, "data", count)
    function = program(1, 2_000_000)
    async with remit.connect("local:", workers=2) as session:
        with anyio.fail_after(60):
            with anyio.move_on_after(0):  # that it begins, and is given up, is no matter
                await session.call(function, 0, b"")
            async with anyio.create_task_group() as tasks:
                for number in range(30):
                    tasks.start_soon(session.call, function, number, b"")
            got = await session.call(function, 7, b"")
    assert got == (1, 2_000_000, 7, 0)
    assert sent < 3_000_000


async def test_a_call_is_not_run_where_no_process_can_be_had(anyio_backend: str) -> None:
    async with remit.connect("local:", workers=2) as session:
        await session.call(own_pid)
        (warm,) = {processes.find(pid).parent for pid in workers_of(session)}  # type: ignore[union-attr]
        with anyio.fail_after(30):
            # The first worker goes on: one that cannot be had is no reason to fail.
            os.system(f"prlimit --pid {warm} --nofile=4:4")
            got = [await session.call(own_pid) for _ in range(3)]
            assert len(set(got)) == 1
            with pytest.raises(remit.JobFailed, match="the worker that ran"):
                await session.call(die, 0)


@pytest.mark.parametrize("moment", ["kit", "package"])
async def test_the_interpreter_dies_while_something_is_sent_to_it(
    anyio_backend: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "large_package_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "data").write_bytes(random.Random(1).randbytes(3_000_000))
    monkeypatch.syspath_prepend(tmp_path)
    async with remit.connect("local:", workers=1) as session:
        if moment == "package":
            await session.call(own_pid)
        killed = 0

        async def kill() -> None:
            nonlocal killed
            agent = agent_of(session)
            interpreter = session._connection.interpreter(None)
            while interpreter._peer is None:
                await anyio.lowlevel.checkpoint()
            while not killed:
                for one in processes.descendants([agent]):
                    if one.parent == agent:
                        processes.kill([one.pid])
                        killed += 1
                await anyio.lowlevel.checkpoint()

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(kill)
                tasks.start_soon(session.ship, "large_package_of_a_test")
            assert killed
            assert await session.call(uses_the_package)
            assert await (await session.start(uses_the_package)).result()
    sys.modules.pop("large_package_of_a_test", None)


def uses_the_package() -> object:
    import large_package_of_a_test  # type: ignore[import-not-found]

    return large_package_of_a_test.__name__


async def test_an_interpreter_that_dies_of_each_package(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package_of_a_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    async with remit.connect("local:") as session:
        over = False

        async def kill() -> None:
            agent = agent_of(session)
            while not over:
                for one in processes.descendants([agent]):
                    if one.parent == agent:
                        os.kill(one.pid, signal.SIGKILL)
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(kill)
            # It may be met dying, dead, or gone when the call comes.
            words = r"ended|was killed|is gone"
            with anyio.fail_after(60), pytest.raises(remit.RemitError, match=words):
                await ship_and_call(session)
            over = True


async def ship_and_call(session: remit.Session) -> None:
    while True:  # it may get through in between
        await session.ship("package_of_a_test")
        await session.call(own_pid)


async def test_changed_content_reaches_calls(
    anyio_backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "changing_package_of_a_test.py"
    monkeypatch.syspath_prepend(tmp_path)
    async with remit.connect("local:", workers=2) as session:
        pids = set()
        for version in range(3):
            file.write_text(f"VERSION = {version}\n")
            await session.ship("changing_package_of_a_test")
            got, pid = await session.call(version_there)
            assert got == version
            pids.add(pid)
            # The same again changes nothing.
            await session.ship("changing_package_of_a_test")
            assert await session.call(version_there) == (got, pid)
        assert len(pids) == 3
        with anyio.fail_after(20):
            while len(left := workers_of(session)) > 1:
                await waits.any_gone(left)
    sys.modules.pop("changing_package_of_a_test", None)


def version_there() -> tuple[int, int]:
    import os

    import changing_package_of_a_test  # type: ignore[import-not-found]

    return changing_package_of_a_test.VERSION, os.getpid()
