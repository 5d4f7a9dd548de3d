"""The testbed is real, and what its docstrings promise is so."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed import needs, processes, pythons, run
from testbed.accounts import NOISE
from testbed.containers import Engine
from testbed.link import Link
from testbed.pythons import Interpreter
from testbed.sshd import Sshd

pytestmark = pytest.mark.real

SHOW_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
Done = subprocess.CompletedProcess[bytes]


def ssh(server: Sshd, host: str, *words: str, given: bytes = b"") -> Done:
    options = ["-T", "-o", "ConnectTimeout=2", "-o", "BatchMode=yes"]
    argv = ["ssh", "-F", str(server.config), *options, host, *words]
    return subprocess.run(argv, input=given, capture_output=True, timeout=30, check=False)


@contextmanager
def held_session(server: Sshd, host: str) -> Iterator[subprocess.Popen[bytes]]:
    """An ssh session that lasts until its stdin ends, and is seen to be up."""
    argv = ["ssh", "-T", "-F", str(server.config), "-o", "BatchMode=yes", host, "echo up; cat"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as held:
        try:
            assert held.stdout
            assert held.stdout.readline() == b"up\n"
            yield held
        finally:
            held.kill()


def engine_exec(engine: Engine, name: str, *words: str) -> Done:
    # As anybody types it: what makes it work is in the environment.
    argv = [Path(engine.program).name, "exec", "-i", name, *words]
    return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)


@pytest.fixture(params=["docker", "podman"])
def engine(request: pytest.FixtureRequest) -> Engine:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Engine)
    return found


@pytest.mark.parametrize("host", ["alice", "bob"])
def test_ssh_runs_a_command_as_the_account_behind_noise(sshd: Sshd, host: str) -> None:
    done = ssh(sshd, host, "id", "-un", ";", "exit", "3")
    assert (done.returncode, done.stdout) == (3, NOISE + b"remit_%s\n" % host.encode())


def test_a_noisy_account_eats_what_is_sent_too_early(sshd: Sshd) -> None:
    done = ssh(sshd, "alice", "cat", given=b"one\ntwo\n")
    assert done.stdout == NOISE + b"two\n"


def test_the_quiet_account_is_quiet(sshd: Sshd) -> None:
    done = ssh(sshd, "quiet", "cat", given=b"\x00\xff\n")
    assert (done.returncode, done.stdout) == (0, b"\x00\xff\n")


def test_killing_the_process_of_a_session_breaks_it(sshd: Sshd) -> None:
    with held_session(sshd, "quiet") as held:
        (pid,) = sshd.session_pids("quiet")
        assert sshd.session_pids("bob") == []
        processes.kill([pid])
        assert held.wait(10) == 255


def test_a_stopped_sshd_refuses_and_keeps_its_sessions(sshd: Sshd) -> None:
    with held_session(sshd, "quiet") as held:
        sshd.stop()
        try:
            refused = ssh(sshd, "quiet", "true")
            assert refused.returncode == 255
            assert b"Connection refused" in refused.stderr
            assert len(sshd.session_pids("quiet")) == 1
        finally:
            sshd.start()
        assert ssh(sshd, "quiet", "true").returncode == 0
        assert held.communicate(b"still here")[0] == b"still here"


def test_the_python_of_a_container_is_old(engine: Engine) -> None:
    done = engine_exec(engine, engine.python, "python3", "-I", "-S", "-c", SHOW_VERSION)
    version = done.stdout.decode().strip()
    assert done.returncode == 0, done.stderr
    assert engine.python_version.startswith(version)
    assert tuple(map(int, version.split("."))) < (3, 10)


def test_a_bare_container_has_no_python(engine: Engine) -> None:
    assert engine_exec(engine, engine.bare, "sh", "-c", "echo here").stdout == b"here\n"
    assert engine_exec(engine, engine.bare, "sh", "-c", "command -v python3").returncode != 0


def test_stopped_and_absent_containers_are_told_apart(engine: Engine) -> None:
    stopped = engine_exec(engine, engine.stopped, "true")
    absent = engine_exec(engine, engine.absent, "true")
    assert stopped.returncode != 0
    assert b"running" in stopped.stderr
    assert absent.returncode != 0
    assert b"no such container" in absent.stderr.lower()


def test_a_container_killed_and_started_again_works(engine: Engine) -> None:
    name = engine.new_python()
    engine.kill(name)
    assert engine_exec(engine, name, "true").returncode != 0
    engine.start(name)
    assert engine_exec(engine, name, "true").returncode == 0


def test_a_new_link_carries_ssh(ssh_link: Link) -> None:
    assert ssh(ssh_link.sshd, "quiet", "echo", "over").stdout == b"over\n"


@pytest.mark.parametrize("fault", [Link.cut, Link.blackhole])
def test_a_cut_link_connects_to_nothing_until_healed(
    ssh_link: Link, fault: Callable[[Link], None]
) -> None:
    with held_session(ssh_link.sshd, "quiet") as held:
        fault(ssh_link)
        begin = time.monotonic()
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(
                ["ssh", "-F", str(ssh_link.config), "-o", "BatchMode=yes", "quiet", "true"],
                stdin=subprocess.DEVNULL,
                timeout=1.5,
            )
        assert time.monotonic() - begin < 5
        assert held.poll() is None
        ssh_link.heal()
        assert held.communicate(b"survived", timeout=20)[0] == b"survived"
    assert ssh(ssh_link.sshd, "quiet", "true").returncode == 0


def test_a_reset_breaks_the_session_at_once(ssh_link: Link) -> None:
    with held_session(ssh_link.sshd, "quiet") as held:
        ssh_link.reset()
        assert held.wait(5) == 255
    assert ssh(ssh_link.sshd, "quiet", "true").returncode == 0


@pytest.mark.parametrize("python", pythons.found(), ids=lambda python: python.version)
def test_an_interpreter_is_what_it_is_called(python: Interpreter) -> None:
    done = subprocess.run([python.path, "-c", SHOW_VERSION], capture_output=True, check=True)
    assert python.version.startswith(done.stdout.decode().strip())


def test_what_is_missing_fails_where_nothing_may_be_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(needs, "left_out", [])
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool"):
        needs.tool("no-such-tool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        needs.tool("no-such-tool")
    assert needs.left_out == ["the program no-such-tool is not installed"]


def test_a_daemon_dies_with_the_run(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path; from testbed.run import Daemon\n"
        f"print(Daemon(['sleep', '1000'], Path({str(tmp_path / 'log')!r})).pid, flush=True)\n"
        "time.sleep(1000)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=env) as owner:
        assert owner.stdout
        daemon = int(owner.stdout.readline())
        assert processes.find(daemon)
        owner.kill()
    run.wait_until(lambda: processes.find(daemon) is None, "the daemon to end")
