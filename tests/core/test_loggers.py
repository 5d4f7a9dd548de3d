"""What remit says of its doings goes to loggers below ``remit``, and nowhere else unless asked."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import remit

pytestmark = pytest.mark.anyio


async def test_sessions_and_jobs_say_what_becomes_of_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG, logger="remit")
    async with remit.connect("local:") as session:
        job = await session.start(["true"])
        await job.wait()
    said = [(r.name, r.levelname, r.getMessage()) for r in caplog.records if "remit" in r.name]
    assert ("remit.session", "INFO", "local: is OPEN") in said
    assert ("remit.session", "INFO", "local: is CLOSED") in said
    assert ("remit.jobs", "INFO", f"job {job.id} on localhost is COMPLETED") in said
    assert any(text.startswith("local:: an agent in Python 3.") for _, _, text in said)


def test_nothing_is_said_by_default() -> None:
    program = (
        "import anyio, remit\n"
        "async def main():\n"
        "    async with remit.connect('local:') as session:\n"
        "        await session.run(['true'])\n"
        "anyio.run(main)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
