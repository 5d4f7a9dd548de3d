"""Where values are decoded: beside the event loop, as soon as that may take long."""

import threading

import anyio
import anyio.lowlevel
import pytest

from remit import ResultError, _function_records
from remit._jobs import function_output
from remit._values import codec

pytestmark = pytest.mark.anyio


def where(_: object) -> int:
    return threading.get_ident()


async def test_a_small_value_is_decoded_at_once_and_a_larger_one_in_a_thread() -> None:
    here = threading.get_ident()
    assert await function_output.beside(100, where, None) == here
    assert await function_output.beside(1 << 16, where, None) != here


async def test_others_go_on_while_a_value_is_decoded_and_a_cancel_is_heeded() -> None:
    began, may_end = threading.Event(), threading.Event()

    def slow() -> None:
        began.set()
        may_end.wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(function_output.beside, 1 << 16, slow)
        while not began.is_set():
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    may_end.set()


async def test_many_values_are_decoded_in_few_threads_at_a_time() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def decode() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        with lock:
            running -= 1

    async with anyio.create_task_group() as tasks:
        for _ in range(50):
            tasks.start_soon(function_output.beside, 1 << 16, decode)
    assert 1 <= most <= 4


async def test_what_a_thread_refuses_is_refused_here() -> None:
    body = b"".join(codec.encode(list(range(20_000))))[:-1]
    with pytest.raises(ResultError, match="is malformed"):
        await function_output.beside(len(body), _function_records.taken, body, "f()")
