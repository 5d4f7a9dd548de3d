"""Turns in processes of their own: what comes back of them, and in how many pieces."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import pytest

from remit._agent.base.loop import Loop
from remit._agent.kept import looks
from remit._agent.kept.turns import Turns
from remit._wire.refusal import Refused

# Around what the kernel takes at once, and what a process reads at once.
SIZES = (0, 1, 15, 16, 17, 65_535, 212_992, 262_144, 262_145, 1 << 20, (3 << 20) + 1)

# The processes are forks of this one, as they are of the agent; these threads do not matter there.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


class Place:
    """What turns need of an agent."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.children = self
        self.pids: list[int] = []

    def watch(self, pid: int, ended: Callable[[int], object]) -> None:
        self.pids.append(pid)

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline
            self.loop.turn(1.0)


def pieces(sizes: list[int], refuse: bool, die: bool) -> dict[str, Any]:
    if die:
        os._exit(0)
    if refuse:
        raise Refused("state", "no")
    return {"sizes": sizes, "data": [os.urandom(1) * size for size in sizes]}


def opened(text: str) -> dict[str, Any]:
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    return {"fd": reader, "data": [text.encode()] * 3}


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Place, Turns]]:
    monkeypatch.setattr(looks, "TURNS", {"pieces": pieces, "opened": opened})
    place = Place()
    turns = Turns(cast(Any, place), ())
    yield place, turns
    for worker in turns._workers:
        worker.dismiss()
    for pid in place.pids:
        os.waitpid(pid, 0)


def test_answers_are_whole_whatever_their_sizes(turns: tuple[Place, Turns]) -> None:
    place, asked = turns
    got: list[Any] = []

    def take(value: Any, refused: Refused | None) -> None:
        assert refused is None
        got.append((value["sizes"], bytes(value["data"])))  # it is another's afterwards

    wanted = [[], *([size] for size in SIZES), *([size, 0, size] for size in SIZES[::-1])]
    for sizes in wanted:
        asked.ask("job", "pieces", (sizes, False, False), take)
    place.until(lambda: len(got) == len(wanted))
    assert [sizes for sizes, _ in got] == wanted
    for sizes, data in got:
        assert len(data) == sum(sizes)
        at = 0
        for size in sizes:
            assert len(set(data[at : at + size])) == min(size, 1)
            at += size


def test_a_refusal_an_end_and_a_descriptor_come_between(turns: tuple[Place, Turns]) -> None:
    place, asked = turns
    got: list[Any] = []

    def take(value: Any, refused: Refused | None) -> None:
        if refused is not None:
            got.append(refused.code)
        elif "fd" in value:
            got.append((os.read(value["fd"], 100), bytes(value["data"])))
            os.close(value["fd"])
        else:
            got.append(len(value["data"]))

    for name, args in (
        ("pieces", ([300_000], False, False)),
        ("pieces", ([], True, False)),
        ("opened", ("x",)),
        ("pieces", ([5], False, True)),
        ("pieces", ([1 << 20, 7], False, False)),
        ("opened", ("yz",)),
    ):
        asked.ask("job", name, args, take)
    place.until(lambda: len(got) == 6)
    assert got == [
        300_000,
        "state",
        (b"x", b"xxx"),
        "internal",
        (1 << 20) + 7,
        (b"yz", b"yzyzyz"),
    ]
