"""`remit.Executor`: what PEP 3148 promises, over processes on a target."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import os
import random
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, Future
from functools import partial
from pathlib import Path
from typing import Any

import dask
import pytest

import remit
from remit._executor import _Future
from remit._portal import portal
from testbed import waits


@pytest.fixture
def executor() -> Iterator[remit.Executor]:
    with remit.Executor("local:", workers=2) as executor:
        yield executor


def until_there(path: str) -> str:
    """Runs until the file is there, and tells where it began."""
    with open(path + ".begun", "w"):
        pass
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


def fail(text: str) -> None:
    raise KeyError(text)


def keywords(*args: int, **more: int) -> tuple[tuple[int, ...], dict[str, int]]:
    return args, more


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_submit_gives_a_future_of_what_is_called_there(executor: remit.Executor) -> None:
    assert executor.submit(pow, 2, 8).result() == 256
    assert executor.submit(keywords, 1, 2, fn=3, self=4).result() == ((1, 2), {"fn": 3, "self": 4})
    here = os.getpid()
    assert executor.submit(os.getpid).result() != here
    failed = executor.submit(fail, "mine")
    assert isinstance(failed.exception(), remit.JobFailed)
    with pytest.raises(remit.JobFailed, match="KeyError: 'mine'"):
        failed.result()
    with pytest.raises(remit.ShippingError):
        executor.submit(lambda lock: None, threading.Lock()).result()


def test_map_keeps_the_order_and_takes_many_iterables(executor: remit.Executor) -> None:
    assert list(executor.map(pow, range(6), [2] * 6)) == [0, 1, 4, 9, 16, 25]
    assert list(executor.map(abs, [])) == []
    results = executor.map(int, ["1", "x", "3"])
    assert next(results) == 1
    with pytest.raises(remit.JobFailed, match="ValueError"):
        next(results)
    assert list(executor.map(pow, range(100), [1] * 100, chunksize=7)) == list(range(100))


def test_map_gives_up_after_its_timeout(executor: remit.Executor, tmp_path: Path) -> None:
    gate = str(tmp_path / "gate")
    results = executor.map(until_there, [gate], timeout=0.2)
    with pytest.raises(TimeoutError):
        next(results)


def test_wait_and_as_completed_know_its_futures(executor: remit.Executor, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    slow: Future[Any] = executor.submit(until_there, str(gate))
    quick: Future[Any] = executor.submit(abs, -1)
    failed: Future[Any] = executor.submit(fail, "x")
    done = concurrent.futures.wait([slow, quick], return_when=FIRST_COMPLETED).done
    assert done == {quick}
    assert failed in concurrent.futures.wait([slow, failed], return_when=FIRST_EXCEPTION).done
    with pytest.raises(TimeoutError):
        slow.result(timeout=0.01)
    with pytest.raises(TimeoutError):
        slow.exception(timeout=0.01)
    gate.touch()
    assert set(concurrent.futures.as_completed([slow, quick, failed])) == {slow, quick, failed}
    assert not concurrent.futures.wait([slow, quick, failed], return_when=ALL_COMPLETED).not_done


def test_callbacks_are_called_once_each_and_may_submit(executor: remit.Executor) -> None:
    called: list[str] = []
    future = executor.submit(abs, -1)
    future.add_done_callback(lambda future: called.append("first"))
    future.add_done_callback(lambda future: 1 / 0)  # it is logged, and hinders nobody
    again: list[Future[int]] = []
    future.add_done_callback(lambda future: again.append(executor.submit(abs, -2)))
    future.add_done_callback(lambda future: called.append("last"))
    wait_for(lambda: again and len(called) == 2)
    assert again[0].result() == 2
    future.add_done_callback(lambda future: called.append("late"))
    assert called == ["first", "last", "late"]


def test_what_has_not_begun_is_cancelled(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with remit.Executor("local:", workers=1) as executor:
        futures = [executor.submit(until_there, str(gate)) for _ in range(6)]
        last = futures[-1]
        told: list[Future[str]] = []
        last.add_done_callback(told.append)
        assert last.cancel()
        assert last.cancel()
        assert (last.cancelled(), last.done(), last.running(), told) == (True, True, False, [last])
        with pytest.raises(concurrent.futures.CancelledError):
            last.result()
        assert last in concurrent.futures.wait([last], timeout=5).done
        gate.touch()
        assert [future.result() for future in futures[:-1]] == [str(gate)] * 5
        assert not futures[0].cancel()
        assert not futures[0].cancelled()


def test_what_runs_is_cancelled_there(executor: remit.Executor, tmp_path: Path) -> None:
    never = tmp_path / "never"
    future = executor.submit(until_there, str(never))
    wait_for(Path(f"{never}.begun").exists)
    assert future.running()
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result()
    # Both workers are free again.
    gates = [str(tmp_path / f"gate{number}") for number in range(2)]
    both = [executor.submit(until_there, gate) for gate in gates]
    for gate in gates:
        wait_for(Path(f"{gate}.begun").exists)
    for gate in gates:
        Path(gate).touch()
    assert [future.result() for future in both] == gates


def test_a_future_is_told_of_once_whoever_ends_it() -> None:
    """Cancelled by several threads at the moment at which its outcome comes."""
    for _ in range(300):
        future: _Future[int] = _Future()
        assert not future.running()
        assert future.begin()
        assert future.running()
        told: list[Future[int]] = []
        future.add_done_callback(told.append)
        waiting = threading.Thread(target=concurrent.futures.wait, args=([future],))
        waiting.start()
        start = threading.Barrier(3)
        cancelled: list[bool] = []

        def cancel(future: Future[int] = future, start: threading.Barrier = start) -> bool:
            start.wait()
            return future.cancel()

        def settle(future: _Future[int] = future, start: threading.Barrier = start) -> None:
            start.wait()
            future.settle(value=1)

        with concurrent.futures.ThreadPoolExecutor(3) as threads:
            both = [threads.submit(cancel) for _ in range(2)]
            threads.submit(settle).result()
            cancelled = [each.result() for each in both]
        waiting.join(10)
        assert not waiting.is_alive()
        assert told == [future]
        assert future.done()
        assert not future.running()
        assert cancelled == [future.cancelled()] * 2
        assert future.cancelled() or future.result() == 1
        future.settle(error=ValueError())  # too late, and quiet


def test_nothing_is_used_that_the_standard_library_may_change() -> None:
    source = inspect.getsource(sys.modules[_Future.__module__])
    private = {name for name in vars(Future()) if name.startswith("_")}
    assert {"_state", "_condition"} <= private
    assert not private & set(re.findall(r"\w+", source))


def test_shutdown_waits_and_takes_no_more(tmp_path: Path) -> None:
    executor = remit.Executor("local:", workers=1)
    futures = [executor.submit(time.sleep, 0.05) for _ in range(4)]
    executor.shutdown()
    assert all(future.done() and future.exception() is None for future in futures)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(abs, 1)
    executor.shutdown()
    executor.shutdown(wait=False)


def test_shutdown_without_waiting_finishes_what_was_submitted(tmp_path: Path) -> None:
    executor = remit.Executor("local:", workers=1)
    gate = tmp_path / "gate"
    futures = [executor.submit(until_there, str(gate)) for _ in range(5)]
    executor.shutdown(wait=False)
    assert not futures[0].done()
    gate.touch()
    assert [future.result() for future in futures] == [str(gate)] * 5


def test_shutdown_cancels_what_has_not_begun(tmp_path: Path) -> None:
    executor = remit.Executor("local:", workers=2)
    futures = [executor.submit(time.sleep, 0.01) for _ in range(50)]
    executor.shutdown(cancel_futures=True)
    cancelled = [future for future in futures if future.cancelled()]
    others = [future for future in futures if not future.cancelled()]
    assert len(cancelled) > 20
    assert others
    assert all(future.done() and future.exception() is None for future in others)
    assert not concurrent.futures.wait(futures, timeout=5).not_done


def test_one_that_is_dropped_finishes_what_it_was_given() -> None:
    future = remit.Executor("local:", workers=1).submit(abs, -3)
    assert future.result() == 3
    wait_for(lambda: not portal()._hubs)


def test_a_fault_in_the_block_waits_for_the_rest() -> None:
    with pytest.raises(KeyError), remit.Executor("local:", workers=1) as executor:  # noqa: PT012
        future = executor.submit(abs, -1)
        raise KeyError
    assert future.result() == 1


def test_many_threads_submit_and_cancel(executor: remit.Executor) -> None:
    """At random: each future ends as one thing, and nothing is left."""
    ends: list[object] = []

    def work() -> None:
        for number in range(40):
            future = executor.submit(abs, -number)
            if random.random() < 0.5:
                for _ in range(random.choice([0, 10, 1000])):
                    os.sched_yield()
                future.cancel()
            try:
                ends.append(future.result(timeout=60) == number)
            except concurrent.futures.CancelledError:
                ends.append(future.cancelled())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ends == [True] * 160
    assert executor.submit(abs, -1).result() == 1


def test_what_can_never_be_right_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="workers"):
        remit.Executor("local:", workers=0)
    with pytest.raises(TypeError, match="tiemout"):
        remit.Executor("local:", connect={"tiemout": 3})  # type: ignore[arg-type]
    with pytest.raises(remit.TargetError):
        remit.Executor("nonsense:there")


def test_who_cannot_be_reached_fails_all_that_waits() -> None:
    with remit.Executor("command:false", workers=1) as executor:
        futures = [executor.submit(abs, -number) for number in range(20)]
        for future in futures:
            assert isinstance(future.exception(), remit.ConnectError)
        assert isinstance(executor.submit(abs, 1).exception(), remit.ConnectError)


def test_options_of_the_connection_and_the_number_of_workers() -> None:
    with remit.Executor("local:", connect={"trust": True, "silence": 20.0}) as executor:
        assert executor.submit(partial(complex, 1), 2).result() == 1 + 2j
        assert executor._max_workers == os.cpu_count()


# -- with others


def test_asyncio_runs_calls_in_it(executor: remit.Executor, tmp_path: Path) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, abs, -1) == 1
        never = str(tmp_path / "never")
        task = asyncio.ensure_future(loop.run_in_executor(executor, until_there, never))
        await waits.there(Path(f"{never}.begun"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        calls = (loop.run_in_executor(executor, abs, -number) for number in range(20))
        assert await asyncio.gather(*calls) == list(range(20))

    asyncio.run(main())


def inc(number: int) -> int:
    return number + 1


def test_dask_computes_with_it() -> None:
    with remit.Executor("local:", workers=2, connect={"trust": True}) as executor:
        numbers = [dask.delayed(inc)(number) for number in range(5)]
        total = dask.delayed(sum)(numbers)
        assert total.compute(scheduler=executor) == 15
        with dask.config.set(scheduler=executor):
            assert dask.compute(*numbers) == (1, 2, 3, 4, 5)
