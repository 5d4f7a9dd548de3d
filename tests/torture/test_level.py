"""Memory stays level; ``python -m torture.level`` does the same over ten thousand."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from torture.level import WORK

# What grows by some KiB each time is seen here, what grows by a hundred bytes only there.
COUNTS = {"jobs": 200, "calls": 1500, "functions": 500}


@pytest.mark.real
@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("name", WORK)
def test_memory_stays_level(name: str, loop: str) -> None:
    argv = [sys.executable, "-m", "torture.level", name, f"--count={COUNTS[name]}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*argv, f"--loop={loop}"], capture_output=True, text=True, env=env, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
