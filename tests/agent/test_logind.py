"""logind: what its files say, and how supervisors leave a session that would take them along.

There is no systemd here: the files are made up, and a stub stands for ``systemd-run``.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import remit
from agent.harness import Wire, job, processes_of
from remit._agent.base import logind
from remit._link import agent_payload
from testbed import pythons
from testbed.processes import Process, find

SESSION = "0::/user.slice/user-1000.slice/session-3.scope\n"
MANAGED = "0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-r1.scope\n"
LEGACY = f"12:pids:/x\n1:name=systemd:{SESSION[3:]}0::/\n"
KILLS = "[Login]\nKillUserProcesses=yes\nKillExcludeUsers=nobody\n"
ME = pwd.getpwuid(os.geteuid()).pw_name


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A computer on which this process is in a login session."""
    root = tmp_path / "root"
    write(root / "proc" / "self" / "cgroup", SESSION)
    write(root / "proc" / "1" / "cgroup", SESSION)
    write(root / "proc" / "2" / "cgroup", MANAGED)
    monkeypatch.setattr(logind, "ROOT", str(root))
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("cgroup", [SESSION, LEGACY])
@pytest.mark.parametrize(
    ("files", "kills"),
    [
        ({}, False),
        ({"etc/systemd/logind.conf": KILLS}, True),
        ({"etc/systemd/logind.conf": KILLS.replace("yes", "no")}, False),
        ({"etc/systemd/logind.conf": KILLS.replace("Kill", ";Kill")}, False),
        # What was compiled in, as the shipped file tells it in a comment.
        ({"usr/lib/systemd/logind.conf": KILLS.replace("KillU", "#KillU")}, True),
        ({"usr/lib/systemd/logind.conf": KILLS, "etc/systemd/logind.conf": "[Login]\n"}, False),
        (
            {
                "etc/systemd/logind.conf": KILLS,
                "usr/lib/systemd/logind.conf.d/50.conf": "[Login]\nKillUserProcesses = false\n",
            },
            False,
        ),
        (
            {
                "etc/systemd/logind.conf": KILLS.replace("yes", "no"),
                "run/systemd/logind.conf.d/10.conf": "KillUserProcesses=no\n",
                "run/systemd/logind.conf.d/90.conf": "KillUserProcesses=true\n",
            },
            True,
        ),
        (
            {
                "usr/lib/systemd/logind.conf.d/50.conf": KILLS,
                "etc/systemd/logind.conf.d/50.conf": "",  # masks the one of the same name
            },
            False,
        ),
        ({"etc/systemd/logind.conf.d/50.txt": KILLS}, False),
        ({"etc/systemd/logind.conf": KILLS + f"KillExcludeUsers=x {ME}\n"}, False),
        ({"etc/systemd/logind.conf": KILLS + "KillOnlyUsers=someone\n"}, False),
        ({"etc/systemd/logind.conf": KILLS + f"KillOnlyUsers={ME}\n"}, True),
    ],
    ids=range(13),
)
def test_its_files_are_read_as_it_reads_them(
    root: Path, files: dict[str, str], kills: bool, cgroup: str
) -> None:
    write(root / "proc" / "self" / "cgroup", cgroup)
    for name, text in files.items():
        write(root / name, text)
    assert logind.ends_with_session("self") is kills


def test_root_is_excluded_where_nothing_else_is_said(root: Path) -> None:
    write(root / "etc/systemd/logind.conf", "KillUserProcesses=yes\n")
    assert logind.ends_with_session("self") is (ME != "root")


def test_outside_of_a_session_nothing_threatens(root: Path) -> None:
    write(root / "etc/systemd/logind.conf", KILLS)
    write(root / "proc" / "self" / "cgroup", "0::/system.slice/cron.service\n")
    assert logind.warning(1) is None


class TestWarning:
    def test_a_job_in_the_session_goes_with_it(self, root: Path) -> None:
        assert logind.warning(1) is None
        write(root / "etc/systemd/logind.conf", KILLS)
        words = logind.warning(1)
        assert words is not None
        assert "end of the login session" in words
        assert "systemd-run" in words

    def test_one_outside_goes_with_the_last_session_unless_the_account_lingers(
        self, root: Path
    ) -> None:
        write(root / "etc/systemd/logind.conf", KILLS)
        words = logind.warning(2)
        assert words is not None
        assert "last login session" in words
        assert "enable-linger" in words
        write(root / "var/lib/systemd/linger" / ME, "")
        assert logind.warning(2) is None


@pytest.fixture
def agents_there(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Agents that are sent are in such a session, too, and its end would kill their jobs."""
    write(root / "etc/systemd/logind.conf", KILLS)
    modules = agent_payload.modules()
    name = "remit._agent.base.logind"
    modules[name] = modules[name].replace('ROOT = "/"', f"ROOT = {str(root)!r}")
    monkeypatch.setattr(agent_payload, "modules", lambda: modules)
    agent_payload.payload.cache_clear()
    yield
    agent_payload.payload.cache_clear()


@pytest.fixture(params=[pythons.found()[0], pythons.found()[-1]], ids=lambda each: each.version)
def bring_up(
    request: pytest.FixtureRequest, agents_there: None, state_dir: Path, tmp_path: Path
) -> Iterator[Callable[[str], Wire]]:
    """Starts an agent in such a session; its ``systemd-run`` is the given shell script."""
    wires: list[Wire] = []

    def start(script: str) -> Wire:
        stub = tmp_path / "bin" / "systemd-run"
        write(stub, f"#!/bin/sh\n{script}\n")
        stub.chmod(0o755)
        env = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}"}
        wires.append(Wire(request.param.path, state=state_dir, env=env))
        return wires[-1]

    yield start
    for wire in wires:
        wire.close()


def keep(wire: Wire, state_dir: Path) -> tuple[str, Process, str | None]:
    """A running job: its id, its supervisor, and what was said beside its start."""
    accepted = wire.accepted(wire.request("start", **job("sleep", "1000", spool=True)))
    process = json.loads((state_dir / "jobs" / accepted["id"] / "process.json").read_text())
    supervisor = find(process["supervisor"]["pid"])
    assert supervisor is not None
    return accepted["id"], supervisor, accepted["warning"]


MOVES = 'echo "$@" >> {log}; while [ "$1" != -- ]; do shift; done; shift; MOVED=yes exec "$@"'


def test_what_is_started_in_a_scope_has_all_that_it_needs(
    bring_up: Callable[[str], Wire], tmp_path: Path
) -> None:
    # Whatever the agent itself has had no need for by then.
    wire = bring_up(MOVES.format(log=tmp_path / "log"))
    words = job("sh", "-c", "umask", spool=True, manner={"umask": 0o027})
    channel = wire.request("start", **words)
    wire.accepted(channel)
    outcome = wire.collect(channel).end["job"]["outcome"]
    assert outcome["exit_status"] == 0, outcome


def test_supervisors_are_started_in_a_scope_and_outlive_a_killed_agent(
    bring_up: Callable[[str], Wire], state_dir: Path, tmp_path: Path, root: Path
) -> None:
    wire = bring_up(MOVES.format(log=tmp_path / "log"))
    jobs = [keep(wire, state_dir) for _ in range(2)]
    log = (tmp_path / "log").read_text().splitlines()
    assert len(log) == 2  # whether it works, and the forkserver; not one for each job
    assert all(line.startswith("--user --scope --quiet -- /bin/sh -c") for line in log)
    for _, supervisor, warning in jobs:
        environment = Path(f"/proc/{supervisor.pid}/environ").read_bytes().split(b"\0")
        assert b"MOVED=yes" in environment
        assert warning is not None
        assert "last login session" in warning
    os.kill(wire.agent_pid, signal.SIGKILL)
    wire.wait_ended()  # the janitor has cleaned up, and spared them
    for job_id, supervisor, _ in jobs:
        assert find(supervisor.pid) is not None
        assert len(processes_of(job_id)) == 1
    again = bring_up(MOVES.format(log=tmp_path / "log"))
    for job_id, _, _ in jobs:
        assert again.call("stop", job=job_id, grace=5.0)["survivors"] == []


@pytest.mark.parametrize("script", ["exit 1", "exec sleep 1000"])
def test_where_that_does_not_work_the_job_runs_in_the_session(
    bring_up: Callable[[str], Wire], state_dir: Path, script: str
) -> None:
    wire = bring_up(script)
    job_id, _, _ = keep(wire, state_dir)
    assert len(processes_of(job_id)) == 1
    assert wire.call("stop", job=job_id, grace=5.0)["survivors"] == []


@pytest.mark.anyio
async def test_the_caller_is_warned_of_a_detached_job_and_of_no_other(agents_there: None) -> None:
    async with remit.connect("local:") as session:
        with pytest.warns(remit.LogoutWarning, match="enable-linger") as warned:
            job = await session.start(["sleep", "1000"], placement="keep")
        assert job.id in str(warned[0].message)
        await job.remove(force=True)
        # Warnings are errors in these tests.
        job = await session.start(["sleep", "1000"], placement="keep", lifetime="session")
        await job.remove(force=True)
        assert (await session.run(["echo", "x"])).stdout == b"x\n"
