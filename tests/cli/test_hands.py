"""What the hands of who works in terminals know: words that go wrong, pipes, names, statuses."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.program import LIMIT, REMIT, Cli
from remit import Outcome
from remit.cli import _amounts, _hints
from remit.cli._colours import Colours
from remit.cli._report import UsageError

UNITS = {"w": 604800, "d": 86400, "h": 3600, "m": 60, "s": 1}


@given(st.lists(st.sampled_from(list(UNITS)), min_size=1, unique=True), st.data())
def test_spans_of_time_are_read_as_they_are_written(units: list[str], data: st.DataObject) -> None:
    ordered = [unit for unit in UNITS if unit in units]
    numbers = [data.draw(st.integers(0, 99)) for _ in ordered]
    text = "".join(f"{number}{unit}" for number, unit in zip(numbers, ordered, strict=True))
    expected = sum(number * UNITS[unit] for number, unit in zip(numbers, ordered, strict=True))
    assert _amounts.seconds("--timeout", text) == expected
    if ordered != units:
        wrong = "".join(f"1{unit}" for unit in units)
        with pytest.raises(UsageError, match="is not a span of time"):
            _amounts.seconds("--timeout", wrong)


@pytest.mark.parametrize(
    "text", ["", "h", "5 m", "1h30", "30m1h", "1h1h", "1ms", "1H", "-1s", "1e3"]
)
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(UsageError, match="--timeout"):
        _amounts.seconds("--timeout", text)


# -- words that only a shell knows


@pytest.mark.parametrize(
    ("command", "cwd", "error", "hint"),
    [
        (("ls -l",), None, "no such program: ls -l", "-- ls -l, or --shell TARGET -- 'ls -l'"),
        (("cd", "/x y"), None, "no such program: cd", "--shell TARGET -- 'cd '"),
        (("ls",), "~/src", "no such directory: ~/src", "--shell TARGET -- 'cd ~/src && ls'"),
        (("ls",), "/no", "no such directory: /no", ""),
        (("nosuch", "-l"), None, "no such program: nosuch", ""),
        ("cd", None, "no such program: /bin/sh", ""),
    ],
)
def test_a_shells_words_are_told_with_what_to_type(
    command: tuple[str, ...] | str, cwd: str | None, error: str, hint: str
) -> None:
    said = _hints.hint(command, cwd, Outcome(reason="start-failed", error=error))
    assert said.startswith(hint)
    assert bool(said) == bool(hint)


def test_what_cannot_be_run_is_told_with_a_shells_statuses(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no program")
    cli("run", "local:", "--", "./file", status=126)
    cli("run", "local:", "--", str(tmp_path), status=126)
    done = cli("run", "local:", "--", "ls -l", status=127)
    assert done.stderr.decode().splitlines() == [
        "remit: localhost: start-failed, no such program: ls -l",
        "  try     -- ls -l, or --shell TARGET -- 'ls -l'",
    ]


@pytest.mark.parametrize("how", [[], ["--keep"]])
def test_where_nothing_comes_to_run_start_says_so(cli: Cli, how: list[str]) -> None:
    done = cli("start", *how, "local:", "--", "cd", "/tmp", status=1)
    assert re.fullmatch(r"j[a-z2-7]{12}\n", done.stdout.decode())
    said = done.stderr.decode().splitlines()
    assert said[0].endswith(": start-failed, no such program: cd")
    assert said[1] == "  try     --shell TARGET -- 'cd /tmp': cd is a shell's own command"


# -- start


@pytest.mark.parametrize("how", [[], ["--keep"]])
def test_ids_of_several_targets_come_with_them_in_their_order(cli: Cli, how: list[str]) -> None:
    targets = ["command:sh -c 'sleep 0.5; exec \"$@\"' x", "command:false", "local:"]
    done = cli("start", *how, *targets, "--", "true", status=255)
    lines = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [target for _, target in lines] == [targets[0], targets[2]]
    for job, _ in lines:
        cli("wait", job)


@pytest.mark.parametrize("how", [[], ["--keep"]])
def test_a_name_over_several_targets_is_one_of_each(cli: Cli, how: list[str]) -> None:
    targets = ["local:", "command:env"]
    done = cli("start", *how, "--name", "both", *targets, "--", "sleep", "1000")
    jobs = dict(line.split("\t")[::-1] for line in done.stdout.decode().splitlines())
    assert list(jobs) == targets
    refused = cli("stop", "both", status=1)
    assert all(job.encode() in refused.stderr for job in jobs.values())
    cli("stop", *jobs.values())
    told = json.loads(cli("jobs", "--json").stdout)
    assert {(job["id"], job["name"], job["state"]) for job in told} == {
        (job, "both", "STOPPED") for job in jobs.values()
    }
    assert {job["outcome"]["reason"] for job in told} == {"stopped"}


@pytest.mark.parametrize("how", [[], ["--keep"]])
def test_a_name_that_an_unfinished_job_bears_is_refused(cli: Cli, how: list[str]) -> None:
    job = cli.answer("start", *how, "--name", "one", "local:", "--", "sleep", "1000")
    done = cli("start", *how, "--name", "one", "local:", "--", "true", status=1)
    assert job.encode() in done.stderr
    assert not done.stdout
    cli("stop", job)
    again = cli.answer("start", *how, "--name", "one", "local:", "--", "true")
    cli("wait", again)


@pytest.mark.parametrize("how", [["start"], ["start", "--keep"]])
def test_of_starts_of_one_name_at_the_same_moment_one_passes(cli: Cli, how: list[str]) -> None:
    line = [*how, "--name", "one", "local:", "--", "sleep", "1000"]
    with ExitStack() as stack:
        started = [stack.enter_context(cli.running(*line)) for _ in range(3)]
        assert sorted(process.wait(LIMIT) for process in started) == [0, 1, 1]
    assert [job["state"] for job in cli.listed().values()] == ["RUNNING"]


@pytest.mark.parametrize("how", [["start"], ["start", "--keep"]])
def test_several_targets_are_a_group_that_shares_a_name(cli: Cli, how: list[str]) -> None:
    cli(*how, "--name", "one", "local:", "local:", "--", "sleep", "1000")
    jobs = json.loads(cli("jobs", "--json").stdout)
    assert len(jobs) == 2
    assert {job["name"] for job in jobs} == {"one"}
    (group,) = {job["group"] for job in jobs}
    assert group[0] == "g"
    cli("rm", "--force", *(job["id"] for job in jobs))


@pytest.mark.parametrize("how", [[], ["--keep"]])
def test_a_started_job_reads_what_it_is_given(cli: Cli, tmp_path: Path, how: list[str]) -> None:
    (tmp_path / "file").write_bytes(b"from\0a file\n")
    job = cli.answer("start", *how, "--stdin", "file", "local:", "--", "cat")
    both = cli("start", *how, "--stdin", "-", "local:", "local:", "--", "cat", stdin=b"piped")
    first, second = (line.split("\t")[0] for line in both.stdout.decode().splitlines())
    cli("wait", job, first, second)
    found = [cli("receive", each).stdout for each in (job, first, second)]
    assert found == [b"from\0a file\n", b"piped", b"piped"]
    assert not both.stderr


def test_a_pipe_that_nobody_reads_is_told_of(cli: Cli) -> None:
    line = f"echo hi | {REMIT} start --keep local: -- cat"
    done = subprocess.run(["sh", "-c", line], env=cli.env, capture_output=True, timeout=LIMIT)
    assert done.stderr == b"remit: stdin was not passed on; `--stdin -` gives it to the job\n"
    job = done.stdout.decode().strip()
    cli("wait", job)
    assert cli("receive", job).stdout == b""
    missing = cli("start", "--stdin", "missing", "local:", "--", "cat", status=1)
    assert missing.stderr == b"remit: No such file or directory: missing\n"


def test_a_loop_that_reads_keeps_its_input(cli: Cli) -> None:
    line = f"while read word; do {REMIT} run -n local: -- echo $word; done"
    done = subprocess.run(
        ["sh", "-c", line], env=cli.env, input=b"one\ntwo\n", capture_output=True, timeout=LIMIT
    )
    assert (done.stdout, done.stderr) == (b"one\ntwo\n", b"")


def test_waiting_ends_with_what_was_waited_for(cli: Cli) -> None:
    job = cli.answer("start", "--keep", "local:", "--", "sh", "-c", "exit 7")
    cli("wait", job, status=1)
    cli("wait", "--status", job, status=7)
    assert b"--status is for one job" in cli("wait", "--status", job, job, status=2).stderr
    long = cli.answer("start", "--keep", "local:", "--", "sleep", "1000")
    for words in ([], ["--status"]):
        cli("wait", *words, "--timeout", "0", long, status=124)


@pytest.mark.parametrize("words", ["run fake -- x", "start fake -- x", "jobs fake", "wait x"])
def test_how_long_reaching_a_target_may_take_goes_with_all_that_reach_one(
    cli: Cli, words: str
) -> None:
    name, *rest = words.split()
    done = cli(name, "--connect-timeout", "soon", *rest, status=2)
    assert done.stderr.startswith(b"remit: --connect-timeout 'soon' is not a span of time\n")
    if name != "wait":
        target = "command:sh -c 'sleep 1000'"
        rest[0] = target
        done = cli(name, "--connect-timeout", "0.2", *rest, status=255)
        assert b"0.2 s" in done.stderr


# -- colours

PIECES = st.sampled_from(
    [
        *(b"\x1b[31m", b"\x1b[m", b"\x1b[0m", b"\x1b[1;38:5:9m", b"text", b"\n", b"\xc3\xa9"),
        *(
            b"\xff",
            b"\x1b[2J",
            b"\x1b]0;t\x07",
            b"\x1b",
            b"\x1b[",
            b"\x1b[3",
            b"\r",
            b"\x9b31m",
            b"m",
        ),
    ]
)


@given(st.lists(PIECES), st.data())
def test_a_terminal_is_shown_text_and_colours_alone(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    colours, shown = Colours(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        shown.append(colours.feed(stream[start:end]))
    shown.append(colours.feed(b"", final=True))
    whole = Colours()
    assert b"".join(shown) == whole.feed(stream) + whole.feed(b"", final=True)
    for line in b"".join(shown).split(b"\n"):
        left = re.split(rb"\x1b\[[0-9;:]*m", line)
        assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", b"".join(left))
        last = re.findall(rb"\x1b\[[0-9;:]*m", line)[-1:]
        assert last in ([], [b"\x1b[0m"], [b"\x1b[m"]), line
