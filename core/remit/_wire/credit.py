"""Credit: how many bytes one end of a channel may send, as both ends count them. No I/O; standard
library only, Python 3.6: both ends hold this file."""

from __future__ import annotations

# The least that a piece from the agent costs of its credit. Beside its bytes one weighs some 250
# where it is held, and as much again while it is passed on: a job that prints one byte at a time
# would fill memory with them otherwise.
LEAST_CHARGE = 512
# More than any window that remit opens; a peer that grants more has lost count.
_MOST = 1 << 62


def charge(size: int) -> int:
    """What a piece of so many bytes from the agent costs. Whoever took it grants as much again."""
    return max(size, LEAST_CHARGE)


class Overdrawn(ValueError):
    """More was sent, or granted, than can be."""


class Credit:
    """What may still be sent. A piece may be as large as that, and cost more than its bytes: what
    it costs beyond is a debt, which grants pay off first."""

    __slots__ = ("_least", "_left")

    def __init__(self, least: int = 0) -> None:
        """``least``: what each piece costs at least."""
        self._left = 0
        self._least = least

    @property
    def left(self) -> int:
        """Bytes that one more piece may have."""
        return max(0, self._left)

    def grant(self, more: int) -> None:
        """Raises Overdrawn where nobody can have meant so much."""
        if self._left + more > _MOST:
            raise Overdrawn
        self._left += more

    def spend(self, size: int) -> None:
        """A piece of so many bytes goes. Raises Overdrawn."""
        if size > self._left:
            raise Overdrawn
        self._left -= max(size, self._least)


class Window:
    """What the peer may have on its way to us, or in our hands: what was consumed is granted again.

    In portions, since each is a frame; never so late that a peer with nothing left waits for good:
    of what it has sent less than a portion is owed once all is consumed.
    """

    __slots__ = ("_owed", "_portion")

    def __init__(self, size: int) -> None:
        """``size`` was granted at first."""
        self._owed = 0
        self._portion = max(1, size // 4)

    def consumed(self, cost: int) -> None:
        self._owed += cost

    @property
    def is_due(self) -> bool:
        """Whether a grant is worth a frame by now."""
        return self._owed >= self._portion

    def due(self) -> int:
        """What is to be granted now; 0 as long as that is not worth a frame."""
        if not self.is_due:
            return 0
        due, self._owed = self._owed, 0
        return due
