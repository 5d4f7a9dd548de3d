"""The testbed is real, and what its docstrings promise is so."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from testbed import namespace, needs, processes, pythons, run
from testbed.accounts import NOISE
from testbed.containers import Engine
from testbed.disk import Disk
from testbed.jump import BROKEN, Jump
from testbed.limits import ProcessLimit
from testbed.link import Link
from testbed.namespace import PidNamespace
from testbed.pythons import Interpreter
from testbed.shim import Shim
from testbed.sshd import Sshd

pytestmark = pytest.mark.real

SHOW_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
Done = subprocess.CompletedProcess[bytes]


def ssh(
    server: Sshd, host: str, *words: str, given: bytes = b"", config: Path | None = None
) -> Done:
    options = ["-T", "-o", "ConnectTimeout=2", "-o", "BatchMode=yes"]
    argv = ["ssh", "-F", str(config or server.config), *options, host, *words]
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


def _name(pid: int) -> str | None:
    process = processes.find(pid)
    return process and process.name


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
        # Until it is the program itself, setpriv may not have asked for the signal yet.
        run.wait_until(lambda: _name(daemon) == "sleep", "the daemon to begin")
        owner.kill()
    run.wait_until(lambda: processes.find(daemon) is None, "the daemon to end")


def test_a_jump_host_is_on_the_way(jump: Jump) -> None:
    assert ssh(jump.server, "quiet", "id", "-un", config=jump.config).stdout == b"remit_quiet\n"
    jump.hop.stop()
    try:
        done = ssh(jump.server, "quiet", "true", config=jump.config)
        assert done.returncode == 255
        assert b"Connection refused" in done.stderr
    finally:
        jump.hop.start()


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("absent", b"Could not resolve hostname no-such-host.invalid"),
        ("closed", b"Connection refused"),
        ("refusing", b"Permission denied"),
        ("unknown", b"Host key verification failed"),
    ],
)
def test_a_jump_host_that_does_not_lead_on(jump: Jump, word: str, said: bytes) -> None:
    assert word in BROKEN
    done = ssh(jump.server, f"{word}-quiet", "true", config=jump.config)
    assert done.returncode == 255
    assert said in done.stderr
    assert b"closed by UNKNOWN" in done.stderr


def test_a_quiet_ssh_does_not_say_why_it_failed(sshd: Sshd, quiet_config: Path) -> None:
    assert ssh(sshd, "quiet", "echo", "here", config=quiet_config).stdout == b"here\n"
    done = ssh(sshd, "no-such-host.invalid", "true", config=quiet_config)
    assert (done.returncode, done.stderr) == (255, b"")


def test_bystanders_are_of_session_0_and_seen_to_be_harmed(pid_namespace: PidNamespace) -> None:
    first, hit = pid_namespace.bystander(), pid_namespace.bystander()
    look = "import os, sys; print(*map(os.getsid, map(int, sys.argv[1:])), os.getsid(0))"
    pids = [str(pid_namespace.inner(pid)) for pid in (first, hit)]
    argv = pid_namespace.command(sys.executable, "-I", "-S", "-c", look, *pids)
    assert run.command(argv).split() == ["0", "0", "0"]
    assert pid_namespace.harmed() == []
    os.kill(hit, signal.SIGSTOP)
    run.wait_until(lambda: bool(pid_namespace.harmed()), "the bystander to be stopped")
    assert pid_namespace.harmed() == [f"a bystander of session 0 (pid {hit})"]
    os.kill(hit, signal.SIGCONT)
    run.wait_until(lambda: not pid_namespace.harmed(), "the bystander to go on")
    os.kill(hit, signal.SIGTERM)
    run.wait_until(lambda: bool(pid_namespace.harmed()), "the bystander to end")


def test_pids_and_sessions_of_the_dead_are_used_again(pid_namespace: PidNamespace) -> None:
    (inner,) = run.command(pid_namespace.command("sh", "-c", "echo $$")).split()
    taker = pid_namespace.take_pid(int(inner))
    member = pid_namespace.take_session(int(inner) + 1000)
    assert pid_namespace.here(int(inner)) == taker
    assert pid_namespace.here(int(inner) + 1000) is None
    look = "import os, sys; print(os.getsid(int(sys.argv[1])))"
    argv = [sys.executable, "-I", "-S", "-c", look, str(pid_namespace.inner(member))]
    assert int(run.command(pid_namespace.command(*argv))) == int(inner) + 1000
    for pid in (taker, member):
        assert Path(f"/proc/{pid}/environ").read_bytes() == b""
    assert pid_namespace.others() == []
    processes.kill([taker])
    assert pid_namespace.harmed() == [f"who took the inner pid {inner} (pid {taker})"]


def test_a_pid_namespace_ends_with_the_run(run_directory: Path) -> None:
    with namespace.pid_namespace(run_directory / "ending.log") as found:
        pids = [process.pid for process in found.everyone()]
        assert len(pids) == 3
    assert not any(map(processes.find, pids))


def test_a_full_btrfs_refuses_to_overwrite(btrfs: Disk) -> None:
    reserved = btrfs.path / "reserved"
    reserved.write_bytes(bytes(1 << 16))
    with reserved.open("r+b", buffering=0) as file:
        os.fsync(file.fileno())
        btrfs.fill()
        with pytest.raises(OSError, match="No space left"):
            file.write(b"x")
        with pytest.raises(OSError, match="No space left"):
            (btrfs.path / "more").write_bytes(b"x" * 5000)
        btrfs.free()
        file.seek(0)
        file.write(b"x")
        os.fsync(file.fileno())


_START = """
import os, sys
sys.stdin.readline()
try:
    pid = os.fork()
except OSError as error:
    print(error.errno == 11)
else:
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    print(False)
"""


@contextmanager
def waiting(argv: list[str]) -> Iterator[tuple[int, Callable[[], bool]]]:
    """The pid of one that forks when asked, and says whether that failed for the process limit."""
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as popen:
        try:
            yield popen.pid, lambda: popen.communicate("now\n", timeout=20)[0] == "True\n"
        finally:
            popen.kill()


def command_of(target: str) -> list[str]:
    return [*shlex.split(target.removeprefix("command:")), "python3", "-I", "-S", "-c"]


@pytest.mark.parametrize(("more", "fails"), [(0, True), (1, False)])
def test_at_the_process_limit_nothing_more_starts(
    process_limit: ProcessLimit, more: int, fails: bool
) -> None:
    with waiting([*command_of(process_limit.target()), _START]) as (pid, ask):
        run.wait_until(lambda: process_limit.pids() == [pid], "it to be under the limit")
        process_limit.hold(more)
        assert ask() is fails


def test_a_process_that_runs_already_comes_under_the_limit(process_limit: ProcessLimit) -> None:
    with waiting([sys.executable, "-I", "-S", "-c", _START]) as (pid, ask):
        assert process_limit.pids() == []
        process_limit.take(pid)
        process_limit.set(1)
        assert ask()


def test_few_files_can_be_open_behind_a_descriptor_limit(
    descriptor_limit: Callable[..., str],
) -> None:
    look = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    assert run.command([*command_of(descriptor_limit(48)), look]).split() == ["48", "48"]
    assert run.command([*command_of(descriptor_limit(48, 96)), look]).split() == ["48", "96"]


def test_the_musl_and_the_slow_disk_are_targets(musl: Shim, slow_disk: Shim) -> None:
    try_it = "import signal; signal.signal(34, signal.SIG_DFL)"
    assert subprocess.run([musl.python, "-c", try_it], capture_output=True).returncode == 1
    assert subprocess.run([slow_disk.python, "-c", try_it]).returncode == 0
    fsync = "import os, sys; os.fsync(os.open(sys.argv[1], os.O_RDONLY))"
    begin = time.monotonic()
    subprocess.run([slow_disk.python, "-c", fsync, __file__], check=True)
    assert time.monotonic() - begin > 0.4
    assert musl.target == f"local:?python={musl.python}"
