"""An agent for a test: under each interpreter of this machine, gone when the test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from agent.harness import Wire
from testbed import pythons


@pytest.fixture(params=pythons.found(), ids=lambda interpreter: interpreter.version)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


@pytest.fixture
def bring_up(python: pythons.Interpreter) -> Iterator[Callable[..., Wire]]:
    """Starts an agent; arguments as for Wire, without the interpreter."""
    with ExitStack() as wires:

        def start(**args: Any) -> Wire:
            return wires.enter_context(Wire(python.path, **args))

        yield start


@pytest.fixture
def wire(bring_up: Callable[..., Wire]) -> Wire:
    return bring_up()
