"""``remit prune``, and the limits of ``remit start --keep``."""

from __future__ import annotations

import json

import pytest

from cli.program import Cli
from remit.cli import _amounts
from remit.cli._report import UsageError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5s", 1.5), ("15m", 900), ("12h", 43200), ("7d", 604800), ("2w", 1209600)],
)
def test_spans_of_time(text: str, seconds: float) -> None:
    assert _amounts.seconds("--older-than", text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("1000", 1000), ("64K", 65536), ("1.5G", 1610612736), ("0", 0)]
)
def test_sizes(text: str, size: int) -> None:
    assert _amounts.size("--max-total", text) == size


@pytest.mark.parametrize("text", ["", "d", "-1", "7x", "7 d", "1e3", "10GB", "٣"])
def test_amounts_that_are_none(text: str) -> None:
    for parse in (_amounts.seconds, _amounts.size):
        with pytest.raises(UsageError, match="--option"):
            parse("--option", text)


@pytest.mark.parametrize(
    ("size", "told"), [(0, "0"), (1023, "1023"), (1024, "1K"), (1536, "1.5K"), (10 << 30, "10G")]
)
def test_sizes_as_they_are_told(size: int, told: str) -> None:
    assert _amounts.told_size(size) == told


def ended(cli: Cli, name: str) -> str:
    job = cli.answer("start", "local:", "--keep", "--name", name, "--", "echo", name)
    cli("wait", job)
    return job


def test_it_lists_what_it_would_remove_and_then_what_it_removed(cli: Cli) -> None:
    first, second = ended(cli, "first"), ended(cli, "second")
    words = ("prune", "local:", "--max-total", "0")
    dry = cli(*words, "--dry-run")
    lines = dry.stdout.decode().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["ID", "NAME", "STATE"],
        [first, "first", "Completed"],
        [second, "second", "Completed"],
    ]
    assert "would remove 2 jobs on local:" in dry.stderr.decode()
    assert set(cli.listed()) == {"first", "second"}
    told = json.loads(cli(*words, "--json").stdout)
    assert [(job["id"], job["state"]) for job in told] == [
        (first, "COMPLETED"),
        (second, "COMPLETED"),
    ]
    assert all(job["size"] > 0 and job["finished"] for job in told)
    assert cli.listed() == {}
    again = cli(*words)
    assert again.stdout == b""
    assert "removed 0 jobs" in again.stderr.decode()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("prune", "local:"), "too old, or too much"),
        (("prune", "local:", "--older-than", "soon"), "--older-than 'soon'"),
        (("start", "local:", "--lease", "10s", "--", "true"), "--keep"),
        (("start", "local:", "--keep", "--lease", "0", "--", "true"), "--lease 0"),
        (("start", "local:", "--keep", "--on-max", "truncate", "--", "true"), "--max-output"),
    ],
)
def test_words_that_can_never_be_right(cli: Cli, words: tuple[str, ...], told: str) -> None:
    assert told in cli(*words, status=2).stderr.decode()


def test_a_lease_and_a_limit_are_passed_on(cli: Cli) -> None:
    words = ("--keep", "--name", "it", "--lease", "1h", "--max-output", "10")
    job = cli.answer("start", "local:", *words, "--shell", "--", "yes")
    assert "max-output" in cli("wait", job, status=1).stdout.decode()
    listed = cli.listed()["it"]
    assert (listed["lifetime"], listed["outcome"]["reason"]) == ("lease", "max-output")
    assert cli("receive", job, status=None).stdout == b"y\n" * 5
    newest = ("--keep", "--max-output", "5K", "--on-max", "truncate")
    job = cli.answer("start", "local:", *newest, "--", "seq", "1000000")
    cli("wait", job)
    assert cli("receive", job).stdout.endswith(b"\n999999\n1000000\n")
