"""How output is shown: the last lines, from a place on, with times, as objects; and whose it is."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.program import Cli
from remit import JobNotFound, Record
from remit._jobdir import files
from remit.cli._shown import Places, Stamps, Tail, as_object
from remit.cli._where import Place, choose

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
TEXT = st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n", b"\xff"]), max_size=12).map(b"".join)


def records(text: bytes, cuts: list[int]) -> list[Record]:
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    return [
        Record("stdout", text[a:b], a, number, NOON + timedelta(seconds=a), "j" + "a" * 12, "here")
        for number, (a, b) in enumerate(pairwise(places))
    ]


CUTS = st.lists(st.integers(0, 20), max_size=6)


def joined(shown: list[Record]) -> bytes:
    return b"".join(record.data for record in shown)


@given(TEXT, CUTS, st.integers(0, 5))
def test_a_tail_is_the_last_lines_however_output_was_cut(
    text: bytes, cuts: list[int], count: int
) -> None:
    tail = Tail(count)
    for record in records(text, cuts):
        tail.add(record)
    shown = tail.records()
    lines = text.splitlines(keepends=True)
    assert joined(shown) == b"".join(lines[len(lines) - min(count, len(lines)) :])
    assert all(text[one.offset :].startswith(one.data) for one in shown)


@given(TEXT, CUTS, CUTS, st.integers(0, 20))
def test_nothing_is_shown_twice_nor_left_out_after_a_place(
    text: bytes, cuts: list[int], others: list[int], since: int
) -> None:
    places = Places(since)
    twice = [*records(text, cuts), *records(text, others)]
    assert joined([new for one in twice if (new := places.new(one)) is not None]) == text[since:]


@given(TEXT, CUTS)
def test_each_line_has_the_time_at_which_it_began(text: bytes, cuts: list[int]) -> None:
    stamps = Stamps()
    shown = joined([stamps.stamped(record) for record in records(text, cuts)])
    stamp = rb"(?m)^2026-01-02T12:00:\d\d\.000\+00:00 "
    assert re.sub(stamp, b"", shown) == text
    assert len(re.findall(stamp, shown)) == len(text.splitlines())


@given(st.binary(max_size=8) | st.integers() | st.text(max_size=3) | st.tuples(st.integers()))
def test_a_record_is_one_line_of_json(data: object) -> None:
    record = Record("value", data, 3, 1, NOON, "j" + "a" * 12, "h\n")
    line = as_object(record)
    assert line.count(b"\n") == 1
    told = json.loads(line)
    assert {*told} - {"data", "base64", "repr"} == {
        *("job", "location", "stream", "offset", "seq", "time")
    }
    assert line.isascii()


# -- JOB

SEVERAL = [
    Place("local:", "jaaaaaaaaaaaa", "n", 1.0, over=True),
    Place("local:", "jbbbbbbbbbbbb", "n", 2.0),
    Place("local:", "jcccccccccccc", "n", 3.0, over=True),
]


def test_a_name_of_several_is_the_newest_that_may_still_run() -> None:
    assert choose("n", SEVERAL, exact=False).id == "jbbbbbbbbbbbb"
    assert choose("n", [SEVERAL[0], SEVERAL[2]], exact=False).id == "jcccccccccccc"
    with pytest.raises(JobNotFound, match="matches 3 jobs"):
        choose("n", SEVERAL)


@pytest.mark.parametrize("how", [[], ["--keep"]])
def test_the_last_job_is_followed_by_its_sign(cli: Cli, how: list[str]) -> None:
    line = "printf 'one\\ntwo\\nthree\\n'"
    first = cli.answer("start", *how, "--name", "n", "--shell", "local:", "--", "echo first")
    cli("wait", "@-")
    last = cli.answer("start", *how, "--name", "n", "--shell", "local:", "--", line)
    assert cli.answer("wait", "n").split()[0] == last
    assert cli("logs", "-n", "2", "@-").stdout == b"two\nthree\n"
    assert cli("receive", "--keep", "--since", "4", "n").stdout == b"two\nthree\n"
    assert cli("receive", "--tail", "1", "n").stdout == b"three\n"
    assert cli("receive", "n").stdout == b""
    told = [json.loads(line) for line in cli("logs", "--json", "n").stdout.splitlines()]
    assert "".join(item["data"] for item in told) == "one\ntwo\nthree\n"
    assert {item["job"] for item in told} == {last}
    assert cli("rm", "n", status=1).stderr.startswith(b"remit: 'n' matches 2 jobs\n")
    assert b"JOB" in cli("rm", status=2).stderr
    running = cli.answer("start", *how, "local:", "--", "sleep", "1000")
    cli("rm", "--finished")
    assert [job["id"] for job in cli.listed().values()] == [running]
    assert first != last


@pytest.mark.parametrize("how", [["--no-wait"], []])
def test_a_tail_that_cannot_be_written_is_not_used_up(cli: Cli, how: list[str]) -> None:
    cli.answer("start", "--keep", "--name", "n", "local:", "--", "seq", "3")
    cli("wait", "n")
    with (
        open("/dev/full", "wb") as full,
        cli.running("receive", "--tail", "1", *how, "n", stdout=full) as run,
    ):
        assert run.wait(60) not in (0, None)
    assert cli("receive", "n").stdout == b"1\n2\n3\n"
    assert cli("receive", "n").stdout == b""


def carried(cli: Cli, *words: str) -> tuple[bytes, int]:
    """What it prints, and how many bytes of output came over the link for that."""
    trace = cli.directory / "trace"
    cli.env["REMIT_TRACE"] = str(trace)
    shown = cli(*words).stdout
    del cli.env["REMIT_TRACE"]
    frames = [line.split() for line in trace.read_text().splitlines()]
    trace.unlink()
    return shown, sum(
        int(size)
        for _, end, _, way, kind, _, size in frames
        if (end, way, kind) == ("caller", "<", "DATA")
    )


def make_large(directory: Path, size: int, end: bytes) -> None:
    """The stdout of a job that is over: ``size`` bytes without a line's end, and then ``end``."""
    with (directory / "stdout").open("wb") as file:
        file.truncate(size)
    with (directory / "stdout").open("ab") as file:
        file.write(b"\n" + end)
    step = 1 << 20
    lines = [files.pack_line(1.0, b"stdout", at, step) for at in range(0, size, step)]
    for at, byte in enumerate(b"\n" + end):
        lines.append(files.pack_line(2.0 + at, b"stdout", size + at, 1))
        assert byte
    (directory / "index").write_bytes(b"".join(lines))
    outcome = json.loads((directory / "outcome.json").read_text())
    outcome["sizes"]["stdout"] = size + 1 + len(end)
    (directory / "outcome.json").write_text(json.dumps(outcome))


@pytest.mark.parametrize(
    "how", [["logs", "-n", "2"], ["logs", "-f", "-n", "2"], ["receive", "--tail", "2"]]
)
def test_the_end_of_a_large_output_is_all_that_is_carried(cli: Cli, how: list[str]) -> None:
    cli.answer("start", "--keep", "--name", "n", "local:", "--", "true")
    job_id = cli.answer("wait", "n").split()[0]
    size = 1 << 30  # a hole
    make_large(cli.state / "jobs" / job_id, size, b"one\ntwo\nno end")
    shown, bytes_carried = carried(cli, *how, "n")
    assert shown == b"two\nno end"
    assert bytes_carried < 10_000
    shown, bytes_carried = carried(cli, "receive", "--timestamps", "--since", str(size + 5), "n")
    assert [line.partition(b" ")[2] for line in shown.split(b"\n")] == [b"two", b"no end"]
    assert shown.startswith(b"1970-01-01T00:00:07")
    assert bytes_carried < 10_000
    # All of it was used up, that which was shown last and that which never was.
    assert carried(cli, "receive", "n") == (b"", 0)


def test_the_last_lines_are_followed_by_what_is_still_to_come(cli: Cli) -> None:
    os.mkfifo(cli.directory / "gate")
    line = f"seq 3; printf begun; read x < {cli.directory}/gate; echo ' and ended'; seq 2"
    cli.answer("start", "--keep", "--name", "n", "--shell", "local:", "--", line)
    with cli.running("logs", "-f", "-n", "2", "n") as run:
        assert run.stdout is not None
        assert run.stdout.read(7) == b"3\nbegun"
        (cli.directory / "gate").write_text("\n")
        assert run.stdout.read() == b" and ended\n1\n2\n"
        assert run.wait(60) == 0
    assert cli("logs", "-n", "0", "n").stdout == b""
    assert cli("receive", "--stream", "stderr", "--tail", "1", "n").stdout == b""
    assert cli("receive", "n").stdout == b""


def test_run_tells_programs_what_comes(cli: Cli) -> None:
    done = cli(
        "run", "--json", "--shell", "local:", "--", "echo out; echo err >&2; exit 3", status=3
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {(item["stream"], item["data"]) for item in told} == {
        ("stdout", "out\n"),
        ("stderr", "err\n"),
    }
    assert not done.stderr
