"""All of our transports keep what a transport promises: against stubs, and against the tools."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from remit.abc import Target, Transport
from remit.testing import LinkConformance, StreamConformance, StubTool, TransportConformance
from remit_command import Command
from remit_container import Container
from remit_local import Local
from remit_ssh import Ssh
from testbed.containers import Engine
from testbed.sshd import Sshd


class TestLocal(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return Local()

    @pytest.fixture
    def target(self) -> Target:
        return Target("local", "")

    @pytest.fixture
    def refused_addresses(self) -> Sequence[str]:
        return ["-x", "here", "/"]


class TestCommand(StreamConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return Command()

    @pytest.fixture
    def target(self, stub_tool: StubTool) -> Target:
        return Target("command", f"{shlex.quote(stub_tool('kubectl'))} exec -i 'a pod' --")

    @pytest.fixture
    def refused_addresses(self) -> Sequence[str]:
        return ["", "  ", "''", "-x", "sh 'unbalanced", 'sh "', "sh \\", "sh \0"]


_REFUSED_BY_SSH = [
    "",
    "-oProxyCommand=false",
    "user@",
    "@host",
    "user@-oProxyCommand=false",
    "-lroot@host",
    "user:password@host",
    "host:",
    "host:0",
    "host:65536",
    "host:22x",
    "host:-1",
    "host:٢٢",
    "a:b:c",
    "[::1",
    "[]",
    "[::1]22",
    "[host]:22",
    "two words",
    "host\n",
    "host\0",
    "host\x7f",
    "host;id",
    "$(id)",
    "`id`@host",
    "host/path",
    "host\\",
]


class TestSsh(StreamConformance):
    @pytest.fixture
    def transport(self, stub_tool: StubTool) -> Transport:
        return Ssh(program=stub_tool("ssh", shell=True))

    @pytest.fixture
    def target(self) -> Target:
        return Target("ssh", "host")

    @pytest.fixture
    def refused_addresses(self) -> Sequence[str]:
        return _REFUSED_BY_SSH


_REFUSED_BY_ENGINES = ["", "-it", "--privileged", "two words", "a/b", "name\n", "nämé", "$(id)"]


@pytest.mark.parametrize("engine", ["docker", "podman"])
class TestContainer(StreamConformance):
    @pytest.fixture
    def transport(self, stub_tool: StubTool, engine: str) -> Transport:
        return Container(engine, stub_tool(engine, skip=3))

    @pytest.fixture
    def target(self, engine: str) -> Target:
        return Target(engine, "name")

    @pytest.fixture
    def refused_addresses(self) -> Sequence[str]:
        return _REFUSED_BY_ENGINES


@pytest.mark.real
class TestRealSsh(TransportConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return Ssh()

    @pytest.fixture
    def target(self, sshd: Sshd) -> Target:
        return Target("ssh", "quiet", {"config": str(sshd.config)})


@pytest.mark.real
class TestRealCommand(TransportConformance):
    """Two programs in a row, the inner one without ``exec``: a tree, not a process."""

    @pytest.fixture
    def transport(self) -> Transport:
        return Command()

    @pytest.fixture
    def target(self, tmp_path: Path) -> Target:
        wrapper = tmp_path / "wrapper.py"
        wrapper.write_text("import subprocess, sys\nsys.exit(subprocess.call(sys.argv[1:]))\n")
        return Target("command", shlex.join([sys.executable, "-S", str(wrapper)]))


@pytest.mark.real
class TestRealDocker(StreamConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return Container("docker", "docker")

    @pytest.fixture
    def target(self, docker: Engine) -> Target:
        return Target("docker", docker.bare)


@pytest.mark.real
class TestRealPodman(StreamConformance):
    @pytest.fixture
    def transport(self) -> Transport:
        return Container("podman", "podman")

    @pytest.fixture
    def target(self, podman: Engine) -> Target:
        return Target("podman", podman.bare)


@pytest.mark.real
class TestDockerLinks(LinkConformance):
    @pytest.fixture(
        params=["asyncio"]
    )  # containers are slow, and the other kind has the other loop
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def transport(self) -> Transport:
        return Container("docker", "docker")

    @pytest.fixture
    def target(self, docker: Engine) -> Target:
        return Target("docker", docker.python)


@pytest.mark.real
class TestPodmanLinks(LinkConformance):
    @pytest.fixture(params=["trio"])
    def anyio_backend(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def transport(self) -> Transport:
        return Container("podman", "podman")

    @pytest.fixture
    def target(self, podman: Engine) -> Target:
        return Target("podman", podman.python)
