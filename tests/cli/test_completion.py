"""Tab in real shells: commands, options, jobs and targets are completed."""

from __future__ import annotations

import fcntl
import os
import select
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.program import LIMIT, REMIT, Cli
from remit_ssh._hosts import hosts

PROMPT = "shell waits> "
# How each is started so that it reads nothing of the account's, and told of the script.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], "source ./script"),
    "zsh": (["zsh", "-f", "-i"], "autoload -U compinit; compinit -u -D; source ./script"),
}


class Shell:
    """A shell at a terminal of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._unread = b""

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def until(self, text: str) -> None:
        """Reads until the terminal shows it, after all that was read before."""
        end = time.monotonic() + LIMIT
        while text.encode() not in self._unread:
            left = end - time.monotonic()
            assert left > 0, (text, self._unread)
            if select.select([self._fd], [], [], left)[0]:
                self._unread += os.read(self._fd, 65536)
        self._unread = self._unread.partition(text.encode())[2]


@contextmanager
def terminal(argv: list[str], env: dict[str, str], directory: Path) -> Iterator[Shell]:
    fd, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 200))
    try:
        process = subprocess.Popen(
            argv,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=env,
            cwd=directory,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)
        with process:
            try:
                yield Shell(fd)
            finally:
                process.kill()
    finally:
        os.close(fd)


def prepared(cli: Cli, shell: str) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """The shell's environment; and what is typed, and what Tab adds to it."""
    home = cli.directory
    (home / ".ssh").mkdir()
    (home / ".ssh" / "config").write_text("Host build7server *.example\n")
    (home / "script").write_bytes(cli("completion", shell).stdout)
    job = cli.answer("start", "--keep", "--name", "nightly", "local:", "--", "true")
    cli("wait", job)
    (home / "docker").write_text("#!/bin/sh\n[ $1 = ps ] && printf 'database\\nproxy\\n'\n")
    (home / "docker").chmod(0o755)
    env = {**cli.env, "HOME": str(home), "TERM": "dumb", "PS1": PROMPT}
    env["PATH"] = f"{REMIT.parent}:{home}:{env['PATH']}"
    return env, [
        ("remit rece", "ive"),
        ("remit logs --time", "stamps"),
        ("remit receive nigh", "tly"),
        (f"remit stop {job[:8]}", job[8:]),
        ("remit run build7", "server"),
        ("remit run ssh:build7", "server"),
        ("remit run docker:data", "base"),
        ("remit jobs dock", "er:"),
        ("remit wait @", "-"),
    ]


@pytest.mark.parametrize("name", SHELLS)
def test_tab_completes_at_a_terminal(name: str, cli: Cli) -> None:
    env, steps = prepared(cli, name)
    argv, script = SHELLS[name]
    with terminal(argv, env, cli.directory) as shell:
        shell.until(PROMPT)
        shell.type(f"{script}\n")
        shell.until(PROMPT)
        # Fish, which asks the same program, is asked for all.
        for begun, added in (*steps[1:3], *steps[5:7], steps[8]):
            shell.type("\x15" + begun)
            shell.until(begun[-4:])
            shell.type("\t")
            shell.until(added)
            # What was typed stays, and is followed by that alone.
            shell.type("\x01\x0becho '=\x19='\n")
            shell.until(f"\n={begun}{added}")
            shell.until(PROMPT)


def test_fish_completes(cli: Cli) -> None:
    env, steps = prepared(cli, "fish")
    for begun, added in steps:
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source ./script; complete -C '{begun}'"],
            env=env,
            cwd=cli.directory,
            capture_output=True,
            timeout=LIMIT,
            check=True,
        )
        offered = [line.split("\t")[0] for line in done.stdout.decode().splitlines()]
        assert begun.split()[-1] + added in offered, done


def test_what_is_no_shell_has_no_completion(cli: Cli) -> None:
    done = cli("completion", "tcsh", status=2)
    assert done.stderr == b"remit: no completion for 'tcsh'\n  try     bash, zsh or fish\n"


def test_hosts_of_an_ssh_config_are_those_that_are_no_patterns(tmp_path: Path) -> None:
    config = tmp_path / "config"
    lines = [
        "Host a b",
        "  HostName c",
        "host=d",
        'HOST  *.x !e "f g" h',
        "# Host i",
        "Match host j",
    ]
    config.write_text("\n".join(lines))
    assert hosts(str(config)) == ["a", "b", "d", "h"]
    assert hosts(str(tmp_path / "missing")) == []
