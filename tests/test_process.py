"""A program as a byte stream: what the conformance kit cannot see from outside."""

import asyncio
import gc
import os
import re
import signal
import sys
import tracemalloc
from pathlib import Path

import anyio
import pytest

import remit
from remit import _process
from remit.abc import ByteStream, HasFileno
from testbed import processes, run

pytestmark = pytest.mark.anyio
LIMIT = 30.0
FOREVER = 1000.0


def sh(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


async def pid_of(stream: ByteStream) -> int:
    """The number in the first line."""
    line = b""
    while not line.endswith(b"\n"):
        line += await stream.receive(1)
    return int(line)


def no_pidfd(pid: int) -> int:
    raise OSError("no such system call")


async def test_a_missing_program_is_named_with_a_hint() -> None:
    with pytest.raises(remit.ConnectError, match="no such program: no-such-tool") as caught:
        async with remit.open_process(["no-such-tool"]):
            pass
    assert "PATH" in caught.value.hint


async def test_a_file_that_is_no_program_is_a_connect_error(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("")
    with pytest.raises(remit.ConnectError, match="plain cannot be started: Permission denied"):
        async with remit.open_process([str(plain)]):
            pass


async def test_a_failed_start_leaves_no_descriptor_open() -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with pytest.raises(remit.ConnectError, match="no such program"):
            async with remit.open_process(["no-such-tool"]):
                pass
    assert os.listdir("/proc/self/fd") == before


async def test_leaving_leaves_no_descriptor_and_no_zombie() -> None:
    before = os.listdir("/proc/self/fd")
    async with remit.open_process(sh("echo $$; cat")) as stream:
        pid = await pid_of(stream)
    assert os.listdir("/proc/self/fd") == before
    assert str(pid) not in os.listdir("/proc")


async def test_the_environment_is_what_was_given() -> None:
    async with remit.open_process(["/usr/bin/env"], env={"A": "1"}) as stream:
        assert await stream.receive() == b"A=1\n"


@pytest.mark.parametrize("new_session", [True, False])
async def test_a_session_of_its_own_is_a_choice(new_session: bool) -> None:
    argv = [sys.executable, "-S", "-c", "import os; print(os.getsid(0), flush=True); input()"]
    async with remit.open_process(argv, new_session=new_session) as stream:
        session = await pid_of(stream)
        assert (session != os.getsid(0)) is new_session
        assert (os.getpgid(session) == session) or not new_session


async def test_the_descriptor_is_the_sending_end() -> None:
    async with remit.open_process(["cat"]) as stream:
        assert isinstance(stream, HasFileno)
        assert not os.get_blocking(stream.fileno())
        os.write(stream.fileno(), b"by hand")
        assert await stream.receive() == b"by hand"
    # The number may be another file's by now.
    with pytest.raises(anyio.ClosedResourceError):
        stream.fileno()


async def test_a_stream_that_was_left_says_so() -> None:
    async with remit.open_process(["cat"]) as stream:
        pass
    with pytest.raises(anyio.ClosedResourceError):
        await stream.receive()
    with pytest.raises(anyio.ClosedResourceError):
        await stream.send(b"late")
    assert (await stream.wait()).exit_status == 0


async def test_a_receiver_in_another_task_learns_of_the_leaving() -> None:
    told = anyio.Event()

    async def receive(stream: ByteStream) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await stream.receive()
        told.set()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as tasks:
            async with remit.open_process(["cat"]) as stream:
                tasks.start_soon(receive, stream)
                await anyio.wait_all_tasks_blocked()
            await told.wait()


async def test_a_signal_is_a_negative_exit_status() -> None:
    async with remit.open_process(sh("kill -KILL $$")) as stream:
        assert (await stream.wait()).exit_status == -signal.SIGKILL


async def test_a_program_that_closes_its_stdout_early_still_tells_its_end() -> None:
    async with remit.open_process(sh("exec >&-; read line; exit 7")) as stream:
        assert await stream.receive() == b""
        await stream.send(b"\n")
        assert (await stream.wait()).exit_status == 7


async def test_what_is_left_behind_holding_stderr_holds_nothing_up() -> None:
    script = "setsid sh -c 'echo $$; exec >/dev/null; exec sleep 1000' & read line; exit 4"
    with anyio.fail_after(LIMIT):
        async with remit.open_process(sh(script)) as stream:
            left = await pid_of(stream)
            await stream.send(b"\n")
            assert (await stream.wait()).exit_status == 4
    assert processes.find(left), "a session of its own is not ours to end"
    processes.kill([left])


async def test_all_of_stderr_before_the_end_is_told_at_the_end() -> None:
    for _ in range(20):
        async with remit.open_process(sh("echo first >&2; echo last >&2; exit 1")) as stream:
            assert (await stream.wait()).stderr == b"first\nlast\n"


@pytest.mark.parametrize("cancelled", [False, True])
async def test_who_reads_the_end_of_stdin_gets_no_signal(
    cancelled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_process, "GRACE", FOREVER)
    mark = tmp_path / "mark"
    with anyio.fail_after(LIMIT), anyio.CancelScope() as scope:
        async with remit.open_process(sh(f"echo up; cat; echo went >{mark}")) as stream:
            await stream.receive()
            if cancelled:
                scope.cancel()
    assert mark.read_text() == "went\n"


async def test_term_reaches_the_whole_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "GRACE", 0.1)
    with anyio.fail_after(LIMIT):
        async with remit.open_process(sh("sleep 1000 & echo $!; wait")) as stream:
            child = await pid_of(stream)
    run.wait_until(lambda: not processes.find(child), "the child to be gone")


@pytest.mark.parametrize("who", ["leader", "member"])
async def test_who_ignores_term_is_killed(who: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "GRACE", 0.2)
    if who == "leader":
        script = "trap '' TERM; echo $$; while :; do sleep 1000; done"
    else:
        script = "(trap '' TERM; exec sleep 1000) & echo $!; wait"
    with anyio.fail_after(LIMIT):
        async with remit.open_process(sh(script)) as stream:
            pid = await pid_of(stream)
    run.wait_until(lambda: not processes.find(pid), "the stubborn one to be gone")


async def test_one_that_is_stopped_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "GRACE", 0.1)
    with anyio.fail_after(LIMIT):
        async with remit.open_process(sh("echo $$; kill -STOP $$; cat")) as stream:
            pid = await pid_of(stream)
    assert not processes.find(pid)


async def test_without_a_session_of_its_own_only_the_program_gets_signals(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A signal to the group would reach this very test.
    monkeypatch.setattr(_process, "GRACE", 0.1)
    with anyio.fail_after(LIMIT):
        argv = sh("echo $$; exec sleep 1000")
        async with remit.open_process(argv, new_session=False) as stream:
            pid = await pid_of(stream)
    assert not processes.find(pid)


async def test_without_pidfd_the_end_is_seen_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pidfd_open", no_pidfd)
    with anyio.fail_after(LIMIT):
        async with remit.open_process(sh("read line; exit 5")) as stream:
            await stream.send(b"\n")
            assert (await stream.wait()).exit_status == 5


@pytest.mark.parametrize("pidfd", [True, False])
async def test_an_end_that_another_reaped_is_not_known(
    pidfd: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not pidfd:
        monkeypatch.setattr(os, "pidfd_open", no_pidfd)
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with anyio.fail_after(LIMIT):
            async with remit.open_process(sh("exit 5")) as stream:
                assert (await stream.wait()).exit_status is None
    finally:
        signal.signal(signal.SIGCHLD, before)


async def test_a_fast_program_leaves_the_other_tasks_their_turns() -> None:
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        argv = ["head", "-c", "20000000", "/dev/zero"]
        async with remit.open_process(argv) as stream:
            reads = 0
            while await stream.receive(4096):
                reads += 1
        tasks.cancel_scope.cancel()
    assert reads >= 1000
    assert turns > reads / 20


async def test_a_flood_that_nobody_reads_takes_no_memory() -> None:
    async with remit.open_process(sh("echo up; exec cat /dev/zero >&2")) as stream:
        await stream.receive()
        tracemalloc.start()
        try:
            with anyio.move_on_after(0.3):
                await stream.wait()
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
        assert len(stream.stderr_tail) == 8192


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncios_own_cancel_leaves_no_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_process, "GRACE", FOREVER)
    pids: list[int] = []
    up = asyncio.Event()

    async def body() -> None:
        async with remit.open_process(sh("echo $$; exec sleep 1000")) as stream:
            pids.append(await pid_of(stream))
            up.set()
            await stream.wait()

    async with asyncio.timeout(LIMIT):
        task = asyncio.create_task(body())
        await up.wait()
        task.cancel()  # ends the body; leaving waits for the program
        await anyio.wait_all_tasks_blocked()
        task.cancel()  # ends the waiting
        with pytest.raises(asyncio.CancelledError):
            await task
    gc.collect()
    assert not processes.find(pids[0])


async def test_what_cannot_be_an_argument_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=re.escape("null byte")):
        async with remit.open_process(["echo", "a\0b"]):
            pass
