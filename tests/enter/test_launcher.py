"""`remit` inside: the jobs of the session, as whoever stands there starts and sees them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import anyio
import pytest

import remit
from agent.harness import job, processes_of, wait_until_gone
from enter.entered import Entered, control_dir, inside
from enter.screen import Screen
from enter.versions import every_python
from testbed import needs, run


@pytest.fixture(autouse=True)
def entered(enter: Callable[..., Entered]) -> Entered:
    """A session whose terminal shows nothing; its jobs do not need one."""
    return enter("sleep", "1000")


def started(*words: str, **options: object) -> str:
    done = inside("start", *words, **options)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.rstrip("\n")


def listed() -> list[dict[str, object]]:
    answer: list[dict[str, object]] = json.loads(inside("jobs", "--json").stdout)
    return answer


class TestStart:
    def test_job_stands_where_and_with_what_it_was_started(self, tmp_path: Path) -> None:
        env = {**os.environ, "COLOUR": "blue"}
        job_id = started(
            "--", "sh", "-c", "pwd; echo $COLOUR; readlink /proc/self/fd/0", cwd=tmp_path, env=env
        )
        assert inside("receive", job_id).stdout == f"{tmp_path}\nblue\n/dev/null\n"

    def test_it_is_kept_and_ends_with_the_session(self) -> None:
        started("--name", "one", "--", "true")
        (info,) = listed()
        assert (info["name"], info["placement"], info["lifetime"]) == ("one", "keep", "session")
        assert info["location"] == "localhost"

    def test_a_line_is_for_the_shell(self) -> None:
        job_id = started("--shell", "echo a; exit 3")
        assert inside("wait", job_id).stdout == f"{job_id}  Failed  exit status 3\n"

    @every_python
    def test_words_stay_words(self) -> None:
        job_id = started("--", "printf", "%s|", "a b", "", "$HOME", "--", "\xe9\n")
        assert inside("receive", job_id).stdout == "a b||$HOME|--|\xe9\n|"

    def test_time_limit(self) -> None:
        job_id = started("--timeout", "0.1", "--", "sleep", "1000")
        assert inside("wait", job_id).stdout.startswith(f"{job_id}  Failed  timeout")

    def test_missing_program_is_told(self) -> None:
        job_id = started_or_told("no-such-program")
        assert "no such program: no-such-program" in inside("wait", job_id).stdout

    @every_python
    @pytest.mark.parametrize(
        "words", [["start"], ["start", "--shell", "a", "b"], ["jobs", "x"], [], ["nonsense"]]
    )
    def test_wrong_words_are_wrong_usage(self, words: list[str]) -> None:
        done = inside(*words)
        assert (done.returncode, done.stdout) == (2, "")
        assert "usage: remit" in done.stderr


def started_or_told(program: str) -> str:
    """The id of a job that may be known to have failed by the time it is answered."""
    return inside("start", "--", program).stdout.strip()


class TestJobs:
    @every_python
    def test_table(self) -> None:
        job_id = started("--name", "log", "--", "echo", "it's")
        inside("wait", "log")
        assert inside("jobs").stdout == (
            "ID             NAME  STATE      HASMOREDATA  LOCATION   COMMAND\n"
            f"{job_id}  log   Completed  True         localhost  echo 'it'\"'\"'s'\n"
        )
        inside("receive", "log")
        assert f"{job_id}  log   Completed  False        localhost" in inside("jobs").stdout

    @every_python
    def test_json_has_the_fields_of_job_info(self) -> None:
        job_id = started("--", "sh", "-c", "exit 3")
        inside("wait", job_id)
        (info,) = listed()
        assert list(info) == [
            *("id", "name", "state", "location", "command", "placement", "lifetime"),
            *("has_more_data", "created", "started", "finished", "outcome", "group", "problem"),
        ]
        assert (info["id"], info["state"]) == (job_id, "FAILED")
        assert info["command"] == ["sh", "-c", "exit 3"]
        assert info["outcome"]["exit_status"] == 3  # type: ignore[index]
        age = time.time() - datetime.fromisoformat(str(info["created"])).timestamp()
        assert 0 <= age < 60

    def test_a_terminal_gets_nothing_but_text(self) -> None:
        started("--", "echo", "\x1b]0;title\x07")
        with Screen([control_dir() / "remit", "jobs"], size=(24, 400)) as screen:
            assert screen.wait_exit() == 0
        assert r"echo '\x1b]0;title\x07'" in screen.text

    def test_lines_fit_the_terminal(self) -> None:
        started("--", "echo", "x" * 500)
        with Screen([control_dir() / "remit", "jobs"], size=(24, 60)) as screen:
            screen.wait_exit()
        assert max(map(len, screen.text.splitlines())) == 60

    def test_shows_what_the_account_keeps_there_beside(self, entered: Entered) -> None:
        args = job("true", spool=True, name="outside")
        entered.wire.accepted(entered.wire.request("start", **args))
        assert [info["name"] for info in listed()] == ["outside"]


def twice(number: int) -> int:
    print("printed")
    return 2 * number


class TestReceive:
    def test_uses_up_what_it_printed_unless_told_to_keep_it(self) -> None:
        started("--name", "two", "--", "sh", "-c", "echo out; echo err >&2")
        inside("wait", "two")
        for words in (["--keep"], []):
            done = inside("receive", "two", *words)
            assert (done.returncode, done.stdout, done.stderr) == (0, "out\n", "err\n")
        assert inside("receive", "two").stdout == ""
        assert inside("receive", "two", "--from-start").stdout == "out\n"

    def test_one_stream(self) -> None:
        started("--name", "two", "--", "sh", "-c", "echo out; echo err >&2")
        inside("wait", "two")
        done = inside("receive", "two", "--stream", "stderr")
        assert (done.stdout, done.stderr) == ("", "err\n")

    def test_of_a_function_what_it_printed(self, state_dir: Path) -> None:
        async def keep() -> str:
            async with remit.connect(f"local:?state={state_dir}") as session:
                job = await session.start(twice, 21, placement="keep")
                await job.wait()
                return job.id

        job_id = anyio.run(keep)
        (info,) = listed()
        assert (info["command"], info["has_more_data"]) == ("twice()", True)
        assert inside("jobs").stdout.endswith("  localhost  twice()\n")
        done = inside("receive", job_id)
        assert (done.returncode, done.stdout) == (0, "printed\n")
        assert done.stderr.startswith(f"remit: {job_id} is a function: what it returned ")
        assert done.stderr.count("\n") == 1
        again = inside("receive", job_id, "--from-start", "--stream", "stdout")
        assert (again.stdout, again.stderr) == ("printed\n", "")

    @every_python
    def test_follows_to_the_end_or_takes_what_there_is(self, tmp_path: Path) -> None:
        go = tmp_path / "go"
        line = f"echo first; while [ ! -e {go} ]; do sleep .02; done; echo last"
        started("--name", "slow", "--shell", line)
        run.wait_until(
            lambda: inside("receive", "slow", "--keep", "--no-wait").stdout == "first\n", "output"
        )
        with subprocess.Popen(
            [control_dir() / "remit", "receive", "slow"], stdout=subprocess.PIPE
        ) as following:
            assert following.stdout is not None
            assert following.stdout.readline() == b"first\n"
            go.touch()
            assert following.stdout.read() == b"last\n"
        assert following.returncode == 0

    def test_a_million_bytes_come_whole(self) -> None:
        job_id = started("--", "sh", "-c", "seq 200000")
        assert inside("receive", job_id).stdout == "".join(f"{n}\n" for n in range(1, 200001))

    def test_a_terminal_is_shown_escapes(self) -> None:
        job_id = started("--", "printf", r"a\033[31mb\302\2331m\303\251\n")
        with Screen([control_dir() / "remit", "receive", job_id]) as screen:
            assert screen.wait_exit() == 0
        assert screen.text == "a\\x1b[31mb\\x9b1mé\n"

    def test_a_reader_that_goes_away_is_no_error_of_ours(self) -> None:
        job_id = started("--", "seq", "1000000")
        line = f"'{control_dir()}/remit' receive {job_id} | head -1"
        done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=30)
        assert (done.stdout, done.stderr) == ("1\n", "")


class TestWait:
    def test_tells_whether_all_are_completed(self) -> None:
        good, bad = started("--", "true"), started("--", "false")
        assert inside("wait", good).returncode == 0
        done = inside("wait", good, bad)
        assert done.returncode == 1
        assert set(done.stdout.splitlines()) == {
            f"{good}  Completed",
            f"{bad}  Failed  exit status 1",
        }

    def test_any(self) -> None:
        slow, quick = started("--", "sleep", "1000"), started("--", "true")
        assert inside("wait", "--any", slow, quick).stdout == f"{quick}  Completed\n"

    @every_python
    def test_time_limit(self) -> None:
        slow = started("--", "sleep", "1000")
        done = inside("wait", slow, "--timeout", "0.1")
        assert (done.returncode, done.stdout) == (1, f"{slow}  Running\n")
        assert done.stderr == "remit: 0.1 s are over, 1 not finished\n"


class TestOthers:
    @every_python
    def test_stop_ends_all_of_it(self) -> None:
        job_id = started("--", "sh", "-c", "setsid sleep 1000 & sleep 1000")
        run.wait_until(lambda: len(processes_of(job_id)) >= 3, "the job's processes")
        assert inside("stop", job_id).returncode == 0
        assert processes_of(job_id) == []
        assert listed()[0]["state"] == "STOPPED"

    def test_rm_refuses_what_runs_unless_forced(self) -> None:
        job_id = started("--", "sleep", "1000")
        refused = inside("rm", job_id)
        assert refused.returncode == 1
        assert "RUNNING" in refused.stderr
        assert inside("rm", "--force", job_id).returncode == 0
        assert listed() == []

    @every_python
    def test_save_writes_to_a_file_there(self, tmp_path: Path) -> None:
        started("--name", "log", "--", "echo", "saved")
        inside("wait", "log")
        done = inside("save", "log", "out.txt", cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out.txt\n")
        assert (tmp_path / "out.txt").read_text() == "saved\n"

    def test_a_job_is_named_by_id_name_or_beginning(self) -> None:
        job_id = started("--name", "log", "--", "true")
        for word in (job_id, "log", job_id[:5]):
            assert inside("wait", word).returncode == 0
        unknown = inside("wait", "nobody")
        assert unknown.returncode == 1
        assert "no job 'nobody' here" in unknown.stderr

    def test_a_name_of_several_is_answered_with_their_ids(self) -> None:
        ids = [started("--name", "twin", "--", "true") for _ in range(2)]
        done = inside("wait", "twin")
        assert done.returncode == 1
        assert all(job_id in done.stderr for job_id in ids)


class TestSession:
    @every_python
    def test_its_jobs_go_with_it(self, entered: Entered, state_dir: Path) -> None:
        job_id = started("--", "sh", "-c", "echo output; sleep 1000")
        assert processes_of(job_id)
        entered.wire.goodbye()
        wait_until_gone(job_id)
        assert list((state_dir / "jobs").iterdir()) == []

    def test_what_they_wrote_stays_after_a_broken_one(
        self, entered: Entered, state_dir: Path
    ) -> None:
        job_id = started("--", "sh", "-c", "echo output; sleep 1000")
        entered.wire.kill()
        wait_until_gone(job_id)
        assert (state_dir / "jobs" / job_id / "stdout").read_text() == "output\n"

    def test_a_job_that_was_there_before_is_not_touched(
        self, entered: Entered, state_dir: Path
    ) -> None:
        args = job("sleep", "1000", spool=True)
        entered.wire.accepted(entered.wire.request("start", **args))
        started("--", "true")
        entered.wire.goodbye()
        entered.wire.wait_ended()
        assert processes_of(args["id"])
        for pid in processes_of(args["id"]):
            os.kill(pid, 15)
        wait_until_gone(args["id"])

    def test_its_end_is_told_to_who_still_asks(self, entered: Entered) -> None:
        job_id = started("--", "sh", "-c", "echo on; exec sleep 1000")
        with subprocess.Popen(
            [control_dir() / "remit", "receive", job_id],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as following:
            assert following.stdout is not None
            assert following.stderr is not None
            assert following.stdout.readline() == "on\n"  # it is there, and follows
            entered.wire.kill()
            assert "this session is over" in following.stderr.read()
        assert following.returncode == 255


class TestSocket:
    def test_another_account_is_turned_away(self) -> None:
        needs.root("to be another account")
        directory = control_dir()
        # As if the modes were wrong: what stands behind them has to hold by itself.
        for path in (directory, *directory.parents[:-1]):
            path.chmod(path.stat().st_mode | 0o011)
        (directory / "socket").chmod(0o666)
        code = (
            "import os, socket, sys\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "os.chdir(sys.argv[1])\n"
            "s = socket.socket(socket.AF_UNIX); s.connect('socket')\n"
            "print(len(s.recv(8)))\n"
        )
        done = subprocess.run(
            ["/usr/bin/python3", "-c", code, directory], capture_output=True, text=True, timeout=30
        )
        assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
        assert inside("jobs").returncode == 0

    def test_nonsense_harms_nobody(self) -> None:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(f"{control_dir()}/socket")
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n" * 100)
            while connection.recv(1 << 16):
                pass
        assert inside("jobs").returncode == 0
