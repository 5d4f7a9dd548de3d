"""What small pieces cost beyond their bytes, kept from stores: they count bytes. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from remit._wire.credit import LEAST_CHARGE, charge

# So many small pieces may be held by a store that has granted none of their bytes again: it may
# wait until what it grants is worth a frame.
_MOST_HELD: Final = (1 << 17) * LEAST_CHARGE
# Small pieces in a row are kept account of together.
_ROW: Final = 128
# Refunds smaller than this are not worth a frame.
_WORTH: Final = 1 << 14


class Surcharges:
    """The account of one job. What is refunded is to be granted to the target again."""

    def __init__(self, window: int) -> None:
        self._worth = max(1, min(_WORTH, window // 4))
        self._rows: deque[list[int]] = deque()  # where each ends, what it cost, its pieces
        self._arrived = 0  # bytes
        self._settled = 0  # bytes that the store granted again
        self._held = 0  # surcharges of the rows
        self._due = 0  # surcharges that were not refunded yet

    def arrived(self, size: int) -> int:
        """A piece of so many bytes has come. What is to be refunded now."""
        self._arrived += size
        extra = charge(size) - size
        if extra:
            self._due += extra
            self._held += extra
            if self._rows and self._rows[-1][2] < _ROW:
                row = self._rows[-1]
                row[0], row[1], row[2] = self._arrived, row[1] + extra, row[2] + 1
            else:
                self._rows.append([self._arrived, extra, 1])
        return self._refund()

    def settled(self, size: int) -> int:
        """The store granted so many bytes again. What is to be refunded now."""
        self._settled += size
        while self._rows and self._rows[0][0] <= self._settled:
            self._held -= self._rows.popleft()[1]
        return self._refund()

    def _refund(self) -> int:
        # What is due is part of what is held, or was.
        refund = min(self._due, _MOST_HELD - (self._held - self._due))
        if refund < self._worth:
            return 0
        self._due -= refund
        return refund
