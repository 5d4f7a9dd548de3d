"""The testbed's fixtures, and the line at the end of a run that tells what was left out.

The tests' conftest.py loads this module as a plugin.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import accounts, containers, minimal, needs, run
from testbed.containers import Engine
from testbed.link import Link
from testbed.minimal import Minimal
from testbed.sshd import Sshd


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """The run's directory in /tmp; whatever the testbed starts keeps its files there."""
    needs.tool("setpriv")
    with run.directory() as path:
        yield path


@pytest.fixture(scope="session")
def ssh_accounts() -> Iterator[None]:
    needs.root("sshd for other accounts")
    for tool in ("sshd", "ssh", "ssh-keygen", "useradd"):
        needs.tool(tool)
    with accounts.held():
        yield


@pytest.fixture(scope="session")
def sshd(run_directory: Path, ssh_accounts: None) -> Iterator[Sshd]:
    """An OpenSSH server on loopback; a target is ``f"ssh:alice?config={sshd.config}"``."""
    server = Sshd(run_directory / "sshd")
    yield server
    server.close()


@pytest.fixture(scope="session")
def docker(run_directory: Path) -> Iterator[Engine]:
    """A dockerd of the run's own; a target is ``f"docker:{docker.python}"``."""
    needs.root("dockerd")
    with containers.docker(run_directory / "docker") as engine, run.environment(engine.env):
        yield engine


@pytest.fixture(scope="session")
def podman(run_directory: Path) -> Iterator[Engine]:
    """Podman with storage of the run's own; a target is ``f"podman:{podman.python}"``."""
    needs.root("podman with runc")
    with containers.podman(run_directory / "podman") as engine, run.environment(engine.env):
        yield engine


@pytest.fixture(scope="session")
def minimal_python(run_directory: Path) -> Iterator[Minimal]:
    """A root directory with Debian's python3-minimal and busybox; ``.target`` leads into it."""
    needs.root("a root directory with python3-minimal")
    with minimal.held(run_directory / "minimal") as root:
        yield root


_links = itertools.count(1)


@pytest.fixture
def ssh_link(run_directory: Path, ssh_accounts: None) -> Iterator[Link]:
    """A healthy link to an sshd of its own, for this test to break."""
    needs.root("a link between network namespaces")
    for tool in ("ip", "ss", "iptables", "nsenter"):
        needs.tool(tool)
    link = Link(run_directory / f"link{next(_links)}")
    yield link
    link.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in needs.left_out:
        terminalreporter.write_line(f"left out: {reason}", yellow=True)
