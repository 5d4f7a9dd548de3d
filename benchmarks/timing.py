"""Ours and theirs in turn, several times: what else the machine does hits both alike."""

import statistics
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

Ours = Callable[[], Awaitable[float]]
Theirs = Callable[[], Awaitable[float]]


class Pair(NamedTuple):
    """Medians, in seconds."""

    ours: float
    theirs: float

    @property
    def time_ratio(self) -> float:
        """Above 1: ours takes longer."""
        return self.ours / self.theirs

    @property
    def rate_ratio(self) -> float:
        """Below 1: ours is slower."""
        return self.theirs / self.ours

    def remark(self, theirs: str) -> str:
        return f"{self.ours * 1000:.1f} ms, {theirs} {self.theirs * 1000:.1f} ms"


async def compare(ours: Ours, theirs: Theirs, rounds: int) -> Pair:
    """Each returns the seconds that it took; the first round of both is not counted."""
    pairs = [(await ours(), await theirs()) for _ in range(rounds + 1)][1:]
    mine, others = zip(*pairs, strict=True)
    return Pair(statistics.median(mine), statistics.median(others))


def timed(function: Callable[[], object]) -> Callable[[], Awaitable[float]]:
    """A plain function as something to compare with. It has the event loop to itself."""

    async def run() -> float:
        begin = time.perf_counter()
        function()
        return time.perf_counter() - begin

    return run


def timed_async(function: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    async def run() -> float:
        begin = time.perf_counter()
        await function()
        return time.perf_counter() - begin

    return run
