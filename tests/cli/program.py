"""``remit`` as its users have it: a program, with a state directory of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

REMIT = Path(sys.executable).with_name("remit")
LIMIT = 60.0


class Cli:
    """Runs ``remit`` with one state directory; ``env`` is what it finds in its environment."""

    def __init__(self, state: Path, directory: Path) -> None:
        self.state = state
        self.directory = directory
        self.env = {**os.environ, "REMIT_STATE_DIR": str(state)}

    def __call__(
        self, *words: str, stdin: bytes = b"", status: int | None = 0, limit: float = LIMIT
    ) -> subprocess.CompletedProcess[bytes]:
        """Runs it to its end, in ``limit`` seconds; ``status`` None: whatever it is."""
        done = subprocess.run(
            [REMIT, *words],
            input=stdin,
            capture_output=True,
            env=self.env,
            cwd=self.directory,
            timeout=limit,
        )
        if status is not None:
            assert done.returncode == status, (words, done)
        return done

    def answer(self, *words: str) -> str:
        """What it prints on stdout, where it works."""
        return self(*words).stdout.decode().strip()

    def listed(self, *words: str) -> dict[str, dict[str, Any]]:
        """What ``remit jobs`` tells, by name or else by id."""
        jobs = json.loads(self("jobs", "--json", *words).stdout)
        return {job["name"] or job["id"]: job for job in jobs}

    @contextmanager
    def running(self, *words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
        """Starts it; killed at the end if it still runs. stdin is empty unless told otherwise.

        Its signals are those of a program that a person starts, whatever the tests were started by.
        """
        files: dict[str, Any] = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        }
        process = subprocess.Popen(
            [REMIT, *words], env=self.env, cwd=self.directory, **{**files, **options}
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
