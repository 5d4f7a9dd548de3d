"""A function whose start is cancelled, at any moment, hurts nobody and does not run to its end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from testbed import needs
from workflows import cancelled_starts


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_storm_of_cancels_among_bystanders_of_session_id_0(backend: str, tmp_path: Path) -> None:
    needs.root("a pid namespace")
    unshare = needs.tool("unshare")
    # The shell is there as the namespace's init: it takes the status of orphans.
    storm = subprocess.run(
        [
            *(unshare, "--pid", "--fork", "--mount-proc", "sh", "-c", '"$@"; exit $?', "sh"),
            *(sys.executable, cancelled_starts.__file__, backend, str(tmp_path)),
        ],
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert storm.stderr.decode() == ""
    found = json.loads(storm.stdout)
    assert (found["gone"], found["done"]) == ([], [])
    assert found["cancelled"] >= 10
    assert found["slowest_end"] < 6.0
