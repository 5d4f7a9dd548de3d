"""Jobs that go on without us: started, listed, found, received, waited for, stopped, removed."""

from __future__ import annotations

import json
import os
import pty
import shlex
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import attrs
import pytest

from cli.program import LIMIT, REMIT, Cli
from remit import JobInfo
from testbed import processes, run
from testbed.containers import Engine

THREE = "echo one; echo two >&2; echo three"


@pytest.fixture(params=["--return", "--keep"])
def placement(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _alive(state: Path) -> list[int]:
    mark = f"REMIT_STATE_DIR={state}".encode()
    alive = []
    for process in processes.everyone():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        except OSError:
            continue
        if mark in environment.split(b"\0"):
            alive.append(process.pid)
    return alive


def test_a_job_is_started_waited_for_and_received(cli: Cli, placement: str) -> None:
    job = cli.answer("start", placement, "--name", "three", "--shell", "local:", "--", THREE)
    how = {"--return": ("return", "session"), "--keep": ("keep", "detached")}[placement]
    listed = cli.listed()["three"]
    assert (listed["placement"], listed["lifetime"]) == how
    assert cli.answer("wait", "three") == f"{job}  three  Completed"
    table = cli.answer("jobs").splitlines()
    assert table == [
        "ID             NAME   STATE      HASMOREDATA  LOCATION   COMMAND",
        f"{job}  three  Completed  True         localhost  {THREE}",
    ]
    kept = cli("receive", "--keep", job)
    assert (kept.stdout, kept.stderr) == (b"one\nthree\n", b"two\n")
    used = cli("receive", job[:5])
    assert (used.stdout, used.stderr) == (b"one\nthree\n", b"two\n")
    again = cli("receive", job)
    assert (again.stdout, again.stderr) == (b"", b"")
    assert cli("receive", "--from-start", "--stream", "stderr", job).stdout == b""
    assert cli("receive", "--from-start", "--stream", "stderr", job).stderr == b"two\n"
    assert cli.listed()["three"]["has_more_data"] is False
    cli("rm", "three")
    assert cli.listed() == {}


def test_the_id_comes_before_the_job_has_ended(cli: Cli, placement: str) -> None:
    job = cli.answer("start", placement, "local:", "--", "sleep", "1000")
    assert cli.listed()[job]["state"] == "RUNNING"
    cli("rm", job, status=1)
    assert cli.listed()[job]["state"] == "RUNNING"
    cli("rm", "--force", job)
    assert cli.listed() == {}
    run.wait_until(lambda: not _alive(cli.state), "all processes to be gone")


def test_a_job_is_followed_by_one_process_while_another_feeds_it(cli: Cli, placement: str) -> None:
    fifo = cli.directory / "fifo"
    os.mkfifo(fifo)
    line = "echo first; read x < fifo; echo $x"
    job = cli.answer("start", placement, "--shell", "local:", "--", line)
    with cli.running("receive", job) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"first\n"
        assert cli("receive", "--keep", "--no-wait", "--from-start", job).stdout == b"first\n"
        fifo.write_bytes(b"second\n")
        assert reader.stdout.read() == b"second\n"
        assert reader.wait(LIMIT) == 0


@pytest.mark.parametrize(
    ("line", "state", "words"),
    [
        ("exit 3", "FAILED", "Failed  exit status 3"),
        ("kill -9 $$", "FAILED", "Failed  SIGKILL"),
        ("exec no-such-program", "FAILED", "Failed  exit status 127"),
    ],
)
def test_wait_tells_a_job_that_failed(
    cli: Cli, placement: str, line: str, state: str, words: str
) -> None:
    job = cli.answer("start", placement, "--shell", "local:", "--", line)
    assert cli("wait", job, status=1).stdout.decode().strip() == f"{job}  {words}"
    assert cli.listed()[job]["state"] == state


def test_wait_for_the_first_of_several_and_no_longer_than_told(cli: Cli) -> None:
    long, short = (
        cli.answer("start", "--keep", "local:", "--", *words)
        for words in (["sleep", "1000"], ["true"])
    )
    assert cli.answer("wait", "--any", long, short) == f"{short}  Completed"
    done = cli("wait", "--timeout", "0.2", long, short, status=124)
    assert done.stdout.decode().splitlines() == [f"{short}  Completed", f"{long}  Running"]
    assert b"0.2 s are over, 1 not finished" in done.stderr


def test_stop_suspend_and_resume(cli: Cli, placement: str) -> None:
    job = cli.answer("start", placement, "local:", "--", "sh", "-c", "echo up; sleep 1000")
    cli("suspend", job)
    assert cli.listed()[job]["state"] == "SUSPENDED"
    cli("resume", job)
    assert cli.listed()[job]["state"] == "RUNNING"
    cli("stop", job)
    stopped = cli.listed()[job]
    assert (stopped["state"], stopped["outcome"]["reason"]) == ("STOPPED", "stopped")
    assert cli("receive", job).stdout == b"up\n"
    cli("stop", job)  # what is over stays as it is
    cli("suspend", job, status=1)
    run.wait_until(lambda: not _alive(cli.state), "all processes to be gone")


def test_save_writes_a_file_whole(cli: Cli, placement: str) -> None:
    job = cli.answer("start", placement, "--shell", "local:", "--", THREE)
    cli("wait", job)
    assert cli.answer("save", job, "out") == str(cli.directory / "out")
    assert (cli.directory / "out").read_bytes() == b"one\nthree\n"
    cli("save", "--stream", "stderr", job, str(cli.directory / "err"))
    assert (cli.directory / "err").read_bytes() == b"two\n"
    assert cli("save", job, "no/such/directory", status=1).stderr.startswith(b"remit: ")
    assert cli("save", "--stream", "value", job, "x", status=2).stderr.startswith(b"remit: ")


def test_json_has_all_fields_and_times_that_can_be_read(cli: Cli, placement: str) -> None:
    cli("start", placement, "--name", "n", "local:", "--", "sh", "-c", "exit 4")
    cli("wait", "n", status=1)
    job = cli.listed()["n"]
    assert set(job) == {field.name for field in attrs.fields(JobInfo)}
    assert job["command"] == ["sh", "-c", "exit 4"]
    assert job["outcome"]["exit_status"] == 4
    times = [datetime.fromisoformat(job[key]) for key in ("created", "started", "finished")]
    assert times == sorted(times)
    assert all(time.utcoffset() is not None for time in times)


def test_two_jobs_of_one_name_are_told_apart_by_id(cli: Cli) -> None:
    ids = []
    for kind in ("--keep", "--return"):
        ids.append(cli.answer("start", kind, "--name", "twin", "local:", "--", "true"))
        cli("wait", ids[-1])
    told = cli("rm", "twin", status=1).stderr.decode()
    assert "'twin' matches 2 jobs" in told
    assert all(job in told for job in ids)
    assert cli.answer("wait", "twin").startswith(ids[-1])


@pytest.mark.parametrize("verb", ["receive", "wait", "stop", "rm", "suspend", "resume"])
def test_an_unknown_job(cli: Cli, verb: str) -> None:
    done = cli(verb, "nobody", status=1)
    assert "no job 'nobody' is known here" in done.stderr.decode()
    assert not done.stdout


def test_an_unknown_job_on_a_target(cli: Cli) -> None:
    done = cli("wait", "--on", "local:", "nobody", status=1)
    assert "no job 'nobody' on local:" in done.stderr.decode()


def test_several_targets_give_an_id_each_and_one_failure_does_not_keep_the_others(
    cli: Cli, placement: str
) -> None:
    done = cli("start", placement, "local:", "command:false", "--", "true", status=255)
    job, target = done.stdout.decode().split()
    assert target == "local:"
    assert b"command:false" in done.stderr
    cli("wait", job)


def test_bad_words_start_nothing(cli: Cli, placement: str) -> None:
    assert b"no command" in cli("start", placement, "local:", status=2).stderr
    assert b"no transport" in cli("start", placement, "bogus:", "--", "true", status=2).stderr
    assert cli.listed() == {}


def test_a_job_started_in_a_terminal_survives_its_end(cli: Cli, placement: str) -> None:
    fifo = cli.directory / "fifo"
    os.mkfifo(fifo)
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(cli.directory)
        words = ["start", placement, "--name", "n", "--shell", "local:", "--"]
        command = shlex.join([str(REMIT), *words, "read x < fifo; echo $x"])
        os.execve("/bin/sh", ["sh", "-c", command + "; cat"], cli.env)
    told = b""
    while b"\n" not in told:
        told += os.read(terminal, 1000)
    os.close(terminal)  # hangs up
    os.waitpid(pid, 0)
    assert cli.listed()["n"]["state"] == "RUNNING"
    fifo.write_bytes(b"alive\n")
    assert cli("receive", "n").stdout == b"alive\n"


def test_a_reader_that_leaves_takes_nothing_with_it(cli: Cli, placement: str) -> None:
    line = "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"
    job = cli.answer("start", placement, "--shell", "local:", "--", line)
    cli("wait", job)
    with cli.running("receive", job) as reader:
        assert reader.stdout is not None
        first = reader.stdout.readline()
        reader.stdout.close()
        assert reader.wait(LIMIT) in (0, 141)
    rest = cli("receive", "--from-start", job).stdout.splitlines()
    assert first == b"line 0\n"
    assert rest == [b"line %d" % i for i in range(20000)]


def test_env_values_are_in_no_file_and_in_no_list_of_processes(cli: Cli, placement: str) -> None:
    secret = "s3cr3t-" + os.urandom(8).hex()
    job = cli.answer(
        "start", placement, "--env", f"A={secret}", "--shell", "local:", "--", "sleep 1000"
    )
    found = [
        path
        for path in cli.state.rglob("*")
        if path.is_file() and secret.encode() in path.read_bytes()
    ]
    shown = [
        process.pid
        for process in processes.everyone()
        if secret.encode() in _command_line(process.pid)
    ]
    assert (found, shown) == ([], [])
    cli("rm", "--force", job)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


# -- kept elsewhere


def test_a_kept_job_is_found_from_here_by_a_note(cli: Cli, alice: str) -> None:
    job = cli.answer("start", "--keep", "--name", "far", "--shell", alice, "--", THREE)
    assert cli.answer("wait", "far") == f"{job}  far  Completed"
    assert cli.listed()["far"]["location"] == "alice"
    assert cli("receive", "far").stdout == b"one\nthree\n"
    assert cli.listed(alice)["far"]["id"] == job
    # Another process with nothing but the target's name.
    (cli.state / "known" / f"{job}.json").unlink()
    assert cli.listed() == {}
    assert cli("receive", "--from-start", "--on", alice, "far").stdout == b"one\nthree\n"
    cli("rm", "--on", alice, "far")
    assert cli.listed(alice) == {}


def test_a_note_of_a_job_that_is_gone_is_dropped(cli: Cli, tmp_path: Path) -> None:
    target = f"local:?state={tmp_path / 'elsewhere'}"
    somebody = Cli(tmp_path / "somebody", tmp_path)
    job = cli.answer("start", "--keep", target, "--", "true")
    note = cli.state / "known" / f"{job}.json"
    assert cli.listed()[job]["id"] == job
    somebody("rm", "--on", target, job)
    # One that is new may belong to a job whose start is on its way.
    assert cli.listed() == {}
    assert note.exists()
    told = json.loads(note.read_bytes())
    note.write_text(json.dumps({**told, "created": "2026-01-01T00:00:00Z"}))
    assert cli.listed() == {}
    assert not note.exists()


@pytest.mark.parametrize("new", [True, False], ids=["new", "old"])
def test_a_job_whose_state_directory_is_away_is_disconnected_and_comes_back(
    cli: Cli, tmp_path: Path, new: bool
) -> None:
    target = f"local:?state={tmp_path / 'mounted' / 'state'}"
    job = cli.answer("start", "--keep", "--name", "far", target, "--", "true")
    cli("wait", "far")
    note = cli.state / "known" / f"{job}.json"
    if not new:
        told = json.loads(note.read_bytes())
        note.write_text(json.dumps({**told, "created": "2026-01-01T00:00:00Z"}))
    for away in (tmp_path / "mounted", tmp_path / "mounted" / "state" / "jobs"):
        away.rename(tmp_path / "away")
        listed = cli.listed()["far"]
        assert (listed["state"], listed["location"]) == ("DISCONNECTED", "localhost")
        assert "may be away" in listed["problem"]
        for verb in ("wait", "receive", "rm"):
            assert b"no job" in cli(verb, "far", status=1).stderr
        assert note.exists()
        (tmp_path / "away").rename(away)
        assert cli.listed()["far"]["state"] == "COMPLETED"
    (tmp_path / "mounted" / "state" / "jobs").rename(tmp_path / "away")
    assert b"forgotten here" in cli("rm", "--force", "far", status=1).stderr
    assert cli.listed() == {}


@pytest.mark.parametrize("content", [b"", b'{"id": "j', b"[]", b"\xff"])
def test_a_note_that_cannot_be_read_is_told_of_and_kept(cli: Cli, content: bytes) -> None:
    (cli.state / "known").mkdir(mode=0o700, parents=True, exist_ok=True)
    note = cli.state / "known" / "jk3q7m2xv4pab.json"
    note.write_bytes(content)
    done = cli("jobs")
    assert str(note) in done.stderr.decode()
    assert "jk3q7m2xv4pab" in done.stderr.decode()
    assert note.exists()


def test_a_target_that_cannot_be_asked_is_disconnected_not_finished(
    cli: Cli, tmp_path: Path
) -> None:
    door = tmp_path / "door"
    door.symlink_to("/usr/bin/env")
    target = f"command:{door}"
    job = cli.answer("start", "--keep", "--name", "far", target, "--", "true")
    # Not our own state directory, as far as our own files tell.
    (cli.state / "jobs").rename(tmp_path / "away")
    (cli.state / "known").mkdir(mode=0o700, exist_ok=True)
    note = {"id": job, "target": target, "name": "far", "created": "2026-01-01T00:00:00Z"}
    (cli.state / "known" / f"{job}.json").write_text(json.dumps(note))
    door.unlink()
    done = cli("jobs")
    assert "Disconnected" in done.stdout.decode().splitlines()[1]
    assert str(door) in done.stderr.decode()
    assert cli("wait", "far", status=255).stdout == b""
    (tmp_path / "away").rename(cli.state / "jobs")


def test_in_a_container(cli: Cli, docker: Engine) -> None:
    cli.env.update(docker.env)
    target = f"docker:{docker.python}"
    for placement in ("--return", "--keep"):
        job = cli.answer("start", placement, "--shell", target, "--", THREE)
        cli("wait", job)
        assert cli.listed()[job]["location"] == docker.python
        assert cli("receive", job).stdout == b"one\nthree\n"
        cli("rm", job)
    assert cli("run", f"docker:{docker.absent}", "--", "true", status=255).stderr


def test_a_table_fits_the_terminal(cli: Cli) -> None:
    cli("start", "--keep", "local:", "--", "true", "x" * 300)
    ours, its = pty.openpty()
    script = "import os,sys,termios,fcntl,struct;fcntl.ioctl(1,termios.TIOCSWINSZ,"
    script += "struct.pack('4H',24,70,0,0));os.execv(sys.argv[1],sys.argv[1:])"
    try:
        subprocess.run(
            [sys.executable, "-c", script, REMIT, "jobs"], stdout=its, env=cli.env, check=True
        )
        lines = os.read(ours, 65536).decode().splitlines()
    finally:
        os.close(its)
        os.close(ours)
    assert len(lines) == 2
    assert len(lines[1]) == 70
    assert lines[1].endswith("…")
    assert "x" * 300 in cli("jobs").stdout.decode()
