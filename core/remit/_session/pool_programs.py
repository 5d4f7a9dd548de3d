"""The programs that an agent has of one caller: sent once, under a number, for many calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import anyio

from remit._wire.calls import SORTS

if TYPE_CHECKING:
    from remit._shipping.programs import Program

# Functions that the agent and its workers are to hold without a call that needs them, and their
# bytes.
_MOST_PROGRAMS = 128
_MOST_PROGRAM_BYTES = 32 << 20


class Known:
    """A program that the agent has, or is being sent."""

    __slots__ = ("_sending", "number", "sent", "size", "users")

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.users = 0
        self.sent = False
        self._sending = anyio.Lock()

    async def introduce(
        self, program: Program, send: Callable[[int, bytes], Awaitable[None]]
    ) -> None:
        """One of the calls that need it sends it; where that is cancelled, the next begins anew."""
        async with self._sending:
            if not self.sent:
                await send(self.number, SORTS[program.kind] + program.body)
                self.sent = True


class Programs:
    """Those of one pool: all that calls need, and some that were needed last."""

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}  # by digest
        self._unused: dict[bytes, Known] = {}  # the longest unused first
        self._bytes = 0
        self._count = 0

    def take(self, program: Program) -> Known:
        """For one call, until it leaves it."""
        known = self._known.get(program.digest)
        if known is None:
            self._count += 1
            known = self._known[program.digest] = Known(self._count, len(program.body))
            self._bytes += known.size
        elif not known.users:
            del self._unused[program.digest]
        known.users += 1
        return known

    def leave(self, program: Program, known: Known) -> list[int]:
        """One call less needs it. The numbers of those that the agent is to forget."""
        known.users -= 1
        if known.users:
            return []
        self._unused[program.digest] = known
        forgotten = []
        if not known.sent:
            self._drop(program.digest)
        while self._unused and (
            len(self._known) > _MOST_PROGRAMS or self._bytes > _MOST_PROGRAM_BYTES
        ):
            forgotten.append(self._drop(next(iter(self._unused))))
        return forgotten

    def _drop(self, digest: bytes) -> int:
        known = self._unused.pop(digest)
        del self._known[digest]
        self._bytes -= known.size
        return known.number
