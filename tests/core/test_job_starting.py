"""The hook `remit_job_starting`: plugins add to the environment of jobs, or refuse them."""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable

import pytest

import remit
from remit._plugins import Plugins, plugins
from remit.abc import JobRequest

pytestmark = pytest.mark.anyio

Add = Callable[[str, Callable[[JobRequest], None]], None]


@pytest.fixture
def add(monkeypatch: pytest.MonkeyPatch) -> Add:
    """Adds a plugin with that hook."""
    fresh = Plugins([])
    for name in ("transports", "placements"):
        monkeypatch.setattr(fresh, name, getattr(plugins(), name))
    monkeypatch.setattr("remit._session.hub.plugins", lambda: fresh)

    def make(name: str, hook: Callable[[JobRequest], None]) -> None:
        class Plugin:
            @remit.hookimpl
            def remit_job_starting(self, request: JobRequest) -> None:
                hook(request)

        fresh.add(Plugin(), name)

    return make


async def said(line: str, env: dict[str, str | None] | None = None) -> str:
    async with remit.connect("local:") as session:
        return (await session.run(line, env=env)).text


async def test_plugins_add_to_the_environment(add: Add, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "remit.jobs")
    seen: list[dict[str, str | None]] = []

    def first(request: JobRequest) -> None:
        request.add_env("ADDED", "by the first")
        request.add_env("GONE", None)

    def second(request: JobRequest) -> None:
        seen.append(dict(request.env))
        request.add_env("GIVEN", "anew")

    add("first", first)
    add("second", second)
    line = 'echo "$ADDED/$GIVEN/${GONE-unset}"'
    assert await said(line, env={"GIVEN": "x", "GONE": "x"}) == "by the first/anew/unset\n"
    assert seen == [{"GIVEN": "x", "GONE": None, "ADDED": "by the first"}]
    assert "plugin 'first' sets for job" in caplog.text
    assert "ADDED, GONE" in caplog.text


async def test_a_request_says_what_is_asked_for(add: Add) -> None:
    asked: list[tuple[object, ...]] = []

    def note(request: JobRequest) -> None:
        asked.append((request.target, request.location, request.name, request.command))
        asked.append((request.is_function, request.placement, request.lifetime, request.cwd))

    add("note", note)
    async with remit.connect("local:") as session:
        job = await session.start(["true"], placement="keep", name="n", cwd="/usr", id=None)
        await job.wait()
        await job.remove()
        assert await session.run(os.getppid) > 0
        await session.call(os.getppid)
    assert asked == [
        *(("local:", "localhost", "n", ("true",)), (False, "keep", "detached", "/usr")),
        *(("local:", "localhost", None, "getppid"), (True, "return", "session", os.getcwd())),
    ]


async def test_a_refusal_names_its_plugin_and_nothing_is_sent(add: Add) -> None:
    asked = []

    def refuse(request: JobRequest) -> None:
        request.refuse("not on Fridays")
        request.refuse("nor on Mondays")

    add("other", lambda request: asked.append(request.id))
    add("policy", refuse)
    async with remit.connect("local:") as session:
        with pytest.raises(remit.JobRefused, match="'policy' refused the job: not on F") as caught:
            await session.start(["true"], placement="keep")
        assert caught.value.plugin == "policy"
        assert pickle.loads(pickle.dumps(caught.value)).plugin == "policy"
        assert await session.jobs() == []
    assert len(asked) == 1


async def test_a_hook_that_fails_is_named_and_the_job_goes_its_way(add: Add) -> None:
    def fail(request: JobRequest) -> None:
        request.add_env("ADDED", "yes")
        request.add_env("NOT=A NAME", "x")

    add("broken", fail)
    with pytest.warns(remit.PluginWarning, match="'broken' is faulty: ValueError"):
        assert await said("echo $ADDED") == "yes\n"


async def test_a_refusal_counts_though_the_hook_fails_after_it(add: Add) -> None:
    def fail(request: JobRequest) -> None:
        request.refuse("no")
        raise RuntimeError("oh")

    add("broken", fail)
    with (
        pytest.warns(remit.PluginWarning, match="'broken' is faulty: RuntimeError"),
        pytest.raises(remit.JobRefused),
    ):
        await said("true")
