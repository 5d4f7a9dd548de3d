"""The agent's loop and that of supervisors, by themselves."""

from __future__ import annotations

import functools
import os
import select
from collections.abc import Callable
from typing import Any

import pytest

from remit._agent.base.loop import Loop
from remit._agent.kept.barrier import Turns


def _raise(exc: Exception) -> None:
    raise exc


class Supervisors:
    """The loop of a supervisor, by the names of the agent's."""

    def __init__(self) -> None:
        self._turns = Turns(_raise)
        self.unwatch_fd = self._turns.unwatch

    def watch_fd(self, fd: int, callback: Callable[[], object]) -> None:
        self._turns.watch(fd, select.POLLIN, lambda _: callback())

    def turn(self, most: float) -> None:
        over = iter((False, True))
        self._turns.run((), None, lambda: next(over))


@pytest.mark.parametrize("kind", [Loop, Supervisors])
def test_a_descriptor_that_is_new_by_an_old_number_has_nothing_to_read(kind: Any) -> None:
    """Read by mistake it gives nothing, which counts as the end of what has just begun."""
    loop, called = kind(), list[str]()
    readers, writers = zip(*(os.pipe() for _ in range(2)), strict=True)
    fresh, writer = os.pipe()

    def replace(reader: int) -> None:
        """Whichever is served first replaces the other, which has something to be read, too."""
        called.append("old")
        loop.unwatch_fd(reader)
        os.dup2(fresh, reader)
        loop.watch_fd(reader, lambda: called.append("new"))

    for reader, other in zip(readers, reversed(readers), strict=True):
        loop.watch_fd(reader, functools.partial(replace, other))
    for end in writers:
        os.write(end, b"x")
    loop.turn(5.0)
    assert called == ["old"]
    for end in (*readers, *writers, fresh, writer):
        os.close(end)
