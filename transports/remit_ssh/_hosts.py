"""The hosts that an ssh_config names: ssh_config(5)."""

from __future__ import annotations

import re

_HOST = re.compile(r"\s*host(?:\s+|\s*=\s*)(.+)", re.IGNORECASE)
_PATTERN = re.compile(r"[*?!\"]")


def hosts(path: str) -> list[str]:
    """Those that are no patterns, in their order."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [match[1] for line in file if (match := _HOST.fullmatch(line.rstrip()))]
    except OSError:
        return []
    words = [word for line in lines for word in line.split() if not _PATTERN.search(word)]
    return list(dict.fromkeys(words))
