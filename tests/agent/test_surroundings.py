"""What a job is given, whatever our interpreter did to its own: the account's environment, limits
and signals; names and environments of any size."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import remit
from agent.harness import Wire, job
from remit._agent.kept import lookup
from testbed import needs, pythons, run, through
from testbed.shim import Shim

LONG = b"x" * 70_000
PATH = os.environ["PATH"]


def environment_of(wire: Wire, *, spool: bool, state_dir: Path) -> dict[str, str]:
    asked = job("env", "-0", spool=spool)
    channel = wire.request("start", **asked)
    wire.accepted(channel)
    collected = wire.collect(channel)
    printed = collected.stdout
    if spool:
        printed = (state_dir / "jobs" / asked["id"] / "stdout").read_bytes()
    env = dict(entry.decode().split("=", 1) for entry in printed.split(b"\0") if entry)
    assert env.pop("REMIT_JOB") == asked["id"]
    return env


@pytest.mark.parametrize("spool", [False, True], ids=["return", "keep"])
@pytest.mark.parametrize(
    ("given", "differs"),
    [
        ({}, {}),  # no locale: Python sets LC_CTYPE for itself
        ({"LC_ALL": "C", "_": "/usr/bin/python3", "ODD": "a=b\n"}, {"_": None}),
        ({"SHLVL": "0"}, {}),
        ({"SHLVL": "0", "SSH_CLIENT": "::1 1 2"}, {"SHLVL": "1"}),
        ({"SSH_CLIENT": "::1 1 2"}, {"SHLVL": "1"}),
        ({"SHLVL": "3", "SSH_CLIENT": "::1 1 2"}, {}),
    ],
    ids=str,
)
def test_the_environment_is_the_accounts(
    bring_up: Callable[..., Wire],
    state_dir: Path,
    spool: bool,
    given: dict[str, str],
    differs: dict[str, str | None],
) -> None:
    given = given | {"PATH": PATH}
    wire = bring_up(env=given, state=state_dir)
    wanted: dict[str, Any] = given | differs
    found = environment_of(wire, spool=spool, state_dir=state_dir)
    assert found == {name: value for name, value in wanted.items() if value is not None}


@pytest.mark.parametrize("spool", [False, True], ids=["return", "keep"])
@pytest.mark.parametrize("where", ["argv[0]", "cwd"])
def test_a_very_long_name_that_cannot_be_run(
    bring_up: Callable[..., Wire], state_dir: Path, spool: bool, where: str
) -> None:
    wire = bring_up(state=state_dir)
    args = {"command": {"argv": [LONG]}} if where == "argv[0]" else {"cwd": b"/" + LONG}
    channel = wire.request("start", **job("true", spool=spool, **args))
    error = wire.accepted(channel)["outcome"]["error"]
    assert "xxxxxx… (7000" in error
    assert len(error) < 400
    assert wire.collect(channel).job["state"] == "FAILED"
    assert wire.run("echo", "on").stdout == b"on\n"


def test_environments_of_jobs_that_are_over_are_forgotten(wire: Wire) -> None:
    wire.run("true")
    before = resident(wire.agent_pid)
    for _ in range(150):
        env = {b"V%d" % number: os.urandom(50_000).hex().encode() for number in range(4)}
        assert wire.run("true", "x" * 100_000, env=env).job["state"] == "COMPLETED"
    assert resident(wire.agent_pid) - before < 16 << 20


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


class TestDescriptors:
    """The agent has as many as it may; a job has what it would have without it."""

    def test_the_limit(self, python: pythons.Interpreter, state_dir: Path, tmp_path: Path) -> None:
        limited = tmp_path / "python3"
        prlimit = needs.tool("prlimit")
        limited.write_text(f'#!/bin/sh\nexec {prlimit} --nofile=64:512 {python.path} "$@"\n')
        limited.chmod(0o755)
        with Wire(limited, state=state_dir) as wire:
            limits = Path(f"/proc/{wire.agent_pid}/limits").read_text().splitlines()
            (line,) = [line for line in limits if line.startswith("Max open files")]
            assert line.split()[3:5] == ["512", "512"]
            line = "ulimit -S -n; ulimit -H -n"
            assert wire.run(line=line).stdout == b"64\n512\n"
            asked = job(line=line, spool=True)
            channel = wire.request("start", **asked)
            wire.accepted(channel)
            wire.collect(channel)
            kept = state_dir / "jobs" / asked["id"] / "stdout"
            assert kept.read_bytes() == b"64\n512\n"
            # More at once than the lower limit has room for.
            channels = [wire.start("sleep", "1000") for _ in range(40)]
            for channel in channels:
                assert wire.accepted(channel)["state"] == "RUNNING"


@pytest.mark.parametrize("spool", [False, True], ids=["return", "keep"])
def test_where_the_c_library_keeps_more_signals_to_itself(
    python: pythons.Interpreter, shims: Callable[..., Shim], state_dir: Path, spool: bool
) -> None:
    shim = shims(python.path)
    shim.imitate_musl()
    with Wire(shim.python, state=state_dir) as wire:
        channel = wire.request("start", **job(line="exit 3", spool=spool))
        wire.accepted(channel)
        assert wire.collect(channel).outcome["exit_status"] == 3


@pytest.mark.anyio
async def test_without_proc_there_is_no_session() -> None:
    needs.root("a mount namespace")
    hidden = ["sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    target = through.target([needs.tool("unshare"), "--mount", *hidden])
    with pytest.raises(remit.BootstrapError, match="there is no /proc"):
        async with remit.connect(target):
            pass


def test_a_session_whose_agent_is_a_zombie_is_over() -> None:
    child = subprocess.Popen([shutil.which("sleep") or "sleep", "0"])
    session = lookup.agent_identity(child.pid)
    run.wait_until(lambda: f"{child.pid} (sleep) Z" in _stat(child.pid), "it to end")
    assert not lookup.session_lives({"session": session})
    assert lookup.session_lives({"session": lookup.agent_identity(os.getpid())})
    child.wait()


def _stat(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text()
