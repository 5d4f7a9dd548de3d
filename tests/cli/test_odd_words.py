"""Every command with every odd word in every place: one message, a documented status, no bug."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest

from cli.agreeing import JOB, Agreeing
from remit import JobFailed, LogRecord, Progress, RemitError, WarningRecord
from remit._plugins import plugins
from remit.cli import _collecting, _demo, _known, _lines, _main
from remit.cli._commands import commands
from remit.cli._known import Note
from remit.cli._output import Lines
from remit.cli._report import answer, report, say

# Whatever a number is wanted for.
NUMBERS = ["nan", "inf", "-inf", "0", "-0", "-1", "1e400", "1e-400", "9" * 400, "9" * 5000, "0x10"]
NUMBERS += ["", " ", "1 s", "5s", ".", "1.", "1,5", "٣", "1_000", "1e3", "+1", "10Z", "0m"]
# What the operating system hands on without asking whether it is text, or too much of it.
NO_TEXT = os.fsdecode(b"a\xffb")
TEXTS = ["", " ", "-", "--", "-x", "a\nb", "a\rb", "\x1b[2J", "\u202e\x9b", "x" * 300, "é"]
TEXTS += [NO_TEXT, "x" * 100_000, "=1", "A", "A=\n", "ssh:", ":", "?", "fake:?state="]
TEXTS += ["fake:?x=1", "fake:%FF", "command:'", os.fsdecode(b"fake:\xff")]
# Where the same parameter of another command has had all of them.
FEW = ["", "nan", "0", "-1", "1e400", NO_TEXT, "a\rb"]
AMOUNTS = {"timeout", "throttle", "lease", "max_output", "grace", "older_than", "max_total"}

# Words that are right, for what has to be there; what a command's options go with.
PLACES = {"targets": "fake:x", "target": "fake:x", "path": "out", "name": "x", "shell": "bash"}
PLACES.update(dict.fromkeys(("job", "jobs"), JOB))
WITH = {
    ("start", "on_max"): ["--keep", "--max-output", "1K"],
    ("start", "lease"): ["--keep"],
    ("start", "max_output"): ["--keep"],
    ("prune", None): ["--max-total", "1K"],
}
COMMANDS: dict[str, Any] = commands()


@pytest.fixture(autouse=True)
def agreeing(state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """All targets are one in memory, where `JOB` has ended."""
    monkeypatch.setenv("REMIT_STATE_DIR", str(state_dir))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plugins(), "transports", {"fake": Agreeing()})
    monkeypatch.setattr(_demo, "PROGRAM", ["false"])

    async def collect(*_: object) -> _collecting.Answer:
        """Another process would know nothing of that target."""
        return _collecting.Answer()

    monkeypatch.setattr(_collecting, "collect", collect)
    _known.write(Note(id=JOB, target="fake:x", created=datetime.now(UTC)))
    stdin = os.dup(0)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    yield
    os.dup2(stdin, 0)
    os.close(stdin)
    os.close(null)


def words(command: Any, odd: Any, value: str) -> list[str]:
    """A command line where only ``value`` for the parameter ``odd`` may be wrong."""
    name = command.name or ""
    line = [name]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            if parameter is odd:
                line += [parameter.opts[0], value]
        elif parameter is odd:
            line.append(value)
        elif parameter.name in PLACES:
            line.append(PLACES[parameter.name])
    line += WITH.get((name, odd.name if odd else None), WITH.get((name, None), []))
    return [*line, "--", "true"] if name in ("run", "start", "enter") else line


def run(line: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setattr(sys, "argv", ["remit", *line])
    with pytest.raises(SystemExit) as ended:
        _main.run_words()
    return ended.value.code


def odd_lines(name: str) -> Iterator[list[str]]:
    earlier = [each for each in COMMANDS if each < name]
    seen = {parameter.name for each in earlier for parameter in COMMANDS[each].params}
    for parameter in COMMANDS[name].params:
        if not getattr(parameter, "is_flag", False):
            every = NUMBERS if parameter.name in AMOUNTS else TEXTS
            for value in FEW if parameter.name in seen else dict.fromkeys([*every, *FEW]):
                yield words(COMMANDS[name], parameter, value)


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_an_odd_word_is_used_or_refused_in_one_message(
    name: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = run(words(COMMANDS[name], None, ""), monkeypatch)
    if name == "login":  # the transport that is played keeps no connections
        assert plain == 2
    else:
        assert plain in (0, 1) or name == "demo"
    capfd.readouterr()
    for line in odd_lines(name):
        status = run(line, monkeypatch)
        err = capfd.readouterr().err
        said = [told for told in err.splitlines() if told.startswith(("remit: ", "Error: "))]
        assert status in (0, 1, 2, 255), (line, status, err)
        assert "Traceback" not in err, line
        assert len(said) <= 1, (line, err)
        assert said or status == 0 or name in ("doctor", "demo"), (line, status, err)
        if name == "login":  # there ssh itself is heard, which ends its lines so
            err = err.replace("\r\n", "\n")
        # What a person typed does nothing to the terminal either.
        assert not {"\x1b", "\x9b", "\r", "\u202e"} & set(err), (line, err)


@pytest.mark.parametrize("any_", [False, True])
def test_a_wait_of_no_time_asks_whether_it_is_over(
    any_: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = ["wait", "--timeout", "0", *(["--any"] if any_ else []), JOB]
    assert run(line, monkeypatch) == 0
    assert capfd.readouterr() == (f"{JOB}  Completed\n", "")


def test_a_target_does_not_forge_lines_of_ours(capfd: pytest.CaptureFixture[str]) -> None:
    lie = "x\rremit: all is well\nremit: all is well\x1b[A"
    failed = JobFailed(lie, evidence=lie, hint=lie, traceback=lie)
    for error in (RemitError(lie, evidence=lie), failed, OSError(1, lie, lie), ValueError(lie)):
        report(error)
    say(f"remit: {lie}", lie)
    answer(lie)
    for told in capfd.readouterr():
        assert not {"\r", "\x1b"} & set(told)
        assert "\nremit: all is well" not in told


@pytest.mark.parametrize(
    "record",
    [
        LogRecord(20, "a", "b\rremit: no\nremit: no", 0.0),
        WarningRecord("W", "b\rremit: no\nremit: no", "f\nremit: no", 1),
        Progress(1.0, None, "b\rremit: no\nremit: no"),
    ],
)
def test_a_record_of_several_lines_is_one_records(record: object) -> None:
    assert not [line for line in _lines.talk(record).split("\n") if line.startswith("remit:")]
    assert "\r" not in _lines.talk(record)


@pytest.mark.anyio
async def test_a_job_does_not_hide_whose_line_it_is_on_a_terminal() -> None:
    class Kept:
        shown = b""

        async def write(self, data: bytes) -> None:
            self.shown += data

        async def finish(self) -> None:
            """Nothing is held back."""

    for terminal, shown in (True, b"a: x\\rb: y\na: z\n"), (False, b"a: x\rb: y\na: z\r\n"):
        kept = Kept()
        lines = Lines(b"a: ", kept, terminal=terminal)
        await lines.write(b"x\rb: y\nz\r\n")
        assert kept.shown == shown
