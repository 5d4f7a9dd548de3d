"""The testbed's fixtures, and the line at the end of a run that tells what was left out.

The tests' conftest.py loads this module as a plugin.
"""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import accounts, containers, disk, limits, minimal, namespace, needs, run, shim
from testbed.containers import Engine
from testbed.disk import Disk
from testbed.jump import Jump
from testbed.limits import ProcessLimit
from testbed.link import Link
from testbed.minimal import Minimal
from testbed.namespace import PidNamespace
from testbed.shim import Shim
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


@pytest.fixture
def quiet_config(sshd: Sshd) -> Path:
    """The ssh_config of a user who asked ssh not to say why it failed."""
    return sshd.config_with("LogLevel QUIET")


@pytest.fixture(scope="session")
def jump(run_directory: Path, ssh_accounts: None) -> Iterator[Jump]:
    """An sshd behind another: ``f"ssh:alice?config={jump.config}"`` goes through a jump host."""
    servers = Jump(run_directory / "jump")
    yield servers
    servers.close()


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


@pytest.fixture
def pid_namespace(run_directory: Path) -> Iterator[PidNamespace]:
    """A pid namespace with bystanders, for this test to kill in; a target is ``.target()``."""
    with namespace.pid_namespace(run_directory / "namespace.log") as found:
        yield found


@pytest.fixture
def btrfs(run_directory: Path) -> Iterator[Disk]:
    """A small file system of its own for this test to fill up, which copies on write."""
    needs.root("a file system of its own")
    with disk.btrfs(run_directory / f"btrfs{next(_serial)}") as found:
        yield found


@pytest.fixture
def process_limit() -> Iterator[ProcessLimit]:
    """A limit of processes for this test to meet, which holds for root; see ``.target()``."""
    with limits.process_limit() as found:
        yield found


@pytest.fixture(scope="session")
def descriptor_limit() -> Callable[..., str]:
    """``descriptor_limit(48)`` is a target with so few: `testbed.limits.descriptor_limit`."""
    needs.tool("prlimit")
    return limits.descriptor_limit


@pytest.fixture(scope="session")
def shims(run_directory: Path) -> Callable[..., Shim]:
    """``shims(python).target``: what is wrong there (clock, disk, forks, C library) can be said."""
    built = shim.build(run_directory / "shim")

    def new(python: str | Path = sys.executable) -> Shim:
        directory = run_directory / f"shim{next(_serial)}"
        directory.mkdir(mode=0o755)
        return Shim(built, directory, python)

    return new


@pytest.fixture
def musl(shims: Callable[..., Shim]) -> Shim:
    """An interpreter whose C library keeps signal 34 to itself; ``.target``."""
    found = shims()
    found.imitate_musl()
    return found


@pytest.fixture
def slow_disk(shims: Callable[..., Shim]) -> Shim:
    """An interpreter for which writes to files, renames and fsyncs take their time; ``.target``."""
    found = shims()
    found.slow_down(write=0.02, sync=0.4)
    return found


_serial = itertools.count(1)


@pytest.fixture
def ssh_link(run_directory: Path, ssh_accounts: None) -> Iterator[Link]:
    """A healthy link to an sshd of its own, for this test to break."""
    needs.root("a link between network namespaces")
    for tool in ("ip", "ss", "iptables", "nsenter"):
        needs.tool(tool)
    link = Link(run_directory / f"link{next(_serial)}")
    yield link
    link.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason in needs.left_out:
        terminalreporter.write_line(f"left out: {reason}", yellow=True)
