"""Runs the blocks of one section, in order, and says where a page is not so."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from docs.expected import Command, Names, commands
from docs.pages import ROOT, RUN, Block, Section
from docs.shell import Done, Shell
from docs.terminal import Terminal

PROGRAM = Path(__file__).with_name("program.py")
# Seconds for one program of a page.
LIMIT = 60.0


class NotSo(AssertionError):
    """A page says what is not so."""


class World:
    """A directory and an environment in which a section's blocks are run."""

    def __init__(self, directory: Path, env: dict[str, str]) -> None:
        self._directory = directory
        self._env = env
        self._names = Names()

    def run(self, section: Section, backend: str) -> None:
        """Raises NotSo naming the block, what it says and what was printed."""
        printed = ""
        files: list[str] = []
        with ExitStack() as stack:
            shell = stack.enter_context(Shell(self._directory, self._env))
            for block in section.blocks:
                where = f"{section.page}:{block.line}"
                if name := block.argument("file"):
                    (self._directory / name).write_text(block.text)
                    files.append(name)
                elif block.directive == "prints":
                    if not self._names.match(block.text, printed):
                        raise NotSo(f"{where}: the program before it printed\n{printed}")
                elif runner := block.argument("run by"):
                    _check_run_elsewhere(block, runner, where)
                elif original := block.argument("same as"):
                    if (ROOT / original).read_text() != block.text:
                        raise NotSo(f"{where}: {original} is another text")
                elif block.language == "python":
                    printed = self._program(block, backend, where)
                elif block.directive == "terminal":
                    self._in_terminal(block, where)
                elif block.language == "console":
                    self._provide(block, shell)
                    self._in_shell(shell, block, where)
                elif block.language in RUN:
                    raise NotSo(f"{where}: nobody runs this")
        run = "\n".join(b.directive + b.text for b in section.blocks if b.language == "console")
        for name in files:
            if not re.search(rf"(?<![\w.]){re.escape(Path(name).stem)}\b", run):
                raise NotSo(f"{section.page}: no command of {section.title!r} uses {name}")

    def _provide(self, block: Block, shell: Shell) -> None:
        if original := block.argument("with"):
            shutil.copy(ROOT / original, self._directory)
        elif plugin := block.argument("plugin"):
            # What an installation leaves, where Python looks for it.
            shell.run(f"export PYTHONPATH={self._directory}")
            info = self._directory / f"{plugin}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {plugin}\nVersion: 1.0\n")
            (info / "entry_points.txt").write_text(f"[remit]\n{plugin} = {plugin}\n")

    def _program(self, block: Block, backend: str, where: str) -> str:
        path = self._directory / "program.py"
        path.write_text(block.text)
        done = subprocess.run(
            [sys.executable, "-W", "error", PROGRAM, backend, path],
            cwd=self._directory,
            env=self._env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        if done.returncode != 0:
            raise NotSo(f"{where}: the program failed on {backend}\n{done.stdout}{done.stderr}")
        return done.stdout

    def _in_shell(self, shell: Shell, block: Block, where: str) -> None:
        steps = commands(block.text)
        if block.directive == "in the checkout":
            shell.run(f"cd {ROOT}")
        for number, step in enumerate(steps):
            done = shell.run(self._names.in_words(step.words))
            if not self._names.match(step.output, done.printed):
                raise NotSo(f"{where}: {step.words}\n-- says\n{step.output}-- was\n{done.printed}")
            _check_status(done, steps[number:], where)
        if block.directive == "in the checkout":
            shell.run(f"cd {self._directory}")

    def _in_terminal(self, block: Block, where: str) -> None:
        steps = commands(block.text)
        with Terminal(self._directory, self._env) as terminal:
            terminal.read_until(steps[0].prompt)
            for number, step in enumerate(steps):
                following = steps[number + 1].prompt if number + 1 < len(steps) else "$ "
                terminal.type(self._names.in_words(step.words))
                # The terminal echoes what is typed, on a line of its own.
                shown = terminal.read_until(following).partition("\n")[2]
                if not self._names.match(step.output, f"{shown}\n" if shown else ""):
                    raise NotSo(f"{where}: {step.words}\n-- says\n{step.output}-- was\n{shown}")


def _check_run_elsewhere(block: Block, runner: str, where: str) -> None:
    text = (ROOT / runner).read_text()
    for command in commands(block.text):
        if not re.search(rf"^{re.escape(command.words)}(?: |$)", text, re.MULTILINE):
            raise NotSo(f"{where}: {runner} does not run `{command.words}`")


def _check_status(done: Done, steps: Sequence[Command], where: str) -> None:
    """A command that fails is told by the page: the next one shows its status."""
    shown = len(steps) > 1 and "$?" in steps[1].words
    if done.status != 0 and not shown:
        raise NotSo(f"{where}: {steps[0].words}\nended with {done.status}\n{done.printed}")


def remove_all_jobs(target: str, env: dict[str, str]) -> None:
    """All that is known of there, whatever it does."""
    words = [] if target == "local:" else [target]
    on = [] if target == "local:" else ["--on", target]
    listed = _remit(["jobs", "--json", *words], env)
    if ids := [job["id"] for job in json.loads(listed)]:
        _remit(["rm", "--force", *on, *ids], env)


def _remit(words: list[str], env: dict[str, str]) -> str:
    argv = [sys.executable, "-m", "remit.cli", *words]
    done = subprocess.run(
        argv, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
