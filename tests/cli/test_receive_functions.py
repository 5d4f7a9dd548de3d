"""What the command line shows of functions, which programs start."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest

import remit
from cli.program import Cli
from remit.cli import _lines


def speak() -> Iterator[object]:
    import logging
    import sys
    import warnings

    import remit

    print("printed")
    logging.getLogger("a.b").info("two\nlines")
    print("complained", file=sys.stderr)
    warnings.warn("warned", stacklevel=1)
    remit.progress(1, 3, "a third")
    yield {"item": [1, 2.5, None, "é"]}
    yield (1, 2)


def fail() -> None:
    raise KeyError("no such thing")


def terrify() -> str:
    return "\x1b]0;title\x07 \x9b"


@pytest.fixture
def kept(cli: Cli) -> Callable[..., str]:
    """Starts a function that is kept on this computer, waits for its end and gives its id."""

    def start(function: Callable[..., Any], *args: Any) -> str:
        async def start_it() -> str:
            async with remit.connect(f"local:?state={cli.state}") as session:
                job: remit.Job = await session.start(function, *args, placement="keep")
                await job.wait()
                return job.id

        return anyio.run(start_it)

    return start


def test_values_are_lines_on_stdout_and_talk_goes_to_stderr(
    cli: Cli, kept: Callable[..., str]
) -> None:
    done = cli("receive", "--on", "local:", kept(speak))
    assert done.stdout.decode() == 'printed\n{"item": [1, 2.5, null, "é"]}\n(1, 2)\n'
    lines = done.stderr.decode().splitlines()
    lines.remove("complained")  # by another pipe than the others
    logged, second, warned, progress = lines
    assert (logged, second) == ("INFO a.b: two", "  lines")
    assert warned.startswith("UserWarning: warned (")
    assert progress == "progress 1/3 a third"


@pytest.mark.parametrize(
    ("stream", "stdout", "stderr"),
    [
        ("stdout", "printed\n", ""),
        ("stderr", "", "complained\n"),
        ("value", '{"item": [1, 2.5, null, "é"]}\n(1, 2)\n', ""),
        ("log", "", "INFO a.b: two\n  lines\n"),
        ("progress", "", "progress 1/3 a third\n"),
    ],
)
def test_one_stream_alone(
    cli: Cli, kept: Callable[..., str], stream: str, stdout: str, stderr: str
) -> None:
    done = cli("receive", "--on", "local:", "--stream", stream, kept(speak))
    assert (done.stdout.decode(), done.stderr.decode()) == (stdout, stderr)


def test_only_outputs_are_saved(cli: Cli) -> None:
    assert b"--stream stdout, stderr" in cli("save", "--stream", "log", "a", "b", status=2).stderr
    assert b"progress" in cli("receive", "--stream", "logs", "a", status=2).stderr


def test_a_failure_is_told(cli: Cli, kept: Callable[..., str]) -> None:
    job = kept(fail)
    done = cli("receive", "--on", "local:", job)
    assert done.stderr.decode() == f"remit: {job} is Failed: KeyError: 'no such thing'\n"
    assert b"KeyError: 'no such thing'" in cli("wait", "--on", "local:", job, status=1).stdout


def test_a_function_is_listed_as_a_call(cli: Cli, kept: Callable[..., str]) -> None:
    job = kept(terrify)
    listed = cli.listed("local:")[job]
    assert (listed["command"], listed["state"]) == ("terrify()", "COMPLETED")
    assert cli.answer("jobs", "local:").endswith("  localhost  terrify()")


def test_what_is_json_is_printed_as_json() -> None:
    odd = "a\n\x1b\x7f\x9b\u202e\ud800 é"
    for value in (None, True, 12, -0.5, odd, [1, [2, None]], {"a": {"b": []}, odd: odd}):
        line = _lines.value(value)
        assert json.loads(line) == value
        assert not set(line) & set("\n\x1b\x7f\x9b\u202e\ud800")


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ((1, "a"), "(1, 'a')"),
        ({1: 2}, "{1: 2}"),
        ([1, {"a": b"\x00"}], r"[1, {'a': b'\x00'}]"),
        (float("nan"), "nan"),
        ([float("-inf")], "[-inf]"),
        (remit.Struct("shapes.Point", {"x": "\x1b"}), r"Struct('shapes.Point', x='\x1b')"),
    ],
)
def test_what_is_not_is_printed_as_python_has_it(value: object, line: str) -> None:
    assert _lines.value(value) == line


def test_what_cannot_be_printed_is_named() -> None:
    assert _lines.value(10**5000).startswith("<int that cannot be shown: ")


def test_what_is_said_beside_the_values_is_harmless() -> None:
    record = remit.LogRecord(35, "a\x1b", "odd\x07", 0.0)
    assert _lines.talk(record) == r"Level 35 a\x1b: odd\x07"
    assert _lines.talk(remit.Progress(2.0, None, "")) == "progress 2"
    assert _lines.talk(remit.Gap(7)) == "remit: 7 bytes are missing here"
