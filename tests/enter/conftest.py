"""An agent under an interpreter of this machine, with a terminal opened on it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent.harness import Wire
from enter import versions
from enter.entered import SILENCE, Entered
from testbed import pythons


@pytest.fixture(params=versions.ENDS, ids=versions.name)
def python(request: pytest.FixtureRequest) -> pythons.Interpreter:
    interpreter: pythons.Interpreter = request.param
    return interpreter


@pytest.fixture
def bring_up(python: pythons.Interpreter) -> Iterator[Callable[..., Wire]]:
    """Starts an agent; arguments as for Wire, without the interpreter. ``env`` adds."""
    with ExitStack() as wires:

        def start(env: dict[str, str] | None = None, **args: Any) -> Wire:
            return wires.enter_context(Wire(python.path, env={**os.environ, **(env or {})}, **args))

        yield start


@pytest.fixture
def enter(bring_up: Callable[..., Wire], state_dir: Path) -> Callable[..., Entered]:
    """Opens a terminal on an agent of its own; arguments as for Entered."""

    def open_terminal(*command: str, **args: Any) -> Entered:
        return Entered(bring_up(state=state_dir, silence=SILENCE), *command, **args)

    return open_terminal
