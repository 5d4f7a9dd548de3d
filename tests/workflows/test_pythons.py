"""Functions on every Python that is to be had here: by source where it is another one."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import remit
from testbed import pythons

pytestmark = [pytest.mark.anyio, pytest.mark.real]

INTERPRETERS = [pytest.param(found, id=found.version) for found in pythons.found()]
OURS = sys.version_info.minor
OTHERS = [pytest.param(found, id=found.version) for found in pythons.found() if found.minor != OURS]


def which(*more: object) -> Any:
    import sys

    return tuple(sys.version_info[:2]), more


def halves(most: int) -> Iterator[object]:
    import logging

    for number in range(most):
        logging.info("number %d", number)
        yield {"half": number / 2}


def fail(text: str) -> int:
    digits = text.strip()
    return int(digits)  # this line is in the traceback


@pytest.fixture(scope="module", params=INTERPRETERS)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    found: pythons.Interpreter = request.param
    return found


@pytest.fixture
async def session(anyio_backend: str) -> AsyncIterator[remit.Session]:
    async with remit.connect("local:") as session:
        yield session


async def test_calls_and_jobs(session: remit.Session, python: pythons.Interpreter) -> None:
    path = str(python.path)
    expected = ((3, python.minor), ("a", (1, None)))
    assert await session.call(which, "a", (1, None), python=path) == expected
    job = await session.start(which, "a", (1, None), python=path)
    assert await job.result() == expected

    kept = await session.start(which, "a", (1, None), python=path, placement="keep")
    assert await kept.result() == expected
    await kept.remove()

    job = await session.start(halves, 3, python=path)
    said = [(record.stream, record.data) async for record in job.receive()]
    values = [data for stream, data in said if stream == "value"]
    assert values == [{"half": 0.0}, {"half": 0.5}, {"half": 1.0}]
    logs = [data.message for stream, data in said if isinstance(data, remit.LogRecord)]
    assert logs == ["number 0", "number 1", "number 2"]
    assert await session.call(halves, 2, python=path) == values[:2]

    job = await session.start(fail, "x", python=path)
    with pytest.raises(remit.JobFailed, match="raised ValueError") as of_job:
        await job.result()
    with pytest.raises(remit.JobFailed, match="raised ValueError") as of_call:
        await session.call(fail, "x", python=path)
    for caught in (of_job, of_call):
        assert caught.value.type == "ValueError"
        assert "return int(digits)  # this line is in the traceback" in str(caught.value.traceback)
        assert "test_pythons.py" in str(caught.value.traceback)


def closure() -> Callable[[], Any]:
    counted: list[object] = [object()]
    return lambda: len(counted)


@pytest.mark.parametrize("other", OTHERS)
async def test_what_cannot_go_by_source_is_refused_before_it_runs(
    session: remit.Session, other: pythons.Interpreter
) -> None:
    path = str(other.path)
    words = f"Python 3.{other.minor}"
    with pytest.raises(remit.ShippingError, match=words) as caught:
        await session.call(closure(), python=path)
    assert "counted" in str(caught.value)
    assert caught.value.hint
    for placement in ("return", "keep"):
        with pytest.raises(remit.ShippingError, match=words):
            await session.start(closure(), python=path, placement=placement)
    assert await session.jobs() == []


async def test_a_closure_goes_by_value_to_the_same_python(session: remit.Session) -> None:
    assert await session.call(closure(), python=sys.executable) == 1
