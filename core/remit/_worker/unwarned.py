"""Texts are compiled without a word on their style: who wrote them was told of it there.

One Python warns of what another takes in silence, `return` in a `finally` since 3.14. Where
warnings are errors it would be no text of a program at all.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Iterator

# The filters are those of the process: two threads that import would put back each other's.
_one_at_a_time = threading.RLock()


@contextmanager
def unwarned() -> Iterator[None]:
    """What the compiler warns of meanwhile is neither told nor an error."""
    with _one_at_a_time, warnings.catch_warnings():
        # Of escapes that there are none it was a DeprecationWarning before 3.12.
        for category in (SyntaxWarning, DeprecationWarning):
            warnings.simplefilter("ignore", category)
        yield
