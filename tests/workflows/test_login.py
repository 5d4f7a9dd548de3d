"""``login=True``: a line run by the account's login shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import remit
from cli.program import Cli
from remit._agent.base import login
from testbed.sshd import Sshd

pytestmark = pytest.mark.anyio

# What each shell reads at a login and not otherwise, and how it sets a variable.
SHELLS = {
    "bash": (".bash_profile", "export READ=yes"),
    "dash": (".profile", "READ=yes; export READ"),
    "zsh": (".zprofile", "export READ=yes"),
    "mksh": (".profile", "export READ=yes"),
    "tcsh": (".login", "setenv READ yes"),
    "fish": (".config/fish/config.fish", "status is-login; and set -x READ yes"),
}


@pytest.mark.parametrize("name", SHELLS)
def test_each_shell_reads_what_its_logins_read(name: str, tmp_path: Path) -> None:
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"there is no {name}")
    file, line = SHELLS[name]
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(f"{line}\n")
    words = login.words(os.fsencode(program), b"printenv READ; printenv GIVEN")
    done = subprocess.run(
        words,
        executable=program,
        env={"HOME": str(tmp_path), "PATH": os.defpath, "GIVEN": "too"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.split() == [b"yes", b"too"], done


IS_LOGIN = "shopt -q login_shell && echo a login shell of $REMIT_JOB; exit 3"


@pytest.mark.real
async def test_a_line_is_run_as_after_a_login(sshd: Sshd) -> None:
    async with remit.connect(f"ssh:quiet?config={sshd.config}") as session:
        for placement in ("return", "keep"):
            job = await session.start(IS_LOGIN, login=True, placement=placement)
            assert job.command == IS_LOGIN
            assert [line async for line in job.lines()] == [f"a login shell of {job.id}"]
            assert await job.wait() is remit.JobState.FAILED
            assert job.outcome is not None
            assert job.outcome.exit_status == 3
            await job.remove()


async def test_only_a_line_is_for_a_login_shell() -> None:
    async with remit.connect("local:") as session:
        for work in (["true"], os.getpid):
            with pytest.raises(ValueError, match="login=True is for a line"):
                await session.start(work, login=True)


@pytest.mark.real
def test_words_are_given_to_it_as_they_are(sshd: Sshd, state_dir: Path, tmp_path: Path) -> None:
    cli, target = Cli(state_dir, tmp_path), f"ssh:quiet?config={sshd.config}"
    odd = "a 'b' $HOME * ; \\"
    assert cli("run", "--login", target, "--", "printf", "%s", odd).stdout.decode() == odd
    assert cli("run", "--login", "--shell", target, "--", IS_LOGIN, status=3).stdout
    job = cli.answer("start", "--login", "--shell", target, "--", IS_LOGIN)
    assert cli.answer("receive", job) == f"a login shell of {job}"
