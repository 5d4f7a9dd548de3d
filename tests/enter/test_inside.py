"""`remit` inside, wherever its words and its output may go, and whose jobs it is about."""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.harness import Wire, processes_of, wait_until_gone
from enter.entered import SILENCE, Entered, control_dir, control_dirs, inside
from testbed import pythons, run

INTERRUPTS = [signal.SIGINT, signal.SIGTERM, signal.SIGINT, signal.SIGHUP]


@pytest.fixture
def python() -> pythons.Interpreter:
    return min(pythons.found(), key=lambda one: one.minor)


@pytest.fixture(autouse=True)
def entered(enter: Callable[..., Entered]) -> Entered:
    return enter("sleep", "1000")


def test_a_very_large_environment_is_refused_in_words() -> None:
    env = os.environ | {f"LARGE{number}": "x" * 100_000 for number in range(12)}
    done = inside("start", "--", "true", env=env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("remit: command and environment have 12")
    assert done.stderr.count("\n") == 1


def test_an_interrupt_at_any_moment_leaves_no_trace(state_dir: Path) -> None:
    before = set(os.listdir(state_dir / "jobs")) if (state_dir / "jobs").exists() else set()
    inside("start", "--name", "long", "--", "sleep", "1000")
    for step, number in zip(range(16), itertools.cycle(INTERRUPTS), strict=False):
        for words in (["wait", "long"], ["start", "--", "sleep", f"2000.{step}"]):
            popen = subprocess.Popen(
                [control_dir() / "remit", *words],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                popen.wait(step * 0.02)
            except subprocess.TimeoutExpired:
                os.killpg(popen.pid, number)
            stdout, stderr = popen.communicate(timeout=30)
            assert stderr == b"", words
            # 1 or an abort is what Python before 3.8 makes of a Ctrl-C while it starts.
            allowed = (-number, 128 + number, 1, -signal.SIGABRT)
            if words[0] == "start" and stdout:
                # It was told, and may have been interrupted on its way out.
                assert popen.returncode in (0, *allowed), words
                inside("rm", "--force", stdout.decode().strip())
            else:
                assert popen.returncode in allowed, words
                assert stdout == b""
    inside("rm", "--force", "long")

    def nothing_is_left() -> bool:
        return set(os.listdir(state_dir / "jobs")) == before

    run.wait_until(nothing_is_left, "starts to be taken back")


class TestWhatAJobGets:
    """As anything else that the shell starts."""

    def printed(self, line: str, prelude: str, env: dict[str, str] | None = None) -> str:
        script = f"{prelude}\n{control_dir()}/remit start --name it --shell {shlex.quote(line)}"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True, env=env)
        inside("wait", "it")
        return inside("receive", "it").stdout

    def test_umask_limits_and_niceness(self) -> None:
        line = "umask; ulimit -S -n; ulimit -c; nice"
        prelude = "umask 027; ulimit -S -n 99; ulimit -c 0"
        script = f"{prelude}\nexec nice -n 5 {control_dir()}/remit start --name it --shell '{line}'"
        subprocess.run(["sh", "-c", script], check=True, capture_output=True)
        inside("wait", "it")
        assert inside("receive", "it").stdout == "0027\n99\n0\n5\n"

    def test_no_variable_that_the_shell_has_unset(self) -> None:
        assert "PATH" in os.environ  # the agent has it, and gives it to others
        env = {"ONLY": "this", "LANG": "C"}
        printed = self.printed("/usr/bin/env", "unset PWD", env=env)
        found = dict(line.split("=", 1) for line in printed.splitlines())
        assert found.pop("REMIT_JOB")
        # What /bin/sh itself sets, in front of the launcher and of the job.
        for name in ("PWD", "OLDPWD", "SHLVL", "_"):
            found.pop(name, None)
        assert found == env


class TestWords:
    @pytest.mark.parametrize(
        ("words", "printed"),
        [
            (["echo", "a", "--", "b"], "a -- b\n"),
            (["--", "echo", "a", "--", "b"], "a -- b\n"),
            (["--name", "x", "echo", "--", "--name"], "-- --name\n"),
            (["--", "printf", "%s", "--"], "--"),
        ],
    )
    def test_a_command_keeps_all_of_its_own(self, words: list[str], printed: str) -> None:
        job_id = inside("start", *words).stdout.strip()
        assert inside("receive", job_id).stdout == printed

    @pytest.mark.parametrize("name", ["", "a" * 201, "a\nb", "\x1b[31m"])
    def test_a_name_that_can_be_none_is_wrong_usage(self, name: str) -> None:
        done = inside("start", "--name", name, "--", "true")
        assert (done.returncode, done.stdout) == (2, "")
        assert "a name is 1 to 200 printable characters" in done.stderr


class TestAnotherSession:
    """Its jobs are its own."""

    def test_they_are_neither_seen_nor_stopped_nor_removed(
        self, entered: Entered, bring_up: Callable[..., Wire], state_dir: Path
    ) -> None:
        ours = control_dir() / "remit"
        job_id = inside("start", "--name", "mine", "--", "sleep", "1000").stdout.strip()
        before = control_dirs()
        other = Entered(bring_up(state=state_dir, silence=SILENCE), "sleep", "1000")
        (theirs,) = [path / "remit" for path in control_dirs() if path not in before]

        def said(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run([program, *words], capture_output=True, text=True, timeout=30)

        assert "mine" not in said(theirs, "jobs").stdout
        for words in (
            ["stop", "mine"],
            ["rm", "--force", job_id],
            ["receive", job_id[:6]],
            ["wait", "mine"],
            ["save", "mine", "/dev/null"],
        ):
            done = said(theirs, *words)
            assert (done.returncode, done.stdout) == (1, "")
            assert "no job" in done.stderr
        assert "mine" in said(ours, "jobs").stdout
        assert processes_of(job_id)
        other.wire.goodbye()
        other.wire.wait_ended()
        assert processes_of(job_id)
        assert said(ours, "stop", "mine").returncode == 0
        wait_until_gone(job_id)
