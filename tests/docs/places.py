"""The computers that the pages speak of: accounts on an sshd, and containers, by those names."""

import os
import pwd
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from testbed import needs, run
from testbed.accounts import ACCOUNTS
from testbed.containers import Engine
from testbed.sshd import Sshd

# As the pages call them: the testbed's names for the accounts. `BEHIND` is behind the first.
HOSTS = {"server01": "alice", "server02": "bob", "build7": "quiet"}
BEHIND = "inner"
# Where the profile of a login has what sites put there.
SITE = "build7"
_PROFILE = """\
module() { [ "$1" = load ] && export LOADEDMODULES="$2"; }
conda() { [ "$1" = activate ] && export CONDA_DEFAULT_ENV="$2"; }
"""
CONTAINER = "web"


@contextmanager
def hosts(directory: Path) -> Iterator[Path]:
    """An sshd for `HOSTS`; yields the directory of an ``ssh`` that knows them by name.

    Each account has a state directory of this run's own: another run may share the account.
    """
    server = Sshd(directory)
    try:
        with (directory / "sshd_config").open("a") as config:
            for name, (account, _) in ACCOUNTS.items():
                more = f" HOME={_home_of_site(directory)}" if name == HOSTS[SITE] else ""
                config.write(
                    f"Match User {account}\n  SetEnv REMIT_STATE_DIR={directory}/{account}{more}\n"
                )
        server.restart()
        text = server.config.read_text()
        for host, name in HOSTS.items():
            text = text.replace(f"Host {name}\n", f"Host {host}\n")
        # By way of another host: that of the last block.
        block = text[text.rindex("Host ") :].replace("Host build7", f"Host {BEHIND}")
        server.config.write_text(f"{text}{block}  ProxyJump server01\n")
        programs = directory / "bin"
        programs.mkdir()
        ssh = programs / "ssh"
        ssh.write_text(f'#!/bin/sh\nexec {needs.tool("ssh")} -F {server.config} "$@"\n')
        ssh.chmod(0o755)
        yield programs
    finally:
        server.close()


def _home_of_site(directory: Path) -> Path:
    """For bash, which looks for its profile there."""
    home = directory / "home-of-site"
    home.mkdir(mode=0o755)
    (home / ".bash_profile").write_text(_PROFILE)
    return home


def clean(directory: Path) -> None:
    """Gives each account an empty state directory. For when no job runs in them."""
    for account, _ in ACCOUNTS.values():
        entry = pwd.getpwnam(account)
        state = directory / account
        shutil.rmtree(state, ignore_errors=True)
        state.mkdir(mode=0o700)
        os.chown(state, entry.pw_uid, entry.pw_gid)


def container(engine: Engine) -> None:
    """A container `CONTAINER` with an old Python."""
    name = engine.new_python()
    run.command([engine.program, "rename", name, CONTAINER], env=engine.env)
