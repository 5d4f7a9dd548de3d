"""Ctrl-C on ``remit run``: the first is the job's, the second stops it, the third leaves."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from cli.program import LIMIT, Cli
from remit.cli._interrupts import LEAVE, STOP, TOLD, Presses
from testbed import processes, run
from testbed.containers import Engine

MINE = ["--keep", "--name", "mine", "local:", "--"]
ON = "while :; do sleep 0.1; done"
# How a job takes INT and TERM: what it says of each, so that the next is sent after it.
DIES = "echo up; exec sleep 1000"
HANDLES = f"trap 'echo int; exit 7' INT; echo up; {ON}"
GOES_ON = f"trap 'echo int' INT; echo up; {ON}"
HEEDS_TERM = f"trap 'echo int' INT; trap 'echo term; exit 3' TERM; echo up; {ON}"
STUBBORN = f"trap 'echo int' INT; trap 'echo term' TERM; echo up; {ON}"

# The job, what it says after each press, the exit status, and whether it is left behind.
ROWS = {
    "dies": (DIES, [""], 130, False),
    "handles": (HANDLES, ["int"], 7, False),
    "goes on, dies of TERM": (GOES_ON, ["int", ""], 143, False),
    "goes on, heeds TERM": (HEEDS_TERM, ["int", "term"], 3, False),
    "stubborn": (STUBBORN, ["int", "term", ""], 130, True),
}


def pressed(
    cli: Cli, words: list[str], line: str, said: list[str]
) -> tuple[subprocess.Popen[bytes], str]:
    """After all presses, and what it says of them on stderr."""
    with cli.running("run", *words, "--", "sh", "-c", line) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"up\n"
        for word in said:
            process.send_signal(signal.SIGINT)
            if word:
                assert process.stdout.readline() == f"{word}\n".encode()
        process.wait(LIMIT)
        # What a shell says of the program that it waited for is none of ours.
        return process, process.stderr.read().decode().replace("Terminated\n", "")


def check(cli: Cli, row: str, *words: str) -> None:
    line, said, status, left = ROWS[row]
    process, told = pressed(cli, list(words), line, said)
    assert process.returncode == status
    keep = "--keep" in words
    if left:
        assert ("is being stopped; `remit rec" if keep else "is stopped there within 30 s") in told
        assert told.count("\n") == 1
    else:
        assert told == ""


@pytest.mark.parametrize("keep", [False, True], ids=["return", "keep"])
@pytest.mark.parametrize("row", ROWS)
def test_each_press_here(cli: Cli, row: str, keep: bool) -> None:
    check(cli, row, *(["--keep"] if keep else []), "local:")


@pytest.mark.parametrize("row", ["dies", "handles", "goes on, heeds TERM"])
def test_each_press_over_ssh(cli: Cli, alice: str, row: str) -> None:
    check(cli, row, alice)
    check(cli, row, "--keep", alice)


@pytest.mark.parametrize("row", ["handles", "goes on, heeds TERM"])
def test_each_press_in_a_container(cli: Cli, docker: Engine, row: str) -> None:
    check(cli, row, f"docker:{docker.new_python()}")


def test_each_of_several_targets_gets_it(cli: Cli) -> None:
    with cli.running("run", "local:", "local:", "--", "sh", "-c", HANDLES) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == [b"localhost: up\n"] * 2
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 7
    assert out == b"localhost: int\n" * 2
    assert err == b"remit: localhost: exit status 7\n" * 2


def test_one_that_is_not_there_yet_is_given_up_with_the_first(cli: Cli) -> None:
    hanging = "command:sh -c 'sleep 1000' --"
    with cli.running("run", "local:", hanging, "--", "sh", "-c", DIES) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"localhost: up\n"
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=LIMIT)
    assert process.returncode == 130


def test_a_terminal_that_goes_away_leaves_a_kept_job_running(cli: Cli, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    line = f"echo up; read x < {gate}; echo $x; exit 4"
    with cli.running(
        "run", "--keep", "--name", "mine", "local:", "--", "sh", "-c", line
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGHUP)
        _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 129
    job = cli.listed()["mine"]
    assert err.decode() == (
        f"remit: {job['id']} on localhost goes on; `remit receive {job['id']}` shows the rest\n"
    )
    assert job["state"] == "RUNNING"
    gate.write_text("on\n")
    assert cli("wait", "--status", "mine", status=4)
    assert cli.answer("receive", "mine").split()[-1] == "on"


def test_a_kept_job_is_followed_to_its_end_and_stays(cli: Cli) -> None:
    done = cli(
        "run", "--keep", "--name", "mine", "local:", "--", "sh", "-c", "echo o; exit 3", status=3
    )
    assert (done.stdout, done.stderr) == (b"o\n", b"")
    assert cli.listed()["mine"]["state"] == "FAILED"
    (cli.directory / "given").write_text("in\n")
    assert cli.answer("run", "--keep", "--stdin", "given", "local:", "--", "cat") == "in"
    for words in (["--name", "n"], ["--stdin", "given"]):
        assert b"--keep" in cli("run", *words, "local:", "--", "true", status=2).stderr


def test_a_reader_that_leaves_leaves_a_kept_job(cli: Cli) -> None:
    line = "yes | head -c 10000000; sleep 1000"
    with cli.running(
        "run", "--keep", "--name", "mine", "local:", "--", "sh", "-c", line
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(LIMIT) == 141
        assert process.stderr is not None
        assert b"`remit receive j" in process.stderr.read()
    assert cli.listed()["mine"]["state"] == "RUNNING"


INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.mark.parametrize(
    ("signals", "runs", "levels", "status"),
    [
        ([INT, INT, INT], True, [TOLD, STOP, LEAVE], 0),
        ([INT, INT], False, [STOP, LEAVE], 0),
        ([TERM, TERM], True, [STOP, LEAVE], 143),
        ([HUP, INT], True, [STOP, LEAVE], 129),
        ([INT, TERM, INT], True, [TOLD, STOP, LEAVE], 143),
    ],
)
def test_how_far_signals_go(signals: list[int], runs: bool, levels: list[int], status: int) -> None:
    presses = Presses(lambda: runs, lambda: None)
    seen = []
    for number in signals:
        presses.take(number)
        seen.append(presses.level)
    assert (seen, presses.status) == (levels, status)


def test_nothing_of_the_job_is_left(cli: Cli) -> None:
    line, said, _, _ = ROWS["stubborn"]
    with cli.running("run", "local:", "--", "sh", "-c", line) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        below = [p.pid for p in processes.descendants([process.pid])]
        for word in said:
            process.send_signal(signal.SIGINT)
            if word:
                assert process.stdout.readline() == f"{word}\n".encode()
        process.wait(LIMIT)
    run.wait_until(lambda: not any(map(processes.find, below)), "all to be gone", LIMIT)
