"""``--sudo[=USER]``: the targets of a command reached as another account."""

from __future__ import annotations

import pwd
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.program import Cli
from remit import TargetError
from remit.cli import _sudo
from remit.cli._report import UsageError
from testbed import needs
from testbed.accounts import ACCOUNTS

BOB = ACCOUNTS["bob"][0]


def through(user: str, **words: object) -> dict[str, object]:
    _sudo.through(words, user)
    return words


def test_targets_say_how_they_are_reached() -> None:
    via = "via=sudo -n -u root --"
    assert through("root", target="local:", other="x") == {"target": f"local:?{via}", "other": "x"}
    assert through("root", targets=("web1", "ssh:b?state=/c"), on=None) == {
        "targets": [f"web1?{via}", f"ssh:b?state=/c&{via}"],
        "on": None,
    }
    assert through("me@corp", on="docker:x") == {"on": "docker:x?via=sudo -n -u me@corp --"}
    assert through("#1000", on="web1") == {"on": "web1?via=sudo -n -u '#1000' --"}


@pytest.mark.parametrize("user", ["", "-x", "a b", "a\n", "a/b", "$x", "#x", "'"])
def test_what_is_no_account_is_refused(user: str) -> None:
    with pytest.raises(UsageError, match="no name of an account"):
        through(user, target="local:")


def test_what_cannot_be_reached_so_is_refused() -> None:
    with pytest.raises(TargetError, match="gives 'via' twice"):
        through("root", target="local:?via=nice")
    with pytest.raises(UsageError, match="takes no options") as caught:
        through("root", target="command:env A=1")
    assert caught.value.hint.startswith("'command:env A=1 sudo -n -u root --'")
    with pytest.raises(UsageError, match="goes with a target"):
        through("root", on=None, targets=())


@pytest.fixture
def state(ssh_accounts: None) -> Iterator[Path]:
    """A state directory of bob's."""
    needs.tool("sudo")
    bob = pwd.getpwnam(BOB)
    state = Path(bob.pw_dir) / ".local" / "state" / f"remit-{secrets.token_hex(8)}"
    yield state
    shutil.rmtree(state, ignore_errors=True)


@pytest.mark.real
def test_a_job_of_another_account_is_known_by_its_target(cli: Cli, state: Path) -> None:
    target = f"local:?state={state}"
    assert cli.answer("run", f"--sudo={BOB}", target, "--", "id", "-un") == BOB
    assert cli.answer("run", "--sudo", target, "--", "id", "-un") == "root"  # never a TARGET
    cli("start", "--keep", "--name", "bobs", f"--sudo={BOB}", target, "--", "id", "-un")
    assert cli.answer("wait", "bobs").endswith("Completed")
    assert cli.answer("receive", "bobs") == BOB
    assert cli.listed()["bobs"]["location"] == "localhost"
    assert cli.answer("logs", "--on", target, f"--sudo={BOB}", "bobs") == BOB
    assert (state / "jobs").owner() == BOB
    cli("rm", "bobs")


@pytest.mark.real
def test_jobs_begin_where_they_are_left(cli: Cli, state: Path, tmp_path: Path) -> None:
    """Where sudo leaves them; at home, where that account cannot go there."""
    tmp_path.chmod(0o700)
    target, home = f"local:?state={state}", pwd.getpwnam(BOB).pw_dir
    cli("start", "--keep", "--name", "where", f"--sudo={BOB}", target, "--", "pwd")
    assert cli.answer("receive", "where") == home
    assert cli.answer("run", f"--sudo={BOB}", target, "--", "pwd") == home
    assert cli.answer("run", f"--sudo={BOB}", "--cwd=/usr", target, "--", "pwd") == "/usr"
    cli.directory = Path("/usr")
    assert cli.answer("run", f"--sudo={BOB}", target, "--", "pwd") == "/usr"


@pytest.mark.real
def test_a_returned_job_is_collected_as_another_account(cli: Cli, state: Path) -> None:
    two = cli("start", "--shell", f"--sudo={BOB}", "local:", "local:", "--", "id -un").stdout
    for line in two.decode().splitlines():
        job_id, target = line.split("\t")
        assert target == f"local:?via=sudo -n -u {BOB} --"
        assert cli.answer("receive", job_id) == BOB


def test_a_user_without_an_equals_sign_is_a_target(cli: Cli) -> None:
    done = cli("run", "--sudo", "nosuch:there", "--", "true", status=2)
    assert b"no transport is called 'nosuch'" in done.stderr
    done = cli("jobs", "--sudo", status=2)
    assert b"--sudo goes with a target" in done.stderr
