"""Every move of every job and session in the tests is one of the tables of states."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from remit._plugins import Plugins
from remit._session import states as session_states
from remit._types import SessionState
from remit._wire import states


class Moves:
    """What was told in one test that the tables lack. A test whose target lies asks for it, by
    the fixture ``moves``, and takes what it expects out of ``told``."""

    def __init__(self) -> None:
        self.told: list[str] = []  # and nothing came of it
        self.made: list[str] = []

    def observed(self, old: str, told: str) -> str:
        new = _observed(old, told)
        # Of a job that is over older news may still be on their way.
        if new != told and old not in states.FINISHED:
            self.told.append(f"a job that was {old} is {told}")
        return new

    def move(self, state: SessionState, event: str) -> SessionState:
        try:
            return _move(state, event)
        except ValueError as exc:
            self.made.append(str(exc))
            raise

    def notify(self, plugins: Plugins, hook: str, **facts: Any) -> None:
        if hook == "remit_job_changed":
            old, new = facts["old"], facts["new"]
            if old is not None and new not in states.NEXT[old].values():
                self.made.append(f"a job went from {old} to {new}")
        _notify(plugins, hook, **facts)


_observed = states.observed
_move = session_states.move
_notify = Plugins.notify


@pytest.fixture(autouse=True)
def moves() -> Iterator[Moves]:
    """Fails a test with a move that no table has."""
    moves = Moves()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(states, "observed", moves.observed)
        patch.setattr(session_states, "move", moves.move)
        patch.setattr(Plugins, "notify", lambda *args, **facts: moves.notify(*args, **facts))
        yield moves
    assert moves.made == []
    assert moves.told == []
