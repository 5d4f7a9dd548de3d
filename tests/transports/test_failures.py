"""What a transport's failure means: by the words that the tools say, and by failures made here."""

import shutil
import socket
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import remit
from remit.abc import End, ExplainsFailure, Target, Transport
from remit.testing import StubTool
from remit_command import Command
from remit_container import Container
from remit_ssh import Ssh
from testbed import run
from testbed.containers import Engine
from testbed.jump import BROKEN, Jump
from testbed.sshd import Sshd

BOX = b"@" * 59

# As OpenSSH 9.2 says it: what it said, the words of the error, whether it is about the login.
SSH = {
    "changed host key": (
        BOX + b"\r\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\r\n" + BOX + b"\r\n"
        b"IT IS POSSIBLE THAT SOMEONE IS DOING SOMETHING NASTY!\r\n"
        b"Host key for box has changed and you have requested strict checking.\r\n"
        b"Host key verification failed.\r\n",
        "the host key of box has changed",
        False,
    ),
    "unknown host key": (
        b"No ED25519 host key is known for [127.0.0.1]:48683 and you have requested strict "
        b"checking.\r\nHost key verification failed.\r\n",
        "the host key of box is not known",
        False,
    ),
    "key refused": (b"me@box: Permission denied (publickey).\r\n", "did not let us in", True),
    "password refused": (
        b"me@box: Permission denied (publickey,password,keyboard-interactive).\r\n",
        "did not let us in",
        True,
    ),
    "too many keys": (
        b"Received disconnect from 127.0.0.1 port 22:2: Too many authentication failures\r\n"
        b"Disconnected from 127.0.0.1 port 22\r\n",
        "did not let us in",
        True,
    ),
    "jump host refuses the key": (
        b"me@jump: Permission denied (publickey).\r\n"
        b"kex_exchange_identification: Connection closed by remote host\r\n"
        b"Connection closed by UNKNOWN port 65535\r\n",
        "box was not reached: the jump host jump did not let us in",
        False,
    ),
    "not from the jump host": (
        b"channel 0: open failed: connect failed: Connection refused\r\n"
        b"stdio forwarding failed\r\n"
        b"Connection closed by UNKNOWN port 65535\r\n",
        "box was not reached from its jump host: connect failed: Connection refused",
        False,
    ),
    "a silent jump host": (
        b"Connection closed by UNKNOWN port 65535\r\n",
        "what leads there (ProxyJump, ProxyCommand) ended",
        False,
    ),
    "unprotected key": (
        BOX + b"\r\n@         WARNING: UNPROTECTED PRIVATE KEY FILE!          @\r\n" + BOX + b"\r\n"
        b"Permissions 0666 for 'key' are too open.\r\nLoad key \"key\": bad permissions\r\n"
        b"me@box: Permission denied (publickey).\r\n",
        "did not let us in",
        True,
    ),
    "refused": (
        b"ssh: connect to host box port 22: Connection refused\r\n",
        "box refused the connection",
        False,
    ),
    "firewall": (
        b"ssh: connect to host box port 22: Permission denied\r\n"
        b"ssh: connect to host box port 22: Network is unreachable\r\n",
        "there is no route to box",
        False,
    ),
    "timed out": (
        b"ssh: connect to host box port 22: Connection timed out\r\n",
        "box did not answer in time",
        False,
    ),
    "no banner": (
        b"Connection timed out during banner exchange\r\n"
        b"Connection to 127.0.0.1 port 38551 timed out\r\n",
        "box did not answer in time",
        False,
    ),
    "no such name": (
        b"ssh: Could not resolve hostname box: Name or service not known\r\n",
        "the name box was not found",
        False,
    ),
    "no such jump host": (
        b"ssh: Could not resolve hostname jump: Name or service not known\r\n"
        b"kex_exchange_identification: Connection closed by remote host\r\n"
        b"Connection closed by UNKNOWN port 65535\r\n",
        "was not found",
        False,
    ),
    "MaxStartups": (
        b"kex_exchange_identification: Connection closed by remote host\r\n"
        b"Connection closed by 127.0.0.1 port 2222\r\n",
        "ended the connection before the login",
        False,
    ),
    "reset": (
        b"kex_exchange_identification: read: Connection reset by peer\r\n"
        b"Connection reset by 127.0.0.1 port 38551\r\n",
        "ended the connection before the login",
        False,
    ),
    "remote command": (
        b"Cannot execute command-line and remote command.\r\n",
        "has a RemoteCommand",
        False,
    ),
    "bad option": (
        b"/c: line 2: Bad configuration option: frobnicate\r\n"
        b"/c: terminating, 1 bad configuration options\r\n",
        "does not accept its configuration",
        False,
    ),
    "bad value": (
        b"/c line 2: Bad port 'yes'.\r\n/c: terminating, 1 bad configuration options\r\n",
        "does not accept its configuration",
        False,
    ),
    "no common cipher": (
        b"Unable to negotiate with 127.0.0.1 port 22: no matching cipher found. Their offer: x\r\n",
        "no common way to encrypt",
        False,
    ),
}


@pytest.mark.parametrize("case", SSH)
def test_what_ssh_says_is_explained(case: str) -> None:
    said, words, about_login = SSH[case]
    error = Ssh().explain(Target("ssh", "me@box:22"), End(255, said))
    assert error is not None
    assert words in error.message
    assert isinstance(error, remit.AuthenticationError) is about_login
    assert error.hint
    assert error.exit_status == 255
    assert error.stderr_tail == said
    # ssh's own words, each of its lines.
    assert error.evidence == said.decode().replace("\r", "").strip()


@pytest.mark.parametrize(
    "end",
    [
        End(255, b""),  # the remote command's own 255, or its shell was killed
        End(255, b"bash: line 1: x: Permission denied\n"),
        End(127, b"bash: python3: command not found\n"),
        End(1, b"Connection refused\n"),
        End(0, b""),
        End(None, b"ssh: connect to host box port 22: Connection refused\r\n"),
    ],
)
def test_what_ssh_did_not_say_is_not_explained(end: End) -> None:
    assert Ssh().explain(Target("ssh", "box"), end) is None


def test_hints_lead_to_the_very_place(tmp_path: Path) -> None:
    config = tmp_path / "a config"
    config.write_text("")
    target = Target("ssh", "me@box:2222", {"config": str(config)})
    for said in (b"me@box: Permission denied (publickey).", b"Host key verification failed."):
        error = Ssh().explain(target, End(255, said))
        assert error is not None
        assert f"`ssh -F '{config}' -p 2222 -l me box`" in error.hint


@pytest.mark.parametrize(
    "noise",
    [
        b"git@github.com: Permission denied (publickey).\r\nfatal: Could not read from remote.\n",
        b"git@github.com: Permission denied (publickey).\r\n",
        b"curl: (7) Failed to connect to localhost port 80: Connection refused\n",
        b"ssh: connect to host other port 22: Connection refused\r\nmake: *** [all] Error 255\n",
        b"rsync: connection unexpectedly closed\nHost key verification failed.\r\nwell.\n",
    ],
)
@pytest.mark.parametrize(
    "last",
    [b"", b"Connection to box closed by remote host.\r\n", b"client_loop: send disconnect\r\n"],
)
def test_what_a_login_prints_is_not_taken_for_sshs_own(noise: bytes, last: bytes) -> None:
    if not last and noise.endswith(b"(publickey).\r\n"):
        return  # that may as well be ssh's own
    error = Ssh().explain(Target("ssh", "box"), End(255, noise + last))
    assert error is None, error


@pytest.mark.parametrize("case", SSH)
def test_what_a_person_has_to_mend_is_not_tried_again(case: str) -> None:
    error = Ssh().explain(Target("ssh", "me@box:22"), End(255, SSH[case][0]))
    assert error is not None
    mends = ("key", "password", "many keys", "option", "value", "command", "refuses")
    assert error.lasting is any(word in case for word in mends)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("text", "quiet"),
    [
        ("Host *\n  LogLevel QUIET\n", True),
        ("loglevel=quiet\n", True),
        ("Include more\n", True),
        ("# LogLevel QUIET\nLogLevel VERBOSE\n", False),
        ("Include absent\n", False),
    ],
)
async def test_a_quiet_ssh_is_told_to_say_what_is_wrong(
    stub_tool: StubTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, quiet: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "more").write_text("LogLevel FATAL\n")
    config = tmp_path / "config"
    config.write_text(text)
    transport = Ssh(program=stub_tool("ssh", shell=True))
    target = Target("ssh", "host", {"config": str(config)})
    call = await argv_of(stub_tool, "ssh", transport, target)
    assert ("LogLevel=ERROR" in call) is quiet


def test_what_ssh_says_at_length_is_cut_from_the_front() -> None:
    said = b"debug1: something\r\n" * 200 + b"ssh: connect to host box: Connection refused\r\n"
    error = Ssh().explain(Target("ssh", "box"), End(255, said))
    assert error is not None
    assert len(error.evidence.splitlines()) == 20
    assert error.evidence.endswith("Connection refused")


CONTAINERS = {
    "docker absent": (1, "Error response from daemon: No such container: box", "there is no"),
    "old docker absent": (1, "Error: No such container: box", "there is no container box"),
    "podman absent": (
        125,
        'Error: no container with name or ID "box" found: no such container',
        "there is no container box",
    ),
    "docker stopped": (
        1,
        "Error response from daemon: Container 5a40e529a1e5 is not running",
        "the container box is not running",
    ),
    "docker paused": (
        1,
        "Error response from daemon: Container box is paused, unpause the container before exec",
        "the container box is paused",
    ),
    "podman stopped or paused": (
        255,
        "Error: can only create exec sessions on running containers: container state improper",
        "is not running, or is paused",
    ),
    "no daemon": (
        1,
        "Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?",
        "daemon cannot be reached",
    ),
    "not allowed": (
        1,
        "permission denied while trying to connect to the Docker daemon socket at unix:///x.sock",
        "this account is not allowed to use",
    ),
    "old docker not allowed": (
        1,
        "Got permission denied while trying to connect to the Docker daemon socket at unix:///x",
        "this account is not allowed to use",
    ),
}


@pytest.mark.parametrize("case", CONTAINERS)
def test_what_an_engine_says_is_explained(case: str) -> None:
    status, said, words = CONTAINERS[case]
    error = Container("docker", "docker").explain(
        Target("docker", "box"), End(status, said.encode() + b"\n")
    )
    assert error is not None
    assert words in error.message
    assert error.evidence == said
    assert error.hint
    assert error.exit_status == status


@pytest.mark.parametrize(
    "end",
    [
        End(126, b""),  # no such program in the container: said on stdout
        End(127, b'Error: runc: exec failed: unable to start container process: exec: "x": ...\n'),
        End(1, b"the service is not running\n"),
        End(0, b"Error response from daemon: No such container: box\n"),
        End(None, b"Cannot connect to the Docker daemon\n"),
    ],
)
def test_what_an_engine_did_not_say_is_not_explained(end: End) -> None:
    assert Container("docker", "docker").explain(Target("docker", "box"), end) is None


# -- how the tools are called


async def argv_of(
    stub_tool: StubTool, name: str, transport: Transport, target: Target
) -> list[str]:
    async with transport.open(target, ["echo", "a b"]) as stream:
        assert await stream.receive() == b"a b\n"
    (call,) = stub_tool.calls(name)
    return call


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("host", ["--", "host"]),
        ("user@host", ["-l", "user", "--", "host"]),
        ("host:2222", ["-p", "2222", "--", "host"]),
        ("me@corp@host:22", ["-p", "22", "-l", "me@corp", "--", "host"]),
        ("CORP\\me@host", ["-l", "CORP\\me", "--", "host"]),
        ("[::1]:22", ["-p", "22", "--", "::1"]),
        ("user@[fe80::1%eth0]", ["-l", "user", "--", "fe80::1%eth0"]),
        ("::1", ["--", "::1"]),
        ("bücher.example", ["--", "bücher.example"]),
    ],
)
async def test_ssh_is_called_with_what_the_address_says(
    stub_tool: StubTool, address: str, words: list[str]
) -> None:
    transport = Ssh(program=stub_tool("ssh", shell=True))
    target = Target("ssh", address, connect_timeout=10.0)
    call = await argv_of(stub_tool, "ssh", transport, target)
    expected = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=9", *words, "echo 'a b'"]
    assert call == expected


@pytest.mark.anyio
async def test_ssh_is_given_configuration_and_key(stub_tool: StubTool, tmp_path: Path) -> None:
    config, key = tmp_path / "my config", tmp_path / "key"
    config.touch()
    key.touch()
    transport = Ssh(program=stub_tool("ssh", shell=True))
    target = Target("ssh", "host", {"config": str(config), "key": str(key), "python": "python3"})
    call = await argv_of(stub_tool, "ssh", transport, target)
    assert call[5:-3] == ["-F", str(config), "-i", str(key)]


@pytest.mark.anyio
@pytest.mark.parametrize("option", ["config", "key"])
@pytest.mark.parametrize("kind", ["absent", "directory"])
async def test_a_missing_file_is_refused_before_anything_is_started(
    stub_tool: StubTool, tmp_path: Path, option: str, kind: str
) -> None:
    path = tmp_path if kind == "directory" else tmp_path / "absent"
    transport = Ssh(program=stub_tool("ssh", shell=True))
    target = Target("ssh", "host", {option: str(path)})
    with pytest.raises(remit.TargetError, match=f"{option}=.*no such file"):
        transport.check(target)
    with pytest.raises(remit.TargetError, match=f"{option}=.*no such file"):
        async with transport.open(target, ["true"]):
            pass
    assert stub_tool.calls("ssh") == []


@pytest.mark.anyio
@pytest.mark.parametrize(("limit", "said"), [(30.0, 27), (0.5, 1), (float("inf"), 77760)])
async def test_ssh_gives_up_before_remit_does(stub_tool: StubTool, limit: float, said: int) -> None:
    transport = Ssh(program=stub_tool("ssh", shell=True))
    target = Target("ssh", "host", connect_timeout=limit)
    assert f"ConnectTimeout={said}" in await argv_of(stub_tool, "ssh", transport, target)


@pytest.mark.anyio
@pytest.mark.parametrize("engine", ["docker", "podman"])
async def test_an_engine_is_asked_to_exec(stub_tool: StubTool, engine: str) -> None:
    transport = Container(engine, stub_tool(engine, skip=3))
    call = await argv_of(stub_tool, engine, transport, Target(engine, "my_box.1"))
    assert call == ["exec", "-i", "my_box.1", "echo", "a b"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("transport", "target"),
    [
        (Ssh(program="/absent/ssh"), Target("ssh", "host")),
        (Container("docker", "/absent/docker"), Target("docker", "box")),
        (Command(), Target("command", "/absent/kubectl exec")),
    ],
)
async def test_a_missing_tool_is_named(transport: Transport, target: Target) -> None:
    with pytest.raises(remit.ConnectError, match="no such program: /absent/"):
        async with transport.open(target, ["true"]):
            pass


# -- real failures


async def failure(transport: Transport, target: Target) -> remit.ConnectError:
    """What the transport says of a ``cat`` that ought not to start."""
    with anyio.fail_after(30.0):
        async with transport.open(target, ["cat"]) as stream:
            end = await stream.wait()
    assert isinstance(transport, ExplainsFailure)
    error = transport.explain(target, end)
    assert error is not None, f"not explained: {end}"
    return error


def ssh_config(sshd: Sshd, path: Path, *lines: str) -> str:
    """A configuration in which ``lines`` come before the test server's own."""
    path.write_text("\n".join([*lines, sshd.config.read_text()]))
    return str(path)


@pytest.mark.anyio
@pytest.mark.real
class TestRealSsh:
    async def test_a_changed_host_key(self, sshd: Sshd, tmp_path: Path) -> None:
        other = tmp_path / "other"
        run.command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
        known = tmp_path / "known_hosts"
        known.write_text(f"[{sshd.address}]:{sshd.port} {other.with_suffix('.pub').read_text()}")
        before = sshd.log.read_text()
        config = ssh_config(sshd, tmp_path / "config", f"UserKnownHostsFile {known}")
        error = await failure(Ssh(), Target("ssh", "quiet", {"config": config}))
        assert "has changed; nothing was sent there" in error.message
        assert "REMOTE HOST IDENTIFICATION HAS CHANGED" in error.evidence
        assert "Accepted" not in sshd.log.read_text()[len(before) :]

    async def test_an_unknown_host_key(self, sshd: Sshd, tmp_path: Path) -> None:
        config = ssh_config(sshd, tmp_path / "config", "UserKnownHostsFile /dev/null")
        error = await failure(Ssh(), Target("ssh", "quiet", {"config": config}))
        assert "is not known" in error.message

    async def test_a_key_that_is_refused(self, sshd: Sshd, tmp_path: Path) -> None:
        other = tmp_path / "other"
        run.command(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other])
        config = tmp_path / "config"
        config.write_text(sshd.config.read_text().replace(f"{sshd.key}\n", f"{other}\n"))
        target = Target("ssh", "quiet", {"config": str(config)})
        error = await failure(Ssh(), target)
        assert isinstance(error, remit.AuthenticationError)
        assert "Permission denied (publickey)" in error.evidence
        # Another key helps: it adds to those of the configuration.
        async with Ssh().open(
            Target("ssh", "quiet", {"config": str(config), "key": str(sshd.key)}), ["echo", "in"]
        ) as stream:
            assert await stream.receive() == b"in\n"

    async def test_a_closed_port(self, sshd: Sshd) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        target = Target("ssh", f"quiet:{port}", {"config": str(sshd.config)})
        assert "refused the connection" in (await failure(Ssh(), target)).message

    async def test_a_server_that_says_nothing(self, sshd: Sshd) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            target = Target(
                "ssh",
                f"quiet:{server.getsockname()[1]}",
                {"config": str(sshd.config)},
                connect_timeout=2.0,
            )
            assert "did not answer in time" in (await failure(Ssh(), target)).message

    async def test_a_name_that_is_not_found(self, sshd: Sshd) -> None:
        target = Target("ssh", "no-such-name.invalid", {"config": str(sshd.config)})
        assert "was not found" in (await failure(Ssh(), target)).message

    async def test_a_full_server(self, sshd: Sshd) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:

            def hang_up() -> None:
                server.accept()[0].close()

            target = Target("ssh", f"quiet:{server.getsockname()[1]}", {"config": str(sshd.config)})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, hang_up)
                error = await failure(Ssh(), target)
            assert "ended the connection before the login" in error.message
            assert "kex_exchange_identification" in error.evidence

    @pytest.mark.parametrize("word", BROKEN)
    async def test_a_jump_host_that_fails_is_named_as_such(self, jump: Jump, word: str) -> None:
        target = Target("ssh", f"{word}-quiet", {"config": str(jump.config)})
        error = await failure(Ssh(), target)
        assert "was not reached" in error.message
        assert "jump host" in error.message
        assert not isinstance(error, remit.AuthenticationError)
        assert error.lasting is (word in ("refusing", "unknown"))

    async def test_a_quiet_configuration_hides_no_reason(self, sshd: Sshd, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        config = ssh_config(sshd, tmp_path / "config", "LogLevel QUIET")
        target = Target("ssh", f"quiet:{port}", {"config": config})
        assert "refused the connection" in (await failure(Ssh(), target)).message
        config = ssh_config(
            sshd, tmp_path / "config", "LogLevel QUIET", "UserKnownHostsFile /dev/null"
        )
        error = await failure(Ssh(), Target("ssh", "quiet", {"config": config}))
        assert "is not known" in error.message

    async def test_a_remote_command_in_the_configuration(self, sshd: Sshd, tmp_path: Path) -> None:
        config = ssh_config(sshd, tmp_path / "config", "RemoteCommand true")
        error = await failure(Ssh(), Target("ssh", "quiet", {"config": config}))
        assert "RemoteCommand" in error.message


@pytest.mark.anyio
@pytest.mark.real
class TestRealContainers:
    async def test_docker(self, docker: Engine) -> None:
        docker_exec = Container("docker", "docker")
        absent = await failure(docker_exec, Target("docker", docker.absent))
        assert f"there is no container {docker.absent}" in absent.message
        stopped = await failure(docker_exec, Target("docker", docker.stopped))
        assert f"the container {docker.stopped} is not running" in stopped.message
        name = docker.new_python()
        run.command(["docker", "pause", name])
        paused = await failure(docker_exec, Target("docker", name))
        assert f"the container {name} is paused" in paused.message
        run.command(["docker", "unpause", name])

    async def test_podman(self, podman: Engine) -> None:
        podman_exec = Container("podman", "podman")
        absent = await failure(podman_exec, Target("podman", podman.absent))
        assert f"there is no container {podman.absent}" in absent.message
        stopped = await failure(podman_exec, Target("podman", podman.stopped))
        assert f"the container {podman.stopped} is not running, or" in stopped.message

    async def test_no_daemon(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert shutil.which("docker")
        monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
        error = await failure(Container("docker", "docker"), Target("docker", "box"))
        assert "the docker daemon cannot be reached" in error.message
        assert "absent.sock" in error.evidence
