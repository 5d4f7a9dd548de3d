"""A placement from elsewhere: a package of its own, written from the docs alone, through the
conformance kit and the product."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import re
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

import remit
from remit._jobs import stores
from remit._link import background
from remit._plugins import plugins
from remit.testing import PlacementConformance

PACKAGE = Path(__file__).parent / "sqlite_like"


def load() -> ModuleType:
    """The plugin, without installing it."""
    path = PACKAGE / "remit_sqlite_like.py"
    spec = importlib.util.spec_from_file_location("remit_sqlite_like", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.sqlite"
    monkeypatch.setenv("REMIT_SQLITE", str(path))
    return path


@pytest.fixture
def sqlite_like(database: Path) -> Iterator[ModuleType]:
    """The plugin, in this process."""
    module = load()
    known = plugins().placements
    known["sqlite-like"] = module.SqliteLike()
    yield module
    del known["sqlite-like"]


@pytest.mark.usefixtures("database")
class TestSqliteLike(PlacementConformance):
    @pytest.fixture
    def placement(self) -> remit.Placement:
        placement: remit.Placement = load().SqliteLike()
        return placement


def rows(database: Path, query: str) -> list[Any]:
    """As another program sees it."""
    connection = sqlite3.connect(database)
    found = connection.execute(query).fetchall()
    connection.close()
    return found


def talk(most: int) -> Iterator[dict[str, int]]:
    for number in range(most):
        logging.warning("at %d", number)
        yield {"number": number}


@pytest.mark.anyio
@pytest.mark.usefixtures("sqlite_like")
@pytest.mark.parametrize("full", ["spill", "block", "drop"])
class TestThroughTheProduct:
    async def test_a_command(self, database: Path, full: Any) -> None:
        async with remit.connect("local:") as session:
            job = await session.start(
                ["seq", "200000"], placement="sqlite-like", full=full, buffer_limit=50_000
            )
            with anyio.fail_after(60):
                done = await job.result()
                assert await job.result() == done  # remembered
            assert done.stdout.split() == [b"%d" % n for n in range(1, 200_001)]
            again: list[remit.Record] = [one async for one in job.receive(from_start=True)]
            assert b"".join(record.data for record in again) == done.stdout
        stored = rows(database, "SELECT data FROM output ORDER BY offset")
        assert b"".join(data for (data,) in stored) == done.stdout
        assert rows(database, "SELECT job, exit_status FROM ended") == [(job.id, 0)]

    async def test_what_a_function_says(self, database: Path, full: Any) -> None:
        async with remit.connect("local:") as session:
            job = await session.start(
                talk, 300, placement="sqlite-like", full=full, buffer_limit=2000
            )
            with anyio.fail_after(60):
                seen = (
                    [record async for record in job.receive(keep=True)] if full != "block" else []
                )
                assert await job.result() == [{"number": n} for n in range(300)]
        numbers = [record.data["number"] for record in seen if record.stream == "value"]
        assert numbers == list(range(300))[: None if full != "block" else len(numbers)]
        said = rows(database, "SELECT kind, data FROM said ORDER BY offset")
        values = [json.loads(data) for kind, data in said if kind == "value"]
        assert values == [{"number": n} for n in range(300)]
        logged = [json.loads(data)["message"] for kind, data in said if kind == "log"]
        assert logged == [f"at {n}" for n in range(300)]
        assert said[-1] == ("end", "null")


# -- its end


@pytest.mark.anyio
async def test_leaving_a_session_waits_for_what_is_on_its_way(
    database: Path, sqlite_like: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = anyio.Event()
    write = sqlite_like.Store._write

    async def slowly(store: Any) -> None:
        await release.wait()
        await write(store)

    monkeypatch.setattr(sqlite_like.Store, "_write", slowly)
    waited = anyio.Event()
    async with anyio.create_task_group() as tasks, remit.connect("local:") as session:
        job = await session.start(["echo", "late"], placement="sqlite-like")

        async def wait() -> None:
            await job.wait()
            waited.set()

        tasks.start_soon(wait)
        async for state in job.changes():
            if state.finished:
                break
        await anyio.wait_all_tasks_blocked()
        assert not waited.is_set()
        tasks.start_soon(anyio.sleep, 0)

        async def let() -> None:
            async for _ in session.changes():
                pass  # until it is closed
            release.set()

        tasks.start_soon(let)
    assert waited.is_set()
    assert rows(database, "SELECT data FROM output") == [(b"late\n",)]
    assert rows(database, "SELECT reason FROM ended") == [("exited",)]


@pytest.mark.anyio
async def test_a_cancelled_result_leaves_what_it_had_taken(
    database: Path, sqlite_like: ModuleType
) -> None:
    async with remit.connect("local:") as session:
        for placement in ("sqlite-like", "return"):
            job = await session.start(
                "seq 1 20000; read x; seq 20001 40000; exit 3",
                placement=placement,
                full="block",
                buffer_limit=10_000,
                stdin=remit.PIPE,
            )
            for _ in range(3):
                with anyio.CancelScope() as scope:

                    async def watch(job: remit.Job = job, scope: anyio.CancelScope = scope) -> None:
                        while job._backing.store.size.get("stdout", 0) < 100_000:
                            await anyio.sleep(0.005)
                        scope.cancel()

                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(watch)
                        await job.result()
                assert scope.cancelled_caught
                assert job.has_more_data
                taken = (await anext(job.receive(keep=True))).end
                assert taken > 0
            first = await anext(job.receive())
            assert isinstance(first.data, bytes)
            assert first.data.startswith(b"1\n2\n")
            await job.send(b"on\n")
            with anyio.fail_after(60), pytest.raises(remit.JobFailed, match="job j") as caught:
                await job.result()
            expected = b"".join(b"%d\n" % n for n in range(1, 40_001))
            assert caught.value.result is not None
            assert caught.value.result.stdout == expected
            # What could not be taken is still there, and comes once.
            records: list[remit.Record] = [record async for record in job.receive()]
            assert b"".join(record.data for record in records) == expected
            assert not job.has_more_data


# -- stores that do not do what they should


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what was cancelled, and goes on."""
    monkeypatch.setattr(stores, "GRACE", 0.2)
    monkeypatch.setattr(background, "GRACE", 0.2)


async def _for_ever(store: object, *args: object) -> None:
    await anyio.sleep_forever()


async def _shielded(store: object, *args: object) -> None:
    with anyio.CancelScope(shield=True):
        await anyio.sleep_forever()


async def _raise(store: object, *args: object) -> None:
    raise LookupError("not today")


def _raise_at_once(store: object, *args: object) -> None:
    raise LookupError("not today")


@pytest.mark.anyio
@pytest.mark.usefixtures("impatient", "database")
@pytest.mark.parametrize(
    ("method", "fault", "words"),
    [
        ("_write", _for_ever, "had not stored all of it"),
        ("_write", _shielded, "had not stored all of it"),
        ("aclose", _shielded, "had not been freed"),
        ("_write", _raise, r"the task .*raised LookupError"),
        ("aclose", _for_ever, "had not been freed"),
        ("aclose", _raise, r"aclose\(\) of a store raised LookupError"),
        ("close", _raise_at_once, r"close\(\) of a store raised LookupError"),
    ],
)
async def test_a_store_without_an_end_is_its_jobs_trouble(
    sqlite_like: ModuleType, monkeypatch: pytest.MonkeyPatch, method: str, fault: Any, words: str
) -> None:
    monkeypatch.setattr(sqlite_like.Store, method, fault)
    if fault in (_for_ever, _shielded):
        # Of what works nothing has to be done within a moment.
        monkeypatch.setattr(stores, {"_write": "_DRAIN", "aclose": "_FREE"}[method], 0.2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with remit.connect("local:") as session:
            job = await session.start(["echo", "on"], placement="sqlite-like")
            with anyio.fail_after(30):
                await job.wait()
            assert (await session.run(["echo", "others"])).stdout == b"others\n"
            assert session.state is remit.SessionState.OPEN
    assert job.outcome is not None
    told = [str(warning.message) for warning in caught]
    assert re.search(words, f"{job.outcome.note} {job.outcome.error} {told}")
    assert "sqlite" in str(job.outcome.note or job.outcome.error)
    plugins()._faults.clear()


@pytest.mark.anyio
async def test_a_store_is_freed_when_nobody_has_its_job(
    database: Path, sqlite_like: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    freed: list[str] = []
    all_freed = anyio.Event()

    async def aclose(store: Any) -> None:
        freed.append(store.job.id)
        if len(freed) == 5:
            all_freed.set()

    monkeypatch.setattr(sqlite_like.Store, "aclose", aclose)
    async with remit.connect("local:") as session:

        async def one() -> str:
            job = await session.start(["true"], placement="sqlite-like")
            await job.result()
            return job.id

        ids = [await one() for _ in range(5)]
        gc.collect()
        held = await session.start(["true"], placement="sqlite-like")
        with anyio.fail_after(30):
            await all_freed.wait()
        await held.wait()
    assert freed == [*ids, held.id]
