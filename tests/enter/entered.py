"""The caller's side of one `enter` channel."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from agent.harness import DEADLINE, PLENTY, Wire

# A test says nothing on the link while it waits for a program inside, however long that takes.
SILENCE = 600.0
RUNTIME_PREFIX = "remit-enter-"


class Entered:
    """A terminal on ``wire``'s agent with ``command`` in it, or the account's shell."""

    def __init__(
        self,
        wire: Wire,
        *command: str,
        rows: int = 24,
        columns: int = 80,
        credit: int = PLENTY,
        place: str | None = "there",
        env: dict[bytes, bytes] | None = None,
    ) -> None:
        self.wire = wire
        self.shown = b""
        self.channel = wire.request(
            "enter",
            credit,
            rows=rows,
            columns=columns,
            term="xterm",
            env=env or {},
            prompt=place,
            command={"argv": [os.fsencode(word) for word in command]} if command else None,
        )
        self.answer: dict[str, Any] = wire.accepted(self.channel)

    def type(self, keys: bytes) -> None:
        self.wire.send(self.channel, keys)

    def wait_for(self, pattern: bytes, deadline: float = DEADLINE) -> re.Match[bytes]:
        """Waits until the whole of what was shown has ``pattern``. Raises TimeoutError."""
        until = time.monotonic() + deadline
        while (found := re.search(pattern, self.shown)) is None:
            self.shown += self.wire.piece(self.channel, until - time.monotonic()).data
        return found

    def end(self, deadline: float = DEADLINE) -> dict[str, Any]:
        """What the agent says at the end, after all output."""
        collected = self.wire.collect(self.channel, deadline)
        self.shown += collected.stdout
        return collected.end


def control_dir(place: Path | str | None = None) -> Path:
    """The directory of the one terminal that is open, in XDG_RUNTIME_DIR unless told otherwise."""
    (found,) = Path(place or os.environ["XDG_RUNTIME_DIR"]).glob(f"{RUNTIME_PREFIX}*")
    return found


def control_dirs(place: Path | str | None = None) -> list[Path]:
    return list(Path(place or os.environ["XDG_RUNTIME_DIR"]).glob(f"{RUNTIME_PREFIX}*"))


def inside(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """``remit WORDS`` as the shell in the one open terminal would run it."""
    return subprocess.run(
        [control_dir() / "remit", *words], capture_output=True, text=True, timeout=30, **options
    )
