"""When a lost link is looked for again, and when it is given up. Pure."""

from __future__ import annotations

import math
import random
from typing import Final

# A session is to be back within 10 s of the link being possible, for as long as somebody may sit
# and wait for it (50 such pauses are the default of ``reconnect``); after that it may take longer.
_PROMPT_PAUSE: Final = 6.0
_PROMPT_ATTEMPTS: Final = 50
_LONGEST_PAUSE: Final = 30.0


def wait_before(attempt: int, jitter: float) -> float:
    """Seconds to wait before reconnect ``attempt`` (1, 2, …), times ``1 + jitter``: 0.5, 1, 2, 4,
    then 6 for some minutes, then 30. ``jitter`` is 0 to 0.2. Raises ValueError if ``attempt`` is
    under 1."""
    if attempt < 1:
        raise ValueError(f"attempts count from 1, not {attempt}")
    if attempt > _PROMPT_ATTEMPTS:
        return _LONGEST_PAUSE * (1 + jitter)
    return min(0.5 * 2.0 ** min(attempt - 1, 10), _PROMPT_PAUSE) * (1 + jitter)


def jitter() -> float:
    """So that many who lost their links at once do not come back at once."""
    return random.uniform(0, 0.2)


class Backoff:
    """Between the loss of a link and the next one. Times are those of one clock, in seconds."""

    def __init__(self, limit: float | None, retries: int = 0) -> None:
        """``limit``: how long after the loss another is looked for; None: for ever. ``retries``:
        how often the first link is tried for again."""
        self._limit = math.inf if limit is None else limit
        self._attempt = 0
        self._retries = retries
        self._give_up_at = -math.inf  # none was lost

    def lost(self, now: float) -> None:
        """A link was lost just now."""
        self._attempt = 0
        self._retries = 0
        self._give_up_at = now + self._limit

    def is_over(self, now: float) -> bool:
        return now >= self._give_up_at and self._attempt >= self._retries

    def pause(self, now: float) -> float:
        """Seconds to wait before the next attempt, which counts as made."""
        self._attempt += 1
        pause = wait_before(self._attempt, jitter())
        if self._give_up_at == -math.inf:
            return pause
        return min(pause, max(0.0, self._give_up_at - now))
