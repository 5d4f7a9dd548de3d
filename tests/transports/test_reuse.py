"""Connections that stay for those that come after: OpenSSH's ControlMaster, real ones."""

from __future__ import annotations

import os
import pty
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import remit
from cli.program import REMIT, Cli
from remit.abc import Target
from remit_ssh import Ssh, _reuse
from remit_ssh._reuse import NotReused, find, own_directory
from testbed import processes, run
from testbed.sshd import Sshd

pytestmark = pytest.mark.real


@pytest.fixture
def cli(state_dir: Path, tmp_path: Path) -> Cli:
    return Cli(state_dir, tmp_path)


@pytest.fixture
def runtime() -> Path:
    """Where the sockets are."""
    return Path(os.environ["XDG_RUNTIME_DIR"]) / "remit"


def logins(sshd: Sshd) -> int:
    return sshd.log.read_text().count("Accepted publickey")


def sockets(runtime: Path) -> list[Path]:
    return sorted(runtime.iterdir()) if runtime.exists() else []


def masters(runtime: Path) -> list[int]:
    """The processes that hold connections."""
    found = []
    for process in processes.everyone():
        try:
            words = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        except OSError:
            continue
        # As it calls itself where it stays behind a command, and as `remit login` starts it.
        is_one = words.startswith(b"ssh: ") or (words.startswith(b"ssh\0") and b"\0-N\0" in words)
        if is_one and os.fsencode(runtime) in words:
            found.append(process.pid)
    return found


def host(sshd: Sshd, *options: str, name: str = "quiet") -> str:
    return f"ssh:{name}?" + "&".join([f"config={sshd.config_with(*options)}"])


def test_commands_share_a_connection(sshd: Sshd, cli: Cli, runtime: Path) -> None:
    target, before = host(sshd), logins(sshd)
    for number in range(3):
        assert cli.answer("run", target, "--", "echo", str(number)) == str(number)
    assert cli("run", target, "--", "sh", "-c", "exit 7", status=7).stderr == b""
    assert cli("run", target, "--", "cat", stdin=b"x" * 300_000).stdout == b"x" * 300_000
    job = cli.answer("start", target, "--", "echo", "collected")
    assert cli.answer("receive", job) == "collected"
    assert logins(sshd) == before + 1
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert len(sockets(runtime)) == len(masters(runtime)) == 1


def test_what_leads_elsewhere_has_a_connection_of_its_own(
    sshd: Sshd, cli: Cli, runtime: Path
) -> None:
    before = logins(sshd)
    config = host(sshd)
    for target in (config, config.replace("quiet", "bob"), f"{config}&key={sshd.key}"):
        cli("run", target, "--", "true")
    assert logins(sshd) == before + 3
    assert len(sockets(runtime)) == 3
    # The state directory there, and what stands before the interpreter, lead nowhere else.
    cli("run", f"{config}&via=env A=1&state=/tmp/no", "--", "true")
    assert logins(sshd) == before + 3


def test_programs_and_who_says_so_share_none(sshd: Sshd, cli: Cli, runtime: Path) -> None:
    target, before = host(sshd), logins(sshd)
    for _ in range(2):
        cli("run", f"{target}&persist=0", "--", "true")

    async def reach(target: str) -> None:
        async with remit.connect(target) as session:
            assert (await session.run(["true"])).exit_status == 0

    for backend in ("asyncio", "trio"):
        anyio.run(reach, target, backend=backend)
    assert (logins(sshd), sockets(runtime)) == (before + 4, [])
    for backend in ("asyncio", "trio"):
        anyio.run(reach, f"{target}&persist=1m", backend=backend)
    assert (logins(sshd), len(sockets(runtime))) == (before + 5, 1)


def test_no_connection_stays_longer_than_it_may(sshd: Sshd, cli: Cli, runtime: Path) -> None:
    cli("run", f"{host(sshd)}&persist=1", "--", "true")
    run.wait_until(lambda: not masters(runtime), "the connection to end", timeout=15.0)
    assert sockets(runtime) == []


def test_the_accounts_own_ssh_config_prevails(
    sshd: Sshd, cli: Cli, runtime: Path, run_directory: Path
) -> None:
    before = logins(sshd)
    for option in ("ControlMaster no", "ControlPath none"):
        for _ in range(2):
            cli("run", host(sshd, "Host *", option), "--", "true")
    assert (logins(sshd), sockets(runtime)) == (before + 4, [])
    own = run_directory / "own-%C"  # a name that is short enough for a socket
    theirs = ("Host *", "ControlMaster auto", f"ControlPath {own}", "ControlPersist 30")
    target = host(sshd, *theirs)
    for _ in range(2):
        cli("run", target, "--", "true")
    assert (logins(sshd), sockets(runtime)) == (before + 5, [])
    assert "of the account's own ssh_config" in cli.answer("doctor", target)
    assert cli.answer("login", "--exit", target).endswith("the connection is closed")
    assert not list(run_directory.glob("own-*"))


def test_a_connection_that_died_is_made_anew(sshd: Sshd, cli: Cli, runtime: Path) -> None:
    target, before = host(sshd), logins(sshd)
    cli("run", target, "--", "true")
    for pid in masters(runtime):
        os.kill(pid, signal.SIGKILL)
    run.wait_until(lambda: not masters(runtime), "it to die")
    assert len(sockets(runtime)) == 1  # nobody took it away
    for _ in range(2):
        cli("run", target, "--", "true")
    assert logins(sshd) == before + 2


def test_a_connection_that_hangs_is_left(sshd: Sshd, cli: Cli, runtime: Path) -> None:
    target, before = host(sshd), logins(sshd)
    cli("run", target, "--", "true")
    (master,) = masters(runtime)
    os.kill(master, signal.SIGSTOP)
    try:
        done = cli("-v", "run", "--connect-timeout", "20", target, "--", "echo", "arrived")
        assert done.stdout == b"arrived\n"
        assert b"does not answer; another is made" in done.stderr
        assert logins(sshd) == before + 2
        assert sockets(runtime) == []
        for _ in range(2):  # and those that come next have one again
            cli("run", target, "--", "true")
        assert logins(sshd) == before + 3
    finally:
        os.kill(master, signal.SIGKILL)


def test_a_slow_login_is_no_connection_that_hangs(sshd: Sshd, cli: Cli, tmp_path: Path) -> None:
    target, before = host(sshd), logins(sshd)
    cli("run", target, "--", "true")
    slow = '&via=sh -c \'sleep 7; exec "$0" "$@"\''
    assert cli.answer("run", target + slow, "--", "echo", "arrived") == "arrived"
    assert logins(sshd) == before + 1


def test_several_at_once_get_along(sshd: Sshd, cli: Cli, runtime: Path) -> None:
    target = host(sshd)
    done = cli("run", *[target] * 4, "--", "echo", "here")
    assert done.stdout.count(b"here\n") == 4
    before = logins(sshd)
    done = cli("run", *[target] * 4, "--", "echo", "here")
    assert done.stdout.count(b"here\n") == 4
    assert (logins(sshd), len(masters(runtime))) == (before, 1)


def test_where_a_connection_takes_no_more_sessions_there_is_another(
    run_directory: Path, ssh_accounts: None, cli: Cli, tmp_path: Path
) -> None:
    server = Sshd(run_directory / f"modest-{os.path.basename(tmp_path)}")
    try:
        server.stop()
        config = server.config.with_name("sshd_config")
        config.write_text(config.read_text().replace("MaxSessions 200", "MaxSessions 1"))
        server.start()
        target = host(server)
        with cli.running("run", target, "--", "sh", "-c", "echo on; sleep 1000") as first:
            assert first.stdout is not None
            assert first.stdout.readline() == b"on\n"
            assert cli.answer("run", target, "--", "echo", "too") == "too"
            assert logins(server) == 2
            first.send_signal(signal.SIGTERM)
            first.wait()
    finally:
        server.close()


# -- where there can be none


def ways(config: Path) -> _reuse.Reuse:
    return find("ssh", [], str(config), "quiet", "60")


def test_a_directory_that_is_not_ours_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert own_directory() == str(tmp_path / "remit")
    (tmp_path / "remit").chmod(0o755)
    assert own_directory() != str(tmp_path / "remit")
    (tmp_path / "remit").rmdir()
    (tmp_path / "remit").symlink_to("/tmp")
    assert own_directory() != str(tmp_path / "remit")
    (tmp_path / "remit").unlink()
    tmp_path.chmod(0o777)
    assert own_directory() != str(tmp_path / "remit")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert own_directory() in (f"/run/user/{os.getuid()}/remit", f"/tmp/remit-{os.getuid()}")


def test_commands_go_on_where_no_connection_can_stay(sshd: Sshd, cli: Cli, tmp_path: Path) -> None:
    """A directory whose name leaves no room for a socket's."""
    deep = tmp_path / ("x" * 80)
    deep.mkdir(mode=0o700)
    cli.env["XDG_RUNTIME_DIR"] = str(deep)
    target = host(sshd)
    done = cli("-v", "run", target, "--", "echo", "arrived")
    assert done.stdout == b"arrived\n"
    assert b"too long for the name of a socket" in done.stderr
    assert "too long for the name of a socket" in cli.answer("doctor", target)
    done = cli("login", target, status=255)
    assert b"no connection can be kept" in done.stderr


def test_a_file_system_without_sockets_is_found_out_before(
    sshd: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_reuse, "own_directory", lambda: "/proc/self")
    with pytest.raises(NotReused, match="no socket can be made in /proc/self"):
        ways(sshd.config)


def test_a_configuration_that_ssh_does_not_take_says_so_by_ssh(
    sshd: Sshd, cli: Cli, tmp_path: Path
) -> None:
    broken = tmp_path / "broken"
    broken.write_text("NoSuchWord yes\n")
    done = cli("run", f"ssh:quiet?config={broken}", "--", "true", status=255)
    assert b"ssh does not accept its configuration" in done.stderr


@pytest.mark.parametrize("value", ["x", "1y", "-1", "1.5", "10 m"])
def test_a_time_that_is_none_is_refused(value: str) -> None:
    target = Target("ssh", "host", {"persist": value})
    with pytest.raises(remit.TargetError, match="this is no time"):
        Ssh().check(target)


# -- remit login


@pytest.fixture
def locked(sshd: Sshd, tmp_path: Path) -> str:
    """A target whose key has a passphrase: ``open sesame``."""
    key = tmp_path / "locked"
    shutil.copy(sshd.key, key)
    key.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "open sesame", "-f", key], check=True)
    config = sshd.config_with(f"IdentityFile {key}")
    config.write_text(sshd.config.read_text().replace(str(sshd.key), str(key)))
    return f"ssh:quiet?config={config}"


def typed(cli: Cli, *words: str, answer: bytes) -> tuple[int, bytes]:
    """What it shows in a terminal, in which a question is answered; and its exit status."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(cli.directory)
        os.execve(REMIT, [str(REMIT), *words], cli.env)
    shown, answered, limit = b"", 0, time.monotonic() + 60
    while time.monotonic() < limit:
        if not select.select([terminal], [], [], 1.0)[0]:
            continue
        try:
            piece = os.read(terminal, 1000)
        except OSError:
            break
        if not piece:
            break
        shown += piece
        if len(shown) > answered and shown.rstrip().endswith(b":"):
            os.write(terminal, answer + b"\n")
            answered = len(shown) + len(b"\r\n")
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def test_a_person_logs_in_and_commands_go_by_that(
    locked: str, sshd: Sshd, cli: Cli, runtime: Path
) -> None:
    done = cli("run", locked, "--", "true", status=255)
    assert b"did not let us in" in done.stderr
    assert b"`remit login`" in done.stderr
    status, shown = typed(cli, "login", "--for", "10m", locked, answer=b"open sesame")
    assert (status, b"Enter passphrase" in shown) == (0, True), shown
    assert b"the connection stays 600 s after its last use" in shown
    before = logins(sshd)
    assert cli.answer("run", locked, "--", "echo", "in") == "in"
    assert "a connection of remit's is open" in cli.answer("doctor", locked)
    assert logins(sshd) == before
    assert len(masters(runtime)) == 1
    assert cli.answer("login", "--exit", locked).endswith("the connection is closed")
    run.wait_until(lambda: not masters(runtime), "the connection to end")
    assert b"no connection stands" in cli("login", "--exit", locked, status=1).stderr
    cli("run", locked, "--", "true", status=255)


def test_a_login_that_fails_says_so(locked: str, cli: Cli, runtime: Path) -> None:
    status, shown = typed(cli, "login", locked, answer=b"wrong")
    assert status == 255
    assert b"ssh did not log in" in shown
    assert masters(runtime) == []


def test_what_keeps_no_connection_says_so(cli: Cli) -> None:
    done = cli("login", "local:", status=2)
    assert b"local: has no connection to be kept" in done.stderr
    assert b"--for" in cli("login", "--for", "x", "local:", status=2).stderr


@pytest.fixture(autouse=True)
def _no_masters(runtime: Path) -> Iterator[None]:
    yield
    for pid in masters(runtime):
        os.kill(pid, signal.SIGKILL)
