"""An agent with a state directory of the test's own, under an old and a new interpreter."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Wire, processes_of
from testbed import processes, pythons


def _oldest_and_newest() -> list[pythons.Interpreter]:
    found = pythons.found()
    return [found[0], found[-1]] if len(found) > 1 else found


@pytest.fixture(params=_oldest_and_newest(), ids=lambda interpreter: interpreter.version)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


@pytest.fixture
def bring_up(python: pythons.Interpreter, state_dir: Path) -> Iterator[Callable[..., Wire]]:
    """Starts an agent that keeps jobs in ``state_dir``; arguments as for Wire."""
    with ExitStack() as wires:

        def start(**args: Any) -> Wire:
            return wires.enter_context(Wire(python.path, **{"state": state_dir, **args}))

        yield start


@pytest.fixture
def wire(bring_up: Callable[..., Wire]) -> Wire:
    return bring_up()


@pytest.fixture(autouse=True)
def _no_job_outlives_its_test(state_dir: Path) -> Iterator[None]:
    """Detached jobs outlive agents, so a test that failed half-way would leave them running."""
    yield
    paths = list(state_dir.glob("jobs/*/process.json"))
    running = processes_of(*(path.parent.name for path in paths)) if paths else []
    for path in paths:
        supervisor = processes.find(json.loads(path.read_text())["supervisor"]["pid"])
        if supervisor is not None and supervisor.name == "remit-keep":
            running.append(supervisor.pid)
    processes.kill(running)
