"""``remit run``: a command there that looks like one here."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.program import REMIT, Cli
from testbed import needs, processes, run
from testbed.link import Link
from testbed.sshd import Sshd


@pytest.mark.parametrize(
    ("line", "status", "told"),
    [
        ("exit 0", 0, ""),
        ("exit 3", 3, ""),
        ("exit 255", 255, ""),
        ("kill -9 $$", 137, "remit: localhost: SIGKILL"),
        ("kill -TERM $$", 143, "remit: localhost: SIGTERM"),
    ],
)
def test_exit_status_is_the_commands_own(cli: Cli, line: str, status: int, told: str) -> None:
    done = cli("run", "--shell", "local:", "--", line, status=status)
    assert done.stderr.decode().strip() == told


@pytest.mark.parametrize(
    ("words", "status", "told"),
    [
        (["local:", "--", "no-such-program"], 127, "no such program: no-such-program"),
        (["--cwd", "/no/such", "local:", "--", "true"], 127, "no such directory: /no/such"),
        (["--timeout", "0.2", "local:", "--", "sleep", "1000"], 124, "timeout"),
        (["bogus:x", "--", "true"], 2, "no transport is called 'bogus'"),
        (["ssh:-oProxyCommand=x", "--", "true"], 2, "starts with '-'"),
        (["local:", "--"], 2, "no command"),
        (["local:", "true"], 2, "no command"),
        (["--shell", "local:", "--", "a", "b"], 2, "--shell takes one word"),
        (["--no-such-option", "local:", "--", "true"], 2, "--no-such-option"),
        (["--timeout", "soon", "local:", "--", "true"], 2, "--timeout"),
        (["--timeout", "0", "local:", "--", "true"], 2, "--timeout 0"),
        ([], 2, "TARGET"),
        (["command:false", "--", "true"], 255, "command:false"),
        (["command:/no/such/program", "--", "true"], 255, "/no/such/program"),
    ],
)
def test_what_did_not_run_says_so(cli: Cli, words: list[str], status: int, told: str) -> None:
    done = cli("run", *words, status=status)
    assert told in done.stderr.decode()
    assert not done.stdout
    assert b"Traceback" not in done.stderr


def test_words_reach_the_command_as_they_are(cli: Cli) -> None:
    words = ["a b", "", "$HOME", "'", "--", "-x", "é", "\n"]
    show = "import sys; print(sys.argv[1:])"
    done = cli("run", "local:", "--", sys.executable, "-c", show, *words)
    assert done.stdout.decode().strip() == repr(words)


def test_environment_and_directory(cli: Cli) -> None:
    # Where the caller is, on this computer.
    done = cli("run", "--env", "A=b c", "--shell", "local:", "--", 'echo "$A"; pwd')
    assert done.stdout.decode() == f"b c\n{cli.directory}\n"
    assert cli("run", "--cwd", "/", "local:", "--", "pwd").stdout == b"/\n"


@pytest.mark.parametrize("words", [["run"], ["start"], ["start", "--keep"]])
def test_a_directory_that_is_gone_is_said_to_be_gone(cli: Cli, words: list[str]) -> None:
    def gone(*options: str) -> subprocess.CompletedProcess[bytes]:
        line = shlex.join([str(REMIT), *words, *options, "local:", "--", "pwd"])
        return subprocess.run(
            ["sh", "-c", f"mkdir gone && cd gone && rmdir ../gone && {line}"],
            cwd=cli.directory,
            env=cli.env,
            capture_output=True,
            timeout=60.0,
        )

    done = gone()
    first, *more = done.stderr.decode().splitlines()
    assert first == "remit: the current directory was removed"
    assert all(line.startswith("  ") for line in more)
    assert (done.returncode, done.stdout) == (2, b"")
    # Elsewhere it works.
    done = gone("--cwd", "/")
    assert (done.returncode, done.stderr) == (0, b"")


def test_both_streams_come_byte_for_byte(cli: Cli) -> None:
    every = bytes(range(256)) * 4096
    done = cli("run", "local:", "--", "sh", "-c", "cat; echo no >&2", stdin=every)
    assert done.stdout == every
    assert done.stderr == b"no\n"


@pytest.mark.parametrize("kind", ["file", "pipe", "socket"])
def test_stdin_is_passed_on_with_its_end(cli: Cli, kind: str, tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    (tmp_path / "data").write_bytes(data)
    feed = {
        "file": f"{REMIT} run local: -- sha256sum < data",
        "pipe": f"cat data | {REMIT} run local: -- sha256sum",
        "socket": f"{sys.executable} -c '{_OVER_SOCKET}' {REMIT} run local: -- sha256sum",
    }[kind]
    out = subprocess.run(
        feed, shell=True, cwd=tmp_path, env=cli.env, capture_output=True, timeout=60.0, check=True
    ).stdout
    assert out.split()[0].decode() == hashlib.sha256(data).hexdigest()


_OVER_SOCKET = """
import socket, subprocess, sys
ours, its = socket.socketpair()
process = subprocess.Popen(sys.argv[1:], stdin=its)
its.close()
ours.sendall(open("data", "rb").read())
ours.close()
sys.exit(process.wait())
"""


def test_a_closed_stdin_is_empty(cli: Cli) -> None:
    done = subprocess.run(
        f"{REMIT} run local: -- wc -c <&-",
        shell=True,
        env=cli.env,
        capture_output=True,
        timeout=60.0,
        check=True,
    )
    assert done.stdout.strip() == b"0"


def test_a_command_that_reads_nothing_does_not_wait_for_the_end_of_stdin(cli: Cli) -> None:
    reader, writer = os.pipe()
    try:
        with cli.running("run", "local:", "--", "echo", "done", stdin=reader) as process:
            out, _ = process.communicate(timeout=30.0)
        assert (process.returncode, out) == (0, b"done\n")
    finally:
        os.close(reader)
        os.close(writer)


def test_output_comes_as_it_is_made(cli: Cli) -> None:
    fifo = cli.directory / "fifo"
    os.mkfifo(fifo)
    line = f"echo first; read x < {shlex.quote(str(fifo))}; echo $x"
    with cli.running("run", "--shell", "local:", "--", line) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first\n"
        fifo.write_bytes(b"second\n")
        assert process.stdout.read() == b"second\n"
        assert process.wait(30.0) == 0


def test_a_slow_reader_holds_the_command_up(cli: Cli) -> None:
    """What is printed stays in pipes and windows: nothing grows while nobody reads."""
    mark = cli.directory / "mark"
    line = f"head -c 64000000 /dev/zero; echo over > {shlex.quote(str(mark))}"
    with cli.running("run", "--shell", "local:", "--", line) as process:
        assert process.stdout is not None
        assert len(process.stdout.read(1000)) == 1000
        assert not mark.exists()
        assert len(process.stdout.read()) == 64_000_000 - 1000
        assert process.wait(30.0) == 0
    assert mark.exists()


def test_a_reader_that_leaves_ends_the_command(cli: Cli) -> None:
    line = f"set -o pipefail; {REMIT} run local: -- yes $$-marker | head -n 2"
    done = subprocess.run(
        ["bash", "-c", line], env=cli.env, capture_output=True, timeout=60.0, cwd=cli.directory
    )
    assert done.returncode == 141
    assert done.stdout.count(b"-marker\n") == 2
    assert done.stderr == b""


# -- several targets


def test_several_targets_give_whole_lines_with_their_location(cli: Cli) -> None:
    line = 'i=0; while [ $i -lt 500 ]; do echo "line $i"; i=$((i+1)); done; printf end'
    done = cli("run", "--shell", "local:", "command:env", "--", line)
    lines = done.stdout.decode().splitlines()
    expected = [f"line {i}" for i in range(500)] + ["end"]
    for location in ("localhost", "env"):
        assert [
            x.removeprefix(f"{location}: ") for x in lines if x.startswith(location)
        ] == expected
    assert len(lines) == 2 * len(expected)


def test_several_targets_get_the_same_stdin_and_give_the_worst_status(cli: Cli) -> None:
    line = 'read x; echo "got $x"; [ "$REMIT_STATUS" ] && exit "$REMIT_STATUS"; exit 0'
    targets = ["local:", "command:env REMIT_STATUS=7"]
    done = cli("run", "--shell", *targets, "--", line, stdin=b"word\n", status=7)
    assert sorted(done.stdout.decode().splitlines()) == [
        "env REMIT_STATUS=7: got word",
        "localhost: got word",
    ]
    assert "exit status 7" in done.stderr.decode()


def test_a_target_that_cannot_be_reached_does_not_keep_the_others(cli: Cli) -> None:
    done = cli("run", "local:", "command:false", "--", "cat", stdin=b"here\n", status=255)
    assert done.stdout == b"localhost: here\n"
    assert b"command:false" in done.stderr


# -- a terminal

HOSTILE = b"a\x1b]0;title\x07\x1b[2Jb\x9bc\xc2\x9bd\x08e\x7ff\xe2\x80\xaeg\th\xc3\xa9\xff\n"
SHOWN = r"a\x1b]0;title\x07\x1b[2Jb\x9bc\x9bd\x08e\x7ff\u202eg" + "\thé" + r"\xff" + "\r\n"


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    ours, its = pty.openpty()
    try:
        yield ours, its
    finally:
        os.close(ours)


def _all_of(fd: int) -> bytes:
    data = b""
    while True:
        try:
            piece = os.read(fd, 65536)
        except OSError:  # EIO: the last one who had the terminal open has closed it
            return data
        data += piece


@pytest.mark.parametrize("raw", [False, True])
def test_a_terminal_is_shown_harmless_text_unless_raw(cli: Cli, raw: bool) -> None:
    script = "import sys, time\nfor i in range(0, len(d := %r)): sys.stdout.buffer.write(d[i:i+1]);"
    script = (script + " sys.stdout.flush()") % HOSTILE
    words = ["run", *(["--raw"] if raw else []), "local:", "--", sys.executable, "-c", script]
    with terminal() as (ours, its):
        with cli.running(*words, stdout=its, stderr=its) as process:
            os.close(its)
            shown = _all_of(ours)
        assert process.returncode == 0
    assert shown == (HOSTILE.replace(b"\n", b"\r\n") if raw else SHOWN.encode())


def test_what_a_target_says_in_errors_is_harmless_too(cli: Cli) -> None:
    target = r"command:sh -c 'printf \\033[31mred >&2; exit 1' --"
    with terminal() as (ours, its):
        with cli.running("run", target, "--", "true", stdout=its, stderr=its) as process:
            os.close(its)
            shown = _all_of(ours)
        assert process.returncode == 255
    assert b"\x1b" not in shown
    assert rb"\x1b[31mred" in shown


# -- interrupts


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_for_us_stops_the_command_and_shows_its_last_words(
    cli: Cli, number: signal.Signals, status: int
) -> None:
    line = "trap 'echo bye; exit 0' TERM; sleep 1000 & echo up; wait"
    with cli.running("run", "--shell", "local:", "--", line) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        # A shell says "up" as soon as it has forked, which is before there is a sleep.
        run.wait_until(lambda: bool(sleeping(process.pid)), "the sleep to be there")
        job = sleeping(process.pid)
        process.send_signal(number)
        out, err = process.communicate(timeout=30.0)
    assert process.returncode == status
    assert out == b"bye\n"
    assert err == b""
    run.wait_until(lambda: not any(map(processes.find, job)), "the job to be gone")


def sleeping(pid: int) -> list[int]:
    return [p.pid for p in processes.descendants([pid]) if p.name == "sleep"]


def test_an_interrupt_while_connecting(cli: Cli) -> None:
    with cli.running("run", "command:sh -c 'sleep 1000' --", "--", "true") as process:
        run.wait_until(
            lambda: any(p.name == "sleep" for p in processes.descendants([process.pid])),
            "the transport's program",
        )
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30.0)
    assert process.returncode == 130
    assert b"Traceback" not in err


def test_an_ignored_signal_stays_ignored(cli: Cli) -> None:
    """As under nohup."""
    line = f"trap '' HUP; exec {REMIT} run --shell local: -- 'echo up; read x; echo over'"
    with subprocess.Popen(
        ["sh", "-c", line], env=cli.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"up\n"
        process.send_signal(signal.SIGHUP)
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stdout.read() == b"over\n"
        assert process.wait(30.0) == 0


# -- over a link


def test_a_link_that_breaks_is_the_last_word(cli: Cli, ssh_link: Link) -> None:
    target = f"ssh:quiet?config={ssh_link.config}"
    with cli.running("run", "--shell", target, "--", "echo up; sleep 1000") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        ssh_link.reset()
        _, err = process.communicate(timeout=60.0)
    assert process.returncode == 255
    last = err.decode().splitlines()[-1]
    assert last.startswith("remit: the link to ")
    assert "lost" in last


def test_over_ssh_from_an_account_that_prints_noise(cli: Cli, sshd: Sshd) -> None:
    target = f"ssh:alice?config={sshd.config}"
    done = cli("run", target, "--", "sh", "-c", "id -un; exit 5", status=5)
    assert done.stdout == b"remit_alice\n"


def test_a_host_that_refuses_shows_the_words_of_its_transport(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host nowhere\n HostName 127.0.0.1\n Port 1\n")
    done = cli("run", f"ssh:nowhere?config={config}", "--", "true", status=255)
    text = done.stderr.decode()
    assert text.startswith("remit: ")
    assert "Connection refused" in text


@pytest.fixture
def as_root() -> Iterator[str]:
    """A program that runs another as root, whoever calls it: sudo, without its questions."""
    source = "#include <unistd.h>\nint main(int n, char **w)\n{ return setuid(0) || "
    source += "execvp(w[1], w + 1); }\n"
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        program = f"{directory}/as-root"
        command = [needs.tool("cc"), "-x", "c", "-o", program, "-"]
        subprocess.run(command, input=source.encode(), check=True, timeout=60)
        os.chmod(program, 0o4755)
        yield program


@pytest.mark.parametrize("line", ["exec {} sleep 27", "{} sleep 27; true"])
def test_what_it_may_not_end_is_named_and_not_waited_for(
    cli: Cli, alice: str, as_root: str, line: str
) -> None:
    words = ["run", "--timeout", "1", "--shell", alice, "--", line.format(as_root)]
    done = cli(*words, status=124)
    assert re.search(rb"pid \d+ \(sleep\)", done.stderr), done
    assert done.stderr.count(b"remit: ") == 1
    assert b"did not end it in time" not in done.stderr  # nobody's patience came to its end
