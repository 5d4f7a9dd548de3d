"""Values of every type, there and back: as results of jobs and calls, and as arguments."""

from __future__ import annotations

import datetime
import importlib
import sys
import zoneinfo
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import start_blocking_portal
from hypothesis import given, settings

import remit
from remit._link import agent_payload
from values import values_table
from values.test_codec import nested
from values.values_table import EXPECTED, SAME, alike, make

HERE = "travelling_values"
# What a function that goes by source may be given.
PLAIN = [text for text in SAME if not text.startswith(("collections.", "array."))]


def echo(value: Any) -> Any:
    return value


def made(text: str) -> Any:
    import travelling_values  # type: ignore[import-not-found]

    return travelling_values.make(text, "travelling_values")


def each_made(texts: list[str]) -> Iterator[Any]:
    import travelling_values

    for text in texts:
        yield travelling_values.make(text, "travelling_values")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The table as a module of the user's own, such as every Python can read."""
    text = Path(values_table.__file__).read_text(encoding="utf-8")
    (tmp_path / f"{HERE}.py").write_text(agent_payload.preparation((3, 6))(text), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    sys.modules.pop(HERE, None)


def expected(text: str) -> Any:
    return make(EXPECTED[text], HERE)


def differing(texts: list[str], values: list[Any]) -> list[str]:
    assert len(texts) == len(values)
    pairs = zip(texts, values, strict=True)
    return [f"{text} came back as {value!r}" for text, value in pairs if not same(text, value)]


def same(text: str, value: Any) -> bool:
    return alike(value, expected(text))


@pytest.mark.anyio
@pytest.mark.real
async def test_every_type_comes_back_from_every_place(target: str, table: None) -> None:
    texts = list(EXPECTED)
    async with remit.connect(target) as session:
        await session.ship(HERE)
        job = await session.start(each_made, texts)
        items = [record.data async for record in job.receive(keep=True) if record.stream == "value"]
        assert differing(texts, items) == []
        assert differing(texts, await job.result()) == []
        called = [await session.call(made, text) for text in texts]
        assert differing(texts, called) == []
        values = [make(text, HERE) for text in PLAIN]
        assert differing(PLAIN, await session.call(echo, values)) == []
        job = await session.start(echo, values)
        assert differing(PLAIN, await job.result()) == []
        for text in ("bytearray(70000)", "Point(1, [2])", "D('-NaN12')", "{1, 'a', (2,), None}"):
            job = await session.start(made, text)
            assert alike(await job.result(), make(EXPECTED.get(text, text), HERE)), text


@pytest.fixture
async def session(anyio_backend: str) -> AsyncIterator[remit.Session]:
    async with remit.connect("local:", workers=1) as session:
        yield session


def arrays() -> list[Any]:
    import numpy as np

    numbers = np.arange(24, dtype="<f8").reshape(4, 6)
    return [
        numbers,
        numbers.T,
        numbers[::2, ::-1].copy(order="F"),
        np.array(["a", "caf\u00e9"]),
        np.array([True, False]),
        np.array([b"ab", b"c"]),
        np.arange(3, dtype=">i2"),
        np.zeros((0, 3), dtype="c16"),
        np.array(["2024-02-29", "NaT"], dtype="M8[D]"),
        np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),
        np.float32(1.5),
        np.int64(-1),
        np.datetime64("2024-02-29T12:00"),
    ]


@pytest.mark.anyio
async def test_numpy_comes_back_bit_by_bit(session: remit.Session) -> None:
    job = await session.start(arrays, python=sys.executable)
    for values in (
        await job.result(),
        await session.call(arrays, python=sys.executable),
        await session.call(echo, arrays(), python=sys.executable),
    ):
        for value, wanted in zip(values, arrays(), strict=True):
            assert type(value) is type(wanted)
            assert (value.dtype, value.shape) == (wanted.dtype, wanted.shape)
            assert value.tobytes() == wanted.tobytes()
            assert value.flags.f_contiguous == wanted.flags.f_contiguous


def tables() -> list[Any]:
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(
        {
            "number": [1, 2, 3],
            "text": ["a", None, "c"],
            "kind": pd.Categorical(["x", "y", "x"]),
            "moment": pd.date_range("2024-02-29", periods=3, tz="UTC"),
            "maybe": pd.array([1, None, 3], dtype="Int64"),
        },
        index=pd.Index([5, 6, 7], name="key"),
    )
    return [frame, frame["number"], frame.index, pa.table({"a": [1, None], "b": ["x", "y"]})]


@pytest.mark.anyio
async def test_tables_come_back(session: remit.Session) -> None:
    job = await session.start(tables, python=sys.executable)
    for values in (await job.result(), await session.call(tables, python=sys.executable)):
        for value, wanted in zip(values, tables(), strict=True):
            assert type(value) is type(wanted)
            assert value.equals(wanted)


@pytest.mark.anyio
async def test_zones_come_back(session: remit.Session) -> None:
    moment = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    back = await session.call(echo, moment)
    assert (back, type(back.tzinfo), str(back.tzinfo)) == (
        moment,
        zoneinfo.ZoneInfo,
        "Europe/Berlin",
    )


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_what_is_nested_comes_back(backend: str) -> None:
    """One session for all; values within values, of whatever type."""
    with (
        start_blocking_portal(backend) as portal,
        portal.wrap_async_context_manager(remit.connect("local:", workers=1)) as session,
    ):

        @settings(max_examples=60, deadline=None)
        @given(nested)
        def there_and_back(value: Any) -> None:
            assert alike(portal.call(session.call, echo, value), value)

        there_and_back()

        @settings(max_examples=15, deadline=None)
        @given(nested)
        def by_a_job(value: Any) -> None:
            async def run() -> Any:
                return await (await session.start(echo, value)).result()

            assert alike(portal.call(run), value)

        by_a_job()
