"""``?via=``: programs that stand before the interpreter on a target, real ones."""

from __future__ import annotations

import os
import pwd
import secrets
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

import remit
from remit import JobState
from testbed import needs, processes, run
from testbed.accounts import ACCOUNTS, allow_sudo
from testbed.sshd import Sshd

pytestmark = pytest.mark.anyio

Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """``program(script)`` is the path of a /bin/sh script."""

    def make(script: str) -> str:
        path = tmp_path / f"program{len(list(tmp_path.iterdir()))}"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


@pytest.fixture
def sudo(ssh_accounts: None) -> None:
    allow_sudo()


@pytest.fixture
def bobs(sudo: None) -> Iterator[Path]:
    """A state directory in bob's home."""
    bob = pwd.getpwnam(ACCOUNTS["bob"][0])
    state = Path(bob.pw_dir) / ".local" / "state" / f"remit-{secrets.token_hex(8)}"
    yield state
    shutil.rmtree(state, ignore_errors=True)


def sudo_bob() -> list[str]:
    return ["sudo", "-n", "-u", ACCOUNTS["bob"][0], "--"]


async def refused(target: str, **options: object) -> remit.ConnectError:
    with pytest.raises(remit.ConnectError) as caught, anyio.fail_after(40):
        async with remit.connect(target, **options):  # type: ignore[arg-type]
            raise AssertionError("it was open")
    return caught.value


async def said(target: str, *argv: str, via: list[str] | None = None) -> str:
    async with remit.connect(target, via=via) as session:
        return (await session.run(argv, check=True)).text.strip()


async def test_a_program_stands_before_the_interpreter() -> None:
    nice = str(os.nice(0) + 5)
    assert await said("local:?via=nice -n 5", "nice") == nice
    assert await said("local:", "nice", via=["nice", "-n", "5"]) == nice
    assert await said("local:?via=env A='b c'", "sh", "-c", "echo $A") == "b c"
    # Also where a target has no options.
    assert await said("command:env", "sh", "-c", "echo $A", via=["env", "A=b"]) == "b"


async def test_a_session_says_how_it_is_reached_again() -> None:
    async with remit.connect("local:", via=["env", "A=1 & 2"]) as session:
        assert session.target == "local:?via=env 'A=1 %26 2'"
        job = await session.start(["true"])
        assert (job.location, await job.wait()) == ("localhost", JobState.COMPLETED)
    assert await said(session.target, "sh", "-c", "echo $A") == "1 & 2"
    async with remit.open_hub() as hub:
        one = await hub.session("local:", via=["env", "A=1"])
        assert one is await hub.session("local:", via=("env", "A=1"))
        assert one is not await hub.session("local:")


@pytest.mark.parametrize(
    ("via", "words"),
    [
        ("sudo -n --", "a sequence of words"),
        ([b"sudo"], "a word of via is a str"),
        (["a\nb"], "printable"),
        (["a\0b"], "printable"),
        (["a\udcff"], "printable"),
        ([""], "begins with a program"),
        (["-n"], "begins with a program"),
        ({"sudo"}, "a sequence of words"),
    ],
)
async def test_what_can_never_be_right_is_refused(via: object, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        async with remit.connect("local:", via=via):  # type: ignore[arg-type]
            raise AssertionError("it was open")


async def test_it_is_started_where_the_caller_is_and_nothing_more_is_meant(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(tmp_path)
    assert await said("local:?via=env", "pwd") == str(tmp_path)
    there = program(f'cd {elsewhere}; exec "$@"')
    assert await said(f"local:?via={there}", "pwd") == str(elsewhere)


async def test_noise_before_the_agent_is_no_harm(program: Program) -> None:
    noisy = program('printf "queued for\\n\\377 resources "; echo granted >&2; exec "$@"')
    assert await said(f"local:?via={noisy}", "echo", "heard") == "heard"


# -- what goes wrong


async def test_a_program_that_is_missing(sshd: Sshd) -> None:
    error = await refused("local:?via=remit-has-no-such-program")
    assert "no such program: remit-has-no-such-program" in str(error)
    error = await refused(f"ssh:quiet?config={sshd.config}&via=remit-has-no-such-program -x")
    assert type(error) is remit.BootstrapError
    assert "there is no program 'remit-has-no-such-program' to be run" in error.message
    assert error.exit_status == 127
    assert "remit-has-no-such-program" in error.stderr_tail.decode()


@pytest.mark.parametrize(("name", "status"), [("true", 0), ("false", 1)])
async def test_a_program_that_runs_nothing(name: str, status: int) -> None:
    error = await refused(f"local:?via={name}")
    assert type(error) is remit.BootstrapError
    assert f"`{name}`" in error.message
    assert error.message.endswith(f"ended with status {status}")
    assert error.exit_status == status


async def test_what_it_says_before_it_fails_is_evidence(program: Program) -> None:
    broken = program("echo from stdout; echo no nodes left >&2; exit 9")
    error = await refused(f"local:?via={broken}")
    assert type(error) is remit.BootstrapError
    assert "stdout  from stdout\n" in str(error)
    assert "stderr  no nodes left\n" in str(error)


async def test_a_program_that_hangs_is_given_up_and_ended(program: Program) -> None:
    mark = f"1000{secrets.randbelow(10**9)}"
    hangs = program(f"echo job 12 is queued >&2; exec sleep {mark}")
    error = await refused(f"local:?via={hangs}", connect_timeout=0.5)
    assert type(error) is remit.BootstrapError
    assert "within 0.5 s" in error.message
    assert "job 12 is queued" in str(error)
    assert not [p for p in processes.everyone() if p.name == "sleep" and mark in _words(p.pid)]


async def test_a_program_that_asks_is_not_answered(program: Program) -> None:
    asks = program('printf "[sudo] Password for you: " >&2; read x; echo "got $x" >&2; exit 1')
    error = await refused(f"local:?via={asks}")
    assert type(error) is remit.BootstrapError
    assert error.lasting
    assert "asks for a password" in error.message
    assert "[sudo] Password for you:" in str(error)
    assert "got" not in str(error)


async def test_an_interpreter_that_only_the_caller_has(tmp_path: Path, ssh_accounts: None) -> None:
    """Another account may not be able to run it: others are tried."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "python").symlink_to(sys.executable)
    away = program_as(ACCOUNTS["quiet"][0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", str(private / "python"))
        assert await said("local:", "id", "-un", via=away) == ACCOUNTS["quiet"][0]


def program_as(account: str) -> list[str]:
    entry = pwd.getpwnam(account)
    change = [needs.tool("setpriv"), f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}"]
    return [*change, "--clear-groups"]


# -- sudo and su


@pytest.mark.real
async def test_sudo_makes_jobs_another_accounts(sshd: Sshd, bobs: Path) -> None:
    target = f"ssh:alice?config={sshd.config}&state={bobs}"
    bob = ACCOUNTS["bob"][0]
    async with remit.connect(target, via=sudo_bob()) as session:
        assert session.peer is not None
        assert session.peer.user == bob
        assert (await session.run("id -un; echo $HOME")).text.split() == [bob, f"/home/{bob}"]
        job = await session.start("echo on; sleep 1000", placement="keep", name="bobs")
    assert (bobs / "jobs" / job.id).owner() == bob
    # What is kept is found again by the session's own words for its target, and by no others.
    async with remit.connect(target) as alone:
        with pytest.raises(remit.TargetError, match="Permission denied"):
            await alone.jobs()
    async with remit.connect(session.target) as again:
        found = await again.job("bobs")
        await found.suspend()
        await found.resume()
        assert await found.stop() == []
        assert await found.wait() is JobState.STOPPED
        await found.remove()


@pytest.mark.real
@pytest.mark.parametrize("how", ["sudo", "su", "setpriv"])
async def test_nothing_is_left_of_a_session_through_another_account(
    how: str, sudo: None, tmp_path: Path
) -> None:
    bob = ACCOUNTS["bob"][0]
    needs.tool(how)
    via = {
        "sudo": sudo_bob(),
        "su": ["su", "-s", "/bin/sh", "-c", 'exec "$0" "$@"', "--", bob],
        "setpriv": program_as(bob),
    }[how]
    mark = f"1000{secrets.randbelow(10**9)}"
    async with remit.connect("local:", via=via) as session:
        job = await session.start(f"sleep {mark} & setsid sleep {mark} & id -un; wait")
        async for record in job.receive(keep=True):
            assert record.data == f"{bob}\n".encode()
            break
        begun = [p.pid for p in processes.everyone() if mark in _words(p.pid)]
        assert len(begun) >= 2

    def gone() -> bool:
        return not any(mark in _words(p.pid) for p in processes.everyone())

    await anyio.to_thread.run_sync(run.wait_until, gone, "its processes to end")


@pytest.mark.real
async def test_a_sudo_that_needs_a_password_says_so(sshd: Sshd, sudo: None) -> None:
    target = f"ssh:quiet?config={sshd.config}"
    for options in (["-n"], []):  # without -n it would ask, and there is nobody
        error = await refused(target, via=["sudo", *options, "--"])
        assert type(error) is remit.BootstrapError
        assert error.lasting
        assert error.message.startswith("sudo on ssh:quiet?")
        assert error.message.endswith(" needs a password")
        assert "sudo: a password is required" in str(error)
        assert "NOPASSWD" in error.hint
        assert "`remit login`" in error.hint
    error = await refused(target, via=["sudo", "-n", "-u", "nobody-of-that-name", "--"])
    assert "does not allow it" in error.message
    assert "nobody-of-that-name" in error.evidence


@pytest.mark.real
async def test_words_reach_a_login_shell_as_they_are(sshd: Sshd) -> None:
    odd = "a 'b' \"c\" $HOME * ; %26"
    target = f"ssh:alice?config={sshd.config}"
    assert await said(target, "sh", "-c", 'echo "$ODD"', via=["env", f"ODD={odd}"]) == odd


@pytest.mark.real
async def test_a_container_is_reached_through_a_program(docker: object) -> None:
    python = docker.python  # type: ignore[attr-defined]
    assert await said(f"docker:{python}?via=env A=there", "sh", "-c", "echo $A") == "there"
    error = await refused(f"docker:{python}?via=remit-has-no-such-program")
    assert "there is no program 'remit-has-no-such-program'" in error.message


# -- what is told meanwhile


async def test_what_happens_is_told(program: Program) -> None:
    noisy = program('echo queued; printf "granted soon" >&2; exec "$@"')
    told: list[tuple[str, str]] = []
    async with remit.connect(
        f"local:?via={noisy}", on_status=lambda stage, detail: told.append((stage, detail))
    ):
        stages = [stage for stage, _ in told]
    assert [stage for stage in stages if stage != "heard"] == ["starting", "python", "open"]
    assert told[0] == ("starting", f"{shlex.quote(noisy)} {sys.executable} -I -S -c …")
    assert ("heard", "queued") in told
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert ("python", version) in told


async def test_one_who_is_told_and_raises_is_told_no_more(caplog: pytest.LogCaptureFixture) -> None:
    told = []

    def fail(stage: str, detail: str) -> None:
        told.append(stage)
        raise RuntimeError("no, thanks")

    async with remit.connect("local:", on_status=fail) as session:
        assert (await session.run(["true"])).exit_status == 0
    assert told == ["starting"]
    assert "on_status of local: raised RuntimeError('no, thanks')" in caplog.text


async def test_who_is_to_be_told_must_be_a_function() -> None:
    with pytest.raises(TypeError, match="on_status is a function or None, not 3"):
        async with remit.connect("local:", on_status=3):  # type: ignore[arg-type]
            raise AssertionError("it was open")


def _words(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
