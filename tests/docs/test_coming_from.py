"""What docs/coming-from.md says is so: its commands run, its targets are reached, its calls made.

The letters of the page stand for what is put in their places here: a host, a command, a job.
"""

import ast
import inspect
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import remit
from docs import places
from docs.pages import ROOT
from docs.shell import Shell
from docs.world import PROGRAM, remove_all_jobs

_TEXT = (ROOT / "docs" / "coming-from.md").read_text(encoding="utf-8")
_KINDS = {"session": remit.Session, "job": remit.Job, "remit": remit}


class Row(NamedTuple):
    """What stands in the middle column, of which page's table."""

    table: str
    line: int
    codes: tuple[str, ...]


def _rows() -> Iterator[Row]:
    table = ""
    for number, line in enumerate(_TEXT.splitlines(), 1):
        if line.startswith("## "):
            table = line[3:]
        cells = line.replace("\\|", "\0").split(" | ")
        if line.startswith("| ") and len(cells) > 1:
            codes = tuple(code.replace("\0", "|") for code in re.findall("`([^`]+)`", cells[1]))
            yield Row(table, number, codes)


_ROWS = list(_rows())
_CODE = sorted({code for row in _ROWS for code in row.codes})
_TARGET = re.compile(r"(ssh|docker|local):\S*")
# Named rather than shown.
_NAMES = {"ProxyJump", "ssh_config", "JobFailed.reason"}


def _statements(code: str) -> ast.Module | None:
    """None for what is no Python: commands, targets."""
    text = code.replace("…", "...").replace("={...}", "={}").replace("(...)", "()")
    text = re.sub(r"^((?:async )?(?:for|with) .*)$", r"\1: pass", text)
    body = f"async def f(**_):\n    {text}" if not re.match(r"\w+=\S*", text) else f"f({text})"
    try:
        return ast.parse(body)
    except SyntaxError:
        return None


def _is_python(code: str) -> bool:
    return code not in _NAMES and not _TARGET.fullmatch(code) and _statements(code) is not None


_PYTHON = [code for code in _CODE if _is_python(code)]


def test_all_code_is_of_a_kind_that_is_run() -> None:
    commands = [code for code in _CODE if code.startswith("remit ")]
    targets = [code for code in _CODE if _TARGET.fullmatch(code)]
    assert len(commands) > 25
    assert len(targets) > 4
    assert len(_PYTHON) > 15
    assert not set(_CODE) - {*commands, *targets, *_PYTHON, *_NAMES}


@pytest.mark.parametrize("code", _PYTHON)
def test_a_call_could_be_made(code: str) -> None:
    tree = _statements(code)
    assert tree is not None
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            kind = _KINDS.get(node.value.id)
            assert kind is None or hasattr(kind, node.attr), code
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                assert keyword.arg is None or keyword.arg in _OPTIONS, code


_OPTIONS = (
    {
        name
        for function in (remit.Session.start, remit.Session.run, remit.connect, remit.Job.receive)
        for name in inspect.signature(function).parameters
    }
    | set(remit.StartOptions.__annotations__)
    | set(remit.RunOptions.__annotations__)
)

# -- commands

_WORDS = {
    "H": "server01",
    "A": "server01",
    "B": "server02",
    "CMD": "true",
    "x": "true",
    "a": "echo a",
    "b": "cat",
    "/x": "/tmp",
    **dict.fromkeys(["J", "JOB", "N", "J1"], "first"),
    "J2": "second",
}
# What runs until it is stopped, and what is over.
_LASTING = {"stop", "suspend", "rm --force"}
_OF_JOBS = {"receive", "wait", "rm", *_LASTING}


def _in_place(code: str) -> str:
    return re.sub(
        r"(?<![\w./-])(" + "|".join(map(re.escape, _WORDS)) + r")(?![\w./=-])",
        lambda word: _WORDS[word[1]],
        code,
    )


def _named(commands: list[str]) -> list[str]:
    """The jobs that these name."""
    return [name for name in ("first", "second") if any(name in each for each in commands)]


def _before(code: str) -> list[str]:
    """What has to be there."""
    words = code.split()
    verb = " ".join(words[1:3]) if words[2:3] == ["--force"] else words[1]
    if verb not in _OF_JOBS:
        return []
    start = "remit start --keep --name {} server01 -- " + (
        "sleep 300" if verb in _LASTING else "echo out"
    )
    names = _named([_in_place(code)])
    lines = [start.format(name) for name in names]
    return lines if verb in _LASTING else [*lines, f"remit wait {' '.join(names)}"]


def _rows_of_commands() -> Iterator[Row]:
    """Each once, though two tables have it."""
    seen = set()
    for row in _ROWS:
        commands = tuple(code for code in row.codes if code.startswith("remit "))
        if commands and commands not in seen:
            seen.add(commands)
            yield row._replace(codes=commands)


_COMMANDS = list(_rows_of_commands())


_SUDO = """#!/bin/sh
[ "$1" = -n ] || exit 1
shift
[ "$1" != -u ] || shift 2
[ "$1" != -- ] || shift
exec "$@"
"""


@pytest.fixture
def env(ssh_hosts: Path, tmp_path: Path) -> dict[str, str]:
    places.clean(ssh_hosts)
    programs = tmp_path / "programs"
    programs.mkdir()
    sudo = programs / "sudo"  # what is asked of it, without the account that it would ask for
    sudo.write_text(_SUDO)
    sudo.chmod(0o755)
    here = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{ssh_hosts}/bin:{programs}:{here}:{os.environ['PATH']}"}


@pytest.fixture
def directory(tmp_path: Path, ssh_hosts: Path) -> Path:
    (tmp_path / "x.sh").write_text('echo "$1"\n')
    (tmp_path / "F").write_text("data\n")
    (tmp_path / "hosts").write_text("server01\nserver02\n")
    (tmp_path / "FILE").write_text((ssh_hosts / "ssh_config").read_text())
    return tmp_path


@pytest.mark.parametrize("table", sorted({row.table for row in _COMMANDS}))
def test_its_commands_run(
    table: str, env: dict[str, str], directory: Path, state_dir: Path
) -> None:
    with Shell(directory, {**env, "REMIT_STATE_DIR": str(state_dir)}) as shell:

        def run(command: str, where: str) -> None:
            done = shell.run(command)
            assert done.status == 0, f"{where}: {command}\n{done.printed}"

        # So that there is one to be copied from there.
        run("remit run --shell server01 -- 'cat > F' < F", "beforehand")
        for row in _COMMANDS:
            where = f"coming-from.md:{row.line}"
            if row.table != table:
                continue
            before = _before(row.codes[0])
            for command in before:
                run(command, where)
            for code in row.codes:
                # sudo has to be there, and is on this computer alone.
                run(_in_place(re.sub(r"\bH\b", "local:", code) if "sudo" in code else code), where)
            # What is left is not to be taken for the next row's.
            for name in _named([*before, *map(_in_place, row.codes)]):
                shell.run(f"remit rm --force {name}")
    for target in ("local:", "server01", "server02"):
        remove_all_jobs(target, {**env, "REMIT_STATE_DIR": str(state_dir)})


@pytest.fixture
def key(ssh_hosts: Path) -> str:
    found = re.search(r"^\s*IdentityFile (\S+)", (ssh_hosts / "ssh_config").read_text(), re.M)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("code", [code for code in _CODE if _TARGET.fullmatch(code)])
def test_its_targets_are_reached(
    code: str, directory: Path, state_dir: Path, key: str, request: pytest.FixtureRequest
) -> None:
    if code.startswith("docker:"):
        request.getfixturevalue("docker_web")  # which says where its daemon is
    env = request.getfixturevalue("env")
    target = _in_place(code.replace("=K", f"={key}").replace(":H", ":server01"))
    with Shell(directory, {**env, "REMIT_STATE_DIR": str(state_dir)}) as shell:
        done = shell.run(f"remit run '{target}' -- true")
    assert done.status == 0, done.printed


# -- Python

_PROGRAM = """\
import contextlib

import anyio

import remit

def function(*values):
    return values

f, p, x = "F", "F", 1

async def main():
    async with remit.connect("local:") as session:
        result = await session.run(["echo", "out"])
        job = await session.start(["cat"], stdin=remit.PIPE)
        await job.send(b"more")
{calls}

anyio.run(main)
"""
# What the page leaves to its readers.
_FILLED = {
    "env={…}": 'env={"A": "1"}',
    "start(…": 'start(["true"]',
    "cmd": "true",
    '"/x"': '"/tmp"',
    "venv/bin": ".",
    '"H"': '"local:"',
    "job.send()": 'await job.send(b"more")',
    "await job.result()": 'await (await session.start(["true"])).result()',
}


def _called(code: str) -> str:
    """The code as statements that can be run where it stands in `_PROGRAM`."""
    for word, value in _FILLED.items():
        code = code.replace(word, value)
    if re.match(r"\w+=", code):
        return f'await session.start(["true"], {code})'
    if code.startswith("async for"):
        return f"{code}:\n    break"
    if code.startswith("with"):  # it is for programs without an event loop
        return f"def block():\n    {code}:\n        pass\nawait anyio.to_thread.run_sync(block)"
    if code.startswith("async with"):
        return f"{code}:\n    pass"
    if code == "job.receive()":
        return f"async with contextlib.aclosing({code}) as records:\n    await anext(records)"
    return code


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_its_calls_run(backend: str, env: dict[str, str], directory: Path, state_dir: Path) -> None:
    (directory / "activate").write_text(":\n")
    calls = ""
    for code in _PYTHON:
        body = textwrap.indent(_called(code), "    ")
        call = f"print({code!r})\nasync def call(job=job):\n{body}\nawait call()\n"
        calls += textwrap.indent(call, " " * 8)
    program = directory / "program.py"
    program.write_text(_PROGRAM.format(calls=calls))
    done = subprocess.run(
        [sys.executable, "-W", "error", PROGRAM, backend, program],
        cwd=directory,
        env={**env, "REMIT_STATE_DIR": str(state_dir)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
