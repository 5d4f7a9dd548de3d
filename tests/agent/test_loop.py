"""The agent's loop, by itself."""

from __future__ import annotations

import os
from functools import partial

from remit.agent.loop import Loop


def test_a_descriptor_that_is_new_by_an_old_number_has_nothing_to_read() -> None:
    """Read by mistake it gives nothing, which counts as the end of what has just begun."""
    loop, called = Loop(), list[str]()
    readers, writers = zip(*(os.pipe() for _ in range(2)), strict=True)
    fresh, writer = os.pipe()

    def replace(reader: int) -> None:
        """Whichever is served first replaces the other, which has something to be read, too."""
        called.append("old")
        loop.unwatch_fd(reader)
        os.dup2(fresh, reader)
        loop.watch_fd(reader, partial(called.append, "new"))

    for reader, other in zip(readers, reversed(readers), strict=True):
        loop.watch_fd(reader, partial(replace, other))
    for end in writers:
        os.write(end, b"x")
    loop.turn(5.0)
    assert called == ["old"]
    for end in (*readers, *writers, fresh, writer):
        os.close(end)
