"""The version of this remit, as installed."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def version() -> str:
    return metadata.version("remit")
