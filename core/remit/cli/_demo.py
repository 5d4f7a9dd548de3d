"""``remit demo``: the three workflows with real jobs, as a person would type them."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence

from remit._agent.enter import rc_files
from remit._plugins import plugins
from remit._target import parse_target
from remit.cli._report import FAILED, OK, answer, say
from remit.cli._typing import DemoFailed, Typist

# What each step runs; the words that a person types are shown with plain "remit".
PROGRAM = [sys.executable, "-P", "-m", "remit.cli"]
# Seconds for one step, connecting included.
STEP_LIMIT = 60.0

_LINES = "for i in 1 2 3; do echo line $i; sleep 0.3; done"


def demo(target: str) -> int:
    """Walks through all three; FAILED at the first step that shows something else."""
    with tempfile.TemporaryDirectory(prefix="remit-demo-") as directory:
        stage = Stage(target, directory)
        try:
            for workflow in (_interactive, _return_to_caller, _keep_on_remote):
                workflow(stage)
        except DemoFailed as exc:
            say(f"remit: the demo ends here: {exc}")
            return FAILED
        finally:
            stage.clean_up()
    answer("", "All three workflows are done.")
    return OK


class Stage:
    """Runs commands and shows them, with a state directory here that is thrown away."""

    def __init__(self, target: str, directory: str) -> None:
        self.target = target
        self.location = parse_target(target, plugins())[0].address or "localhost"
        self.token = secrets.token_hex(4)
        self.env = dict(os.environ, REMIT_STATE_DIR=os.path.join(directory, "state"), TERM="dumb")
        self._undo: list[Callable[[], object]] = []

    def title(self, text: str) -> None:
        answer("", f"== {text}")

    def remit(self, *words: str, shows: str = "", status: int = OK) -> str:
        """Runs ``remit WORDS`` and shows both. Raises DemoFailed unless its output matches the
        pattern ``shows``; returns the output."""
        typed = shlex.join(["remit", *words])
        answer(f"$ {typed}")
        done = self._run(words)
        for text in (done.stdout, done.stderr):
            if text:
                answer(*text.rstrip("\n").split("\n"))
        if done.returncode != status:
            raise DemoFailed(f"`{typed}` ended with {done.returncode}, not {status}")
        if not re.search(shows, done.stdout):
            raise DemoFailed(f"`{typed}` did not show {shows!r}")
        return done.stdout.strip()

    def at_the_end(self, *words: str) -> None:
        """What is left on the target is removed by ``remit WORDS``, however the demo ends."""
        self._undo.append(lambda: self._run(words))

    def clean_up(self) -> None:
        for undo in reversed(self._undo):
            undo()

    def _run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                [*PROGRAM, *words],
                env=self.env,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=STEP_LIMIT,
            )
        except subprocess.TimeoutExpired as exc:
            words_shown = shlex.join(["remit", *words])
            raise DemoFailed(f"`{words_shown}` did not end in {exc.timeout:g} s") from exc


def _interactive(stage: Stage) -> None:
    stage.title(f"1. Interactive: enter {stage.target}, start a job there, keep its result there")
    path = f"/tmp/remit-demo-{stage.token}"
    stage.at_the_end("run", stage.target, "--", "rm", "-f", path)
    typed = shlex.join(["remit", "enter", stage.target])
    answer(f"$ {typed}")
    shell = [*PROGRAM, "enter", stage.target]
    with Typist(shell, stage.env, mark=rc_files.mark(stage.location), limit=STEP_LIMIT) as typist:
        typist.type("remit start --name listing -- ls /", shows=r"^j[a-z2-7]{12}")
        typist.type("remit wait listing", shows=r"^j.*Completed")
        typist.type("remit jobs", shows=r"^j.*listing +Completed +True +localhost +ls /")
        typist.type(f"remit receive listing > {path}")
        typist.type("exit")
        status = typist.leave()
    if status != OK:
        raise DemoFailed(f"`{typed}` ended with {status}")
    # A session of its own: the file outlived the one that made it.
    stage.remit("run", stage.target, "--", "cat", path, shows=r"(?m)^(etc|usr|bin)$")


def _return_to_caller(stage: Stage) -> None:
    stage.title(f"2. Return to caller: start it on {stage.target}, its results come here")
    command = ["--shell", stage.target, "--", _LINES]
    job = stage.remit("start", "--name", "count", *command, shows="^j[a-z2-7]{12}$")
    stage.at_the_end("rm", "--force", job)
    stage.remit("jobs", shows=rf"(?m)^{job} +count +(Running|Completed) +True ")
    stage.remit("wait", "count", shows="Completed")
    stage.remit("receive", "count", shows="^line 1\nline 2\nline 3\n$")
    stage.remit("jobs", shows=rf"(?m)^{job} +count +Completed +False ")
    stage.remit("rm", "count")


def _keep_on_remote(stage: Stage) -> None:
    stage.title(f"3. Keep on remote: the results stay on {stage.target} until they are fetched")
    name = f"kept-{stage.token}"
    command = ["--shell", stage.target, "--", _LINES]
    job = stage.remit("start", "--keep", "--name", name, *command, shows="^j[a-z2-7]{12}$")
    stage.at_the_end("rm", "--force", "--on", stage.target, job)
    stage.remit("jobs", stage.target, shows=rf"(?m)^{job} +{name} +(Running|Completed) +True ")
    stage.remit("wait", name, shows="Completed")
    stage.remit("receive", name, "--keep", shows="^line 1\nline 2\nline 3\n$")
    stage.remit("receive", job[:6], shows="^line 1\nline 2\nline 3\n$")
    stage.remit("jobs", shows=rf"(?m)^{job} +{name} +Completed +False ")
    stage.remit("rm", name)
