"""``remit transports``, ``doctor`` and ``demo``, and remit itself: help, plugins, state."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest

import remit
from cli.program import LIMIT, REMIT, Cli
from remit import CommandResult
from remit.cli import _doctor
from testbed.containers import Engine


def test_help_names_every_command(cli: Cli) -> None:
    text = cli("--help").stdout.decode()
    for verb in (
        *("run", "start", "jobs", "receive", "wait", "stop", "rm", "save", "suspend", "resume"),
        *("enter", "transports", "doctor", "demo"),
    ):
        assert f"\n  {verb} " in text
        assert cli(verb, "--help").stdout


def test_transports_are_listed(cli: Cli) -> None:
    table = cli.answer("transports").splitlines()
    assert table[0].split() == ["SCHEME", "PLUGIN", "REMARK"]
    assert [line.split()[0] for line in table[1:]] == [
        *("command:", "docker:", "local:", "podman:", "ssh:")
    ]
    told = {item["scheme"]: item for item in json.loads(cli("transports", "--json").stdout)}
    assert told["ssh"]["bare_words"] is True
    assert told["local"]["problem"] is None


@pytest.fixture
def plugin(cli: Cli, tmp_path: Path) -> Path:
    """The source of a plugin that is installed beside ours; a test writes it."""
    place = tmp_path / "site"
    info = place / "guest-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: guest\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[remit]\nguest = guest\n")
    cli.env["PYTHONPATH"] = str(place)
    return place / "guest.py"


def test_a_plugin_brings_a_command(cli: Cli, plugin: Path) -> None:
    plugin.write_text(
        "import click, remit\n"
        "@remit.hookimpl\n"
        "def remit_commands():\n"
        "    return [greet]\n"
        "@click.command()\n"
        "@click.argument('name')\n"
        "def greet(name: str) -> None:\n"
        '    """Say hello."""\n'
        "    print('hello', name)\n"
    )
    assert "greet" in cli("--help").stdout.decode()
    assert cli.answer("greet", "you") == "hello you"


@pytest.mark.parametrize(
    ("body", "status", "out", "err"),
    [
        ("return 3", 3, "", ""),
        ("await anyio.sleep(0); print(remit.abc.one_line('a\\x1b\\n'))", 0, "a\\x1b\\n\n", ""),
        ("raise remit.TargetError('no such', hint='x')", 2, "", "remit: no such\n  try     x\n"),
        ("raise remit.LinkLost('gone\\rremit: ok')", 255, "", "remit: gone\\rremit: ok\n"),
        ("raise BrokenPipeError", 141, "", ""),
        ("raise KeyboardInterrupt", 130, "", ""),
    ],
)
def test_a_plugins_command_is_as_good_as_ours(
    cli: Cli, plugin: Path, body: str, status: int, out: str, err: str
) -> None:
    plugin.write_text(
        "import anyio, click, remit, remit.abc\n"
        "@remit.hookimpl\n"
        "def remit_commands():\n"
        "    return [greet]\n"
        "@click.command()\n"
        "@click.option('--times', default=1)\n"
        f"async def greet(times: int) -> int:\n    {body}\n"
    )
    done = cli("greet", "--times", "2", status=status)
    assert (done.stdout.decode(), done.stderr.decode()) == (out, err)


GROUP = """
import anyio, click, remit
@remit.hookimpl
def remit_commands():
    return [guests, odd]
@click.group()
def guests():
    pass
@guests.command()
async def many() -> int:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fail)
@guests.command()
async def one() -> int:
    return 4
async def fail():
    raise remit.LinkLost("gone")
@click.command()
def odd() -> None:
    {}["a bug"]
"""


def test_commands_in_a_group_are_as_good(cli: Cli, plugin: Path) -> None:
    plugin.write_text(GROUP)
    cli("guests", "one", status=4)
    assert cli("guests", "many", status=255).stderr == b"remit: gone\n"
    said = cli("odd", status=1).stderr.decode()
    assert said.endswith("KeyError: 'a bug'\nin a command of the plugin 'guest'\n")


@pytest.mark.parametrize(
    "brought",
    [
        *("click.Command('run')", "click.Group('jobs')", "click.Command('fine')"),
        *("click.Command(None)", "None", "print"),
    ],
)
def test_nobody_takes_a_command_of_ours(cli: Cli, plugin: Path, brought: str) -> None:
    plugin.write_text(
        "import click, remit\n"
        "@click.command()\n"
        "def fine() -> None: print('fine')\n"
        "@remit.hookimpl\n"
        "def remit_commands():\n"
        f"    return [fine, {brought}]\n"
    )
    assert cli("run", "local:", "--", "echo", "ours").stdout == b"ours\n"
    assert cli("jobs").stdout.startswith(b"ID")
    done = cli("fine")
    assert done.stdout == b"fine\n"
    assert b"remit plugin 'guest' is faulty: " in done.stderr
    assert cli("transports").stdout.splitlines()[-1].split()[:2] == [b"-", b"guest"]


FAULT = b"remit: remit plugin 'guest' is faulty: RuntimeError: broken \\x1b[31m\n"


def test_a_faulty_plugin_is_named_and_takes_nothing_down(cli: Cli, plugin: Path) -> None:
    plugin.write_text("raise RuntimeError('broken \\x1b[31m')")
    done = cli("run", "local:", "--", "echo", "works")
    assert (done.stdout, done.stderr) == (b"works\n", FAULT)
    assert "guest" in cli.answer("transports").splitlines()[-1]


def test_a_plugin_whose_commands_cannot_be_had_is_named(cli: Cli, plugin: Path) -> None:
    plugin.write_text(
        "import remit\n"
        "@remit.hookimpl\n"
        "def remit_commands(): raise RuntimeError('broken \\x1b[31m')\n"
    )
    done = cli("--help")
    assert b"\n  run " in done.stdout
    assert done.stderr == FAULT
    # Who calls a command of remit's own asks for no others.
    assert cli("run", "local:", "--", "true").stderr == b""
    assert "guest" in cli.answer("transports").splitlines()[-1]


def test_the_state_directory_is_private_and_where_it_is_said(cli: Cli, tmp_path: Path) -> None:
    del cli.env["REMIT_STATE_DIR"]
    cli.env["XDG_STATE_HOME"] = str(tmp_path / "xdg")
    job = cli.answer("start", "local:", "--", "true")
    cli("wait", job)
    found = [tmp_path / "xdg" / "remit" / part for part in ("", "jobs", f"jobs/{job}")]
    assert [path.stat().st_mode & 0o777 for path in found] == [0o700] * 3
    cli("rm", job)


def test_a_state_directory_of_everybodys_is_refused(cli: Cli) -> None:
    cli.state.chmod(0o777)
    done = cli("start", "local:", "--", "true", status=2)
    assert b"by others" in done.stderr
    assert not done.stdout
    cli.state.chmod(0o700)


def test_a_closed_stdout_is_no_traceback(cli: Cli) -> None:
    for words in ("jobs", "transports", "run local: -- echo x"):
        done = subprocess.run(
            ["sh", "-c", f"{REMIT} {words} >&-"], env=cli.env, capture_output=True, timeout=LIMIT
        )
        assert b"Traceback" not in done.stderr
        assert done.returncode == 0


# -- doctor


def test_doctor_finds_a_target_well(cli: Cli, alice: str) -> None:
    told = json.loads(cli("doctor", "--json", alice, status=None).stdout)
    assert [item for item in told if not item["ok"]] == []
    findings = {item["step"]: item for item in told}
    assert list(findings) == [
        *("transport", "reuse", "agent", "python", "state", "clock", "lingering", "round trip")
    ]
    assert "as remit_alice on " in findings["agent"]["evidence"]
    assert "/python3" in findings["python"]["evidence"]
    # What it tried out is gone.
    assert cli.listed(alice) == {}


def test_doctor_names_what_is_wrong(cli: Cli) -> None:
    done = cli("doctor", "command:sh -c 'echo no entry >&2; exit 3' --", status=1)
    told = done.stdout.decode()
    assert told.splitlines()[0].startswith("ok       transport")
    assert "problem  agent" in told
    assert "no entry" in told
    assert "remit doctor" not in told
    assert cli("doctor", "bogus:", status=1).stdout.startswith(b"problem  transport")


@pytest.mark.parametrize(
    ("status", "told", "ok"),
    [
        (3, b"", True),
        (0, b"/", None),
        (0, b"no/", None),
        (0, b"/b true", None),
        (0, b"no/b true", False),
        (0, b"yes/b true", True),
        (0, b"yes/", True),
        (0, b"/b false", True),
    ],
)
@pytest.mark.anyio
async def test_doctor_knows_of_lingering_what_logind_says(
    status: int, told: bytes, ok: bool | None
) -> None:
    class Session:
        async def run(self, _: str) -> CommandResult:
            return CommandResult(status, told, b"")

    finding = await _doctor._take("lingering", _doctor._lingering, cast(remit.Session, Session()))
    assert finding.ok is ok
    assert finding.hint or ok
    verdicts = {True: "ok", False: "problem", None: "unknown"}
    assert _doctor._words(finding)[0].split()[0] == verdicts[ok]


def test_doctor_sees_a_state_directory_that_cannot_be(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = cli("doctor", "--json", f"local:?state={tmp_path}/file/state", status=1)
    problems = [item for item in json.loads(done.stdout) if not item["ok"]]
    assert [item["step"] for item in problems] == ["state"]


# -- demo


# Each of its steps has a time limit of its own, and says so: this one is for a demo that hangs.
DEMO_LIMIT = 600.0


def _demo(cli: Cli, *target: str) -> str:
    """What it tells, where all of it works."""
    done = cli("demo", *target, status=None, limit=DEMO_LIMIT)
    told = done.stdout.decode()
    assert (done.returncode, done.stderr) == (0, b""), told
    assert told.endswith("\nAll three workflows are done.\n")
    return told


def test_demo_walks_through_three_workflows(cli: Cli, tmp_path: Path) -> None:
    # Files that the demo makes are found here, and others' not.
    cli.env["TMPDIR"] = str(tmp_path / "tmp")
    (tmp_path / "tmp").mkdir()
    told = _demo(cli)
    for title in ("1. Interactive", "2. Return to caller", "3. Keep on remote"):
        assert f"\n== {title}" in told
    assert "\n$ remit enter local:\n[localhost] " in told
    # It brings its own state directory, and takes it away again.
    assert not any(cli.state.iterdir())
    assert not any((tmp_path / "tmp").iterdir())
    (kept,) = re.findall(r"cat (/tmp/remit-demo-\S+)", told)
    assert not Path(kept).exists()


def test_demo_over_ssh_leaves_nothing_there(cli: Cli, alice: str) -> None:
    assert "\n[alice] " in _demo(cli, alice)
    assert cli.listed(alice) == {}


@pytest.mark.parametrize("scheme", ["docker", "podman"])
def test_demo_in_a_container(cli: Cli, scheme: str, request: pytest.FixtureRequest) -> None:
    engine: Engine = request.getfixturevalue(scheme)
    cli.env.update(engine.env)
    target = f"{scheme}:{engine.new_python()}"
    assert f"\n$ remit enter {target}\n" in _demo(cli, target)
    assert cli.listed(target) == {}


def test_demo_says_which_step_did_not_show_what_it_should(cli: Cli) -> None:
    done = cli("demo", "command:false", status=1)
    assert b"the demo ends here" in done.stderr
    assert b"All three" not in done.stdout


def test_demo_starts_nothing_on_a_target_that_cannot_be(cli: Cli) -> None:
    done = cli("demo", "bogus:", status=2)
    assert b"no transport is called 'bogus'" in done.stderr
    assert not done.stdout


def test_remit_is_a_module_too(cli: Cli) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "remit.cli", "run", "local:", "--", "echo", "x"],
        env={**cli.env, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        capture_output=True,
        timeout=LIMIT,
        check=True,
    )
    assert done.stdout == b"x\n"
