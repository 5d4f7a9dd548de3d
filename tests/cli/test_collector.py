"""What becomes of a return job's collector when something goes wrong."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from cli.program import LIMIT, Cli
from remit._jobdir import files
from remit.cli._gathering import Gathering, StandIn
from remit.cli._work import Work
from testbed import processes, run
from testbed.link import Link


def _supervisor(cli: Cli, job: str) -> int:
    process = json.loads((cli.state / "jobs" / job / "process.json").read_bytes())
    pid = process["supervisor"]["pid"]
    assert isinstance(pid, int)
    return pid


def _state(cli: Cli, job: str) -> str:
    return str(cli.listed()[job]["state"])


def test_a_link_that_breaks_leaves_what_came_and_a_lost_job(cli: Cli, ssh_link: Link) -> None:
    target = f"ssh:quiet?config={ssh_link.config}"
    job = cli.answer("start", "--shell", target, "--", "echo came; sleep 1000")
    assert cli.listed()[job]["location"] == "quiet"
    with cli.running("receive", job) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"came\n"
        ssh_link.reset()
        _, err = reader.communicate(timeout=LIMIT)
    assert reader.returncode == 1
    assert b"link-lost" in err
    lost = cli.listed()[job]
    assert (lost["state"], lost["outcome"]["reason"]) == ("LOST", "link-lost")
    assert cli("receive", "--from-start", job, status=1).stdout == b"came\n"
    assert b"Lost" in cli("wait", job, status=1).stdout


def test_a_collected_job_tells_where_it_ran_to_whoever_lists_it(cli: Cli) -> None:
    job = cli.answer("start", "command:/usr/bin/env", "--", "true")
    cli("wait", job)
    # Read here as it stands, and by an agent that knows nothing of collectors.
    for words in ([], ["local:"]):
        assert cli.listed(*words)[job]["location"] == "/usr/bin/env"
    assert " /usr/bin/env " in cli.answer("jobs", "local:").splitlines()[1]


def test_a_killed_collector_leaves_a_lost_job_and_nothing_running(cli: Cli) -> None:
    job = cli.answer("start", "--shell", "local:", "--", "echo came; sleep 1000")
    cli("receive", "--keep", "--no-wait", job)
    collector = _supervisor(cli, job)
    below = [process.pid for process in processes.descendants([collector])]
    os.kill(collector, signal.SIGKILL)
    run.wait_until(lambda: not any(map(processes.find, below)), "all below it to end", 30.0)
    lost = cli.listed()[job]
    assert (lost["state"], lost["outcome"]["reason"]) == ("LOST", "supervisor-lost")
    cli("rm", job)


def test_a_collector_that_is_asked_to_end_stops_its_job(cli: Cli) -> None:
    job = cli.answer("start", "local:", "--", "sleep", "1000")
    os.kill(_supervisor(cli, job), signal.SIGTERM)
    run.wait_until(lambda: _state(cli, job) == "STOPPED", "the job to be stopped")


def test_a_suspended_jobs_stand_in_ends_with_its_collector(cli: Cli) -> None:
    job = cli.answer("start", "local:", "--", "sleep", "1000")
    cli("suspend", job)
    collector = _supervisor(cli, job)
    below = [process.pid for process in processes.descendants([collector])]
    os.kill(collector, signal.SIGKILL)
    run.wait_until(lambda: not any(map(processes.find, below)), "all below it to end", 30.0)


def test_an_interrupted_start_leaves_nothing(cli: Cli) -> None:
    target = "command:sh -c 'sleep 1000' --"
    with cli.running("start", target, "--", "true") as process:
        run.wait_until(
            lambda: any(p.name == "sleep" for p in processes.descendants([process.pid])),
            "the transport's program",
        )
        below = [p.pid for p in processes.descendants([process.pid])]
        process.send_signal(signal.SIGINT)
        assert process.wait(LIMIT) == 130
    run.wait_until(lambda: not any(map(processes.find, below)), "all to be gone")
    assert cli.listed() == {}


def test_a_module_in_the_current_directory_is_not_taken_for_ours(cli: Cli) -> None:
    for name in ("remit", "json", "anyio", "signal"):
        (cli.directory / f"{name}.py").write_text("raise SystemExit('taken')")
    job = cli.answer("start", "local:", "--", "true")
    cli("wait", job)


def test_a_full_disk_keeps_what_fits_and_the_end(cli: Cli, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir(mode=0o700)
    if os.geteuid() != 0:
        pytest.fail("a file system of its own needs root")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,mode=0700", "tmpfs", str(small)], check=True
    )
    try:
        full = Cli(small / "state", tmp_path)
        job = full.answer("start", "local:", "--", "sh", "-c", "yes | head -c 50000000; sleep 1000")
        full("wait", job, status=1)
        end = full.listed()[job]
        assert (end["state"], end["outcome"]["reason"]) == ("FAILED", "no-space")
        assert end["outcome"]["error"].endswith("No space left on device")
        kept = full("receive", "--keep", job).stdout
        assert len(kept) > 1_000_000
        assert kept == b"y\n" * (len(kept) // 2) + b"y" * (len(kept) % 2)
        full("rm", job)
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)


# What may stand in ask/: names as requests have them, with contents that none has.
ODD_REQUESTS = [
    *(("stop-x", b"[1]"), ("stop-y", b'"stop"'), ("suspend-x", b"{"), ("resume-x", b"\xff\x00")),
    *(("nonsense-x", b"{}"), ("stop-z", b'{"grace": "soon"}'), ("-", b"{}")),
    ("suspend-z", b"9" * 5000),
]


@pytest.mark.parametrize(("name", "content"), ODD_REQUESTS)
def test_a_request_that_is_none_ends_no_job_but_by_a_stop(
    cli: Cli, name: str, content: bytes
) -> None:
    job = cli.answer("start", "--shell", "local:", "--", "echo came; sleep 1000")
    collector = _supervisor(cli, job)
    directory = cli.state / "jobs" / job
    odd = directory / "ask" / name
    odd.write_bytes(content)
    with (directory / "wake").open("wb", buffering=0) as wake:
        wake.write(b"w")
    # What is asked next is heeded: the collector lives, and the job too unless it was stopped.
    done = cli("stop", job)
    assert done.stderr == b""
    run.wait_until(lambda: processes.find(collector) is None, "the collector to end")
    ended = cli.listed()[job]
    assert (ended["state"], ended["outcome"]["reason"]) == ("STOPPED", "stopped")
    assert cli("receive", job).stdout == b"came\n"


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGKILL, -9)]
)
@pytest.mark.parametrize("words", [["--return"], ["--keep"]])
def test_a_start_that_is_ended_while_it_connects_takes_its_job_back(
    cli: Cli, number: signal.Signals, status: int, words: list[str]
) -> None:
    """A closed terminal, `timeout 2 remit start`: no id was told, so nothing may run."""
    door, ran = cli.directory / "door", cli.directory / "ran"
    os.mkfifo(door)
    target = f"command:sh -c 'read x < {door}; exec \"$@\"' --"
    with cli.running("start", *words, target, "--", "touch", str(ran)) as process:
        run.wait_until(
            lambda: any(p.name == "sh" for p in processes.descendants([process.pid])),
            "the transport's program",
        )
        below = [p.pid for p in processes.descendants([process.pid])]
        process.send_signal(number)
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, out, err) == (status, b"", b"")
    with open(os.open(door, os.O_RDWR | os.O_NONBLOCK), "wb", buffering=0) as opened:
        opened.write(b"\n")
        run.wait_until(lambda: not any(map(processes.find, below)), "all to be gone", 30.0)
    assert cli.listed() == {}


def test_a_gathering_that_fails_half_way_leaves_nothing(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIT_STATE_DIR", str(state_dir))
    stand_in = StandIn()
    work = Work(command=("true",))
    steps = ["claim", "write_json", "prepare", "open_output", "unclaim"]
    for step in steps:
        with monkeypatch.context() as patch:

            def full(*_: object, **__: object) -> None:
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(files, step, full)
            with pytest.raises(OSError, match="No space"):
                Gathering("jaaaaaaaaaaaa", work, "here", stand_in)
        assert list((state_dir / "jobs").iterdir()) == []
    Gathering("jaaaaaaaaaaaa", work, "here", stand_in).discard()
