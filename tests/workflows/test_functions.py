"""Functions as jobs: at every place, on both event loops."""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anyio
import pytest

import remit

pytestmark = [pytest.mark.anyio, pytest.mark.real]


# What is sent. Each needs nothing of this module, so that it can go by source as well.


def add(a: Any, b: Any) -> Any:
    return a + b


def echo(value: Any) -> Any:
    return value


def count(most: int) -> Iterator[int]:
    yield from range(most)


def speak() -> Iterator[object]:
    import logging
    import subprocess
    import sys
    import warnings

    import remit

    print("printed")
    logging.getLogger("a.b").info("logged %d", 1)
    print("complained", file=sys.stderr)
    warnings.warn("warned", stacklevel=1)
    remit.progress(1, 3, "a third")
    subprocess.run(["echo", "from a child"], check=True)
    yield {"item": (1, 2)}
    yield None


def fail() -> None:
    import sys

    print("near the end", file=sys.stderr)
    try:
        int("x")
    except ValueError as exc:
        raise KeyError("no such thing") from exc


def leave(status: int) -> None:
    import sys

    sys.exit(status)


def vanish(status: int) -> None:
    import os

    os._exit(status)


def kill_itself(signum: int) -> None:
    import os

    os.kill(os.getpid(), signum)


def sleep(seconds: float) -> None:
    import time

    try:
        time.sleep(seconds)
    finally:
        print("cleaned up", flush=True)


def where() -> tuple[str, str]:
    import os

    return os.getcwd(), os.environ["GREETING"]


async def later(value: Any) -> Any:
    import asyncio

    await asyncio.sleep(0.01)
    return value


async def trickle(most: int) -> AsyncIterator[int]:
    for number in range(most):
        yield number


def read_all() -> str:
    import sys

    return sys.stdin.read()


@pytest.fixture
async def session(target: str) -> AsyncIterator[remit.Session]:
    async with remit.connect(target) as session:
        yield session


async def test_a_value_comes_back(session: remit.Session) -> None:
    job = await session.start(add, [1], [2, "three"])
    assert await job.result() == [1, 2, "three"]
    assert job.state is remit.JobState.COMPLETED
    assert not job.has_more_data
    assert job.command == "add()"
    # It is kept with the job, for whoever asks again.
    assert await job.result() == [1, 2, "three"]


async def test_everything_a_function_says_comes_in_order(session: remit.Session) -> None:
    job = await session.start(speak)
    records: list[remit.Record] = [record async for record in job.receive()]
    said = [(record.stream, record.data) for record in records]
    printed = b"".join(data for stream, data in said if stream == "stdout")
    assert printed == b"printed\nfrom a child\n"
    assert (said[0][0], said[-1]) == ("stdout", ("value", None))
    log, warning, progress = (
        next(record for record in records if record.stream == stream)
        for stream in ("log", "warning", "progress")
    )
    assert isinstance(log.data, remit.LogRecord)
    assert (log.data.level, log.data.logger, log.data.message) == (logging.INFO, "a.b", "logged 1")
    assert isinstance(warning.data, remit.WarningRecord)
    assert (warning.data.category, warning.data.message) == ("UserWarning", "warned")
    assert progress.data == remit.Progress(1, 3, "a third")
    assert records.index(log) < records.index(warning) < records.index(progress)
    items = [record for record in records if record.stream == "value"]
    assert [(item.data, item.offset) for item in items] == [({"item": (1, 2)}, 0), (None, 1)]


async def test_a_failure_tells_what_happened(session: remit.Session) -> None:
    job = await session.start(fail)
    with pytest.raises(remit.JobFailed, match="KeyError: 'no such thing'") as caught:
        await job.result()
    error = caught.value
    assert (error.type, error.exit_status, error.reason) == ("KeyError", 1, "exited")
    assert error.stderr_tail == b"near the end\n"
    assert error.traceback is not None
    assert 'raise KeyError("no such thing") from exc' in error.traceback
    assert "test_functions.py" in error.traceback
    assert "ValueError" in error.traceback
    assert "remit/_worker" not in error.traceback
    assert job.state is remit.JobState.FAILED
    assert job.outcome is not None
    assert job.outcome.error == "KeyError: 'no such thing'"


async def test_ways_to_end_are_told_apart(session: remit.Session) -> None:
    job: remit.Job = await session.start(leave, 0)
    assert await job.result() is None

    job = await session.start(leave, 3)
    with pytest.raises(remit.JobFailed, match="raised SystemExit: 3") as caught:
        await job.result()
    assert (caught.value.type, caught.value.exit_status) == ("SystemExit", 3)

    job = await session.start(vanish, 0)
    with pytest.raises(remit.JobFailed, match="before it returned") as caught:
        await job.result()
    assert (caught.value.reason, caught.value.exit_status) == ("no-result", 0)
    assert job.state is remit.JobState.FAILED

    job = await session.start(kill_itself, int(signal.SIGKILL))
    with pytest.raises(remit.JobFailed, match="was ended by SIGKILL") as caught:
        await job.result()
    assert (caught.value.reason, caught.value.signal) == ("signalled", "SIGKILL")

    job = await session.start(sleep, 100, timeout=0.5)
    with pytest.raises(remit.JobFailed, match=r"job j\w+ on|raised") as caught:
        await job.result()
    assert (caught.value.reason, caught.value.type) == ("timeout", "KeyboardInterrupt")


async def test_a_stopped_function_cleans_up(session: remit.Session) -> None:
    job = await session.start(sleep, 100)
    assert await job.stop() == []
    assert job.state is remit.JobState.STOPPED
    with pytest.raises(remit.JobFailed, match=r"is STOPPED|job j\w+ on|raised"):
        await job.result()


async def test_async_functions_run(session: remit.Session) -> None:
    assert await (await session.start(later, 5)).result() == 5
    assert await (await session.start(trickle, 3)).result() == [0, 1, 2]
    assert await session.call(later, 6) == 6
    assert await session.call(trickle, 3) == [0, 1, 2]


async def test_a_function_has_a_directory_an_environment_and_a_stdin(
    session: remit.Session,
) -> None:
    job: remit.Job = await session.start(where, cwd="/tmp", env={"GREETING": "hello"})
    assert await job.result() == ("/tmp", "hello")
    job = await session.start(read_all, stdin=b"some text")
    assert await job.result() == "some text"
    job = await session.start(where, cwd="/no/such/place")
    assert job.outcome is not None
    assert (job.outcome.reason, job.outcome.error) == (
        "start-failed",
        "no such directory: /no/such/place",
    )


async def test_what_left_the_loop_early_is_not_lost(session: remit.Session) -> None:
    job = await session.start(count, 20_000)
    first = []
    async for record in job.receive():
        first.append(record.data)
        if len(first) == 10:
            break
    rest = [record.data async for record in job.receive()]
    assert first + rest[1:] == list(range(20_000))  # the one in hand came again
    assert not job.has_more_data


async def test_a_result_that_is_no_data_is_told(session: remit.Session) -> None:
    job = await session.start(refuse_to_be_data)
    with pytest.raises(remit.ResultError, match=r'result\["a"\]\[1\]'):
        await job.result()
    with pytest.raises(remit.ResultError, match=r'result\["a"\]\[1\]'):
        await session.call(refuse_to_be_data)


def refuse_to_be_data() -> object:
    return {"a": [1, object()]}


async def test_large_results_and_arguments(session: remit.Session) -> None:
    data = os.urandom(3 << 20)
    assert await session.call(echo, data) == data
    for full in ("spill", "block", "drop"):
        job = await session.start(echo, data, full=full, buffer_limit=1 << 18)
        assert await job.result() == data


async def test_calls(session: remit.Session) -> None:
    assert await session.call(add, 1, 2) == 3
    results: dict[int, int] = {}

    async def one(number: int) -> None:
        results[number] = await session.call(add, number, number)

    async with anyio.create_task_group() as tasks:
        for number in range(200):
            tasks.start_soon(one, number)
    assert results == {number: 2 * number for number in range(200)}
    with pytest.raises(remit.JobFailed, match="raised KeyError") as caught:
        await session.call(fail)
    assert caught.value.type == "KeyError"
    assert caught.value.traceback is not None
    assert 'int("x")' in caught.value.traceback
    assert caught.value.stderr_tail == b"near the end\n"


async def test_a_worker_that_dies_fails_only_its_call(session: remit.Session) -> None:
    failures = []

    async def die() -> None:
        with pytest.raises(remit.JobFailed, match="was ended by SIGKILL") as caught:
            await session.call(kill_itself, int(signal.SIGKILL))
        failures.append(caught.value)

    results = []

    async def live(number: int) -> None:
        results.append(await session.call(add, number, 0))

    async with anyio.create_task_group() as tasks:
        for number in range(60):
            tasks.start_soon(live, number)
            if number % 20 == 10:
                tasks.start_soon(die)
    assert sorted(results) == list(range(60))
    assert [failure.signal for failure in failures] == ["SIGKILL"] * 3
    with pytest.raises(remit.JobFailed, match="exited with status 7") as caught:
        await session.call(vanish, 7)
    assert caught.value.exit_status == 7
    with pytest.raises(remit.JobFailed, match="raised SystemExit: 3") as caught:
        await session.call(leave, 3)
    assert caught.value.type == "SystemExit"


async def test_a_cancelled_call_is_interrupted(session: remit.Session) -> None:
    with anyio.move_on_after(1.0) as scope:
        await session.call(sleep, 1000)
    assert scope.cancelled_caught
    # Both workers can be had again, long before the 1000 s are over.
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(session.call, sleep, 0.01)


async def test_short_calls_do_not_wait_behind_long_ones(target: str) -> None:
    async with remit.connect(target, workers=2) as session:
        for _ in range(50):
            await session.call(add, 1, 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(session.call, sleep, 1000)
            with anyio.fail_after(20):
                async with anyio.create_task_group() as short:
                    for number in range(100):
                        short.start_soon(session.call, add, number, 1)
            tasks.cancel_scope.cancel()


async def test_workers_are_replaced(target: str) -> None:
    async with remit.connect(target, workers=1, calls_per_worker=5) as session:
        pids = [await session.call(own_pid) for _ in range(20)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [5, 5, 5, 5]


def own_pid() -> int:
    import os

    return os.getpid()


async def test_a_shipped_package_can_be_imported(
    session: remit.Session, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "shipped_by_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("from .words import GREETING\n")
    (package / "words.py").write_text("GREETING = 'hello'\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(remit.JobFailed, match=r"session.ship\(.shipped_by_a_test.\)"):
        await session.call(use_shipped)
    await session.ship("shipped_by_a_test")
    assert await session.call(use_shipped) == "hello"
    assert await (await session.start(use_shipped)).result() == "hello"
    sys.modules.pop("shipped_by_a_test", None)


def use_shipped() -> object:
    import shipped_by_a_test  # type: ignore[import-not-found]

    return shipped_by_a_test.GREETING


async def test_an_interpreter_that_is_not_there(session: remit.Session) -> None:
    with pytest.raises(remit.TargetError, match="no such program: /no/python"):
        await session.start(add, 1, 2, python="/no/python")
    with pytest.raises(remit.TargetError):
        await session.call(add, 1, 2, python="/bin/true")
    assert await session.call(add, 1, 2) == 3
