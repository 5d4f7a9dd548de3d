"""`remit enter` as its user has it: a program in a real terminal, on real targets."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from enter.screen import Screen
from testbed import needs, run
from testbed.containers import Engine
from testbed.processes import find
from testbed.sshd import Sshd

REMIT = Path(sys.executable).with_name("remit")
PROMPT = r"^\[[\w-]+\] .*[$#] $"
# Its first word is said by what is in front by then: a Ctrl-C before that is the shell's.
SLEEP = "sh -c 'echo on; exec sleep 1000'"


@pytest.fixture(params=["local", "ssh", "docker", "podman"])
def target(request: pytest.FixtureRequest) -> Iterator[str]:
    match request.param:
        case "local":
            yield "local:"
        case "ssh":
            server: Sshd = request.getfixturevalue("sshd")
            yield f"ssh:alice?config={server.config}"
        case _:
            engine: Engine = request.getfixturevalue(request.param)
            with run.environment(engine.env):
                yield f"{request.param}:{engine.python}"


def place(target: str) -> str:
    """What stands in the prompt: the location."""
    if target == "local:":
        return "localhost"
    return target.partition(":")[2].partition("?")[0]


def piped(target: str, keys: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [REMIT, "enter", target, *words], input=keys, capture_output=True, timeout=60
    )


class TestAnywhere:
    def test_the_story(self, target: str) -> None:
        """A job of the session lists a log; its result is kept there, for a later session."""
        name = f"log-{uuid.uuid4().hex[:8]}"  # the account may have others of other tests
        result = f"/tmp/remit-{uuid.uuid4().hex}"
        prompt = rf"^\[{place(target)}\] .*[$#] $"
        with Screen([REMIT, "enter", target], prompt=prompt) as screen:
            screen.command(rf"printf 'event %d\n' 1 2 3 > {result}.log; echo done", "^done$")
            job_id = screen.command(
                f"remit start --name {name} -- cat {result}.log", "^j[a-z2-7]{12}$"
            )[0]
            screen.command(f"remit wait {name}", f"^{job_id}  {name}  Completed$")
            screen.command("remit jobs", f"^{job_id} +{name} +Completed +True +localhost +cat ")
            screen.command(f"remit receive {name} > {result}; echo done", "^done$")
            screen.command("remit jobs", f"^{job_id} +{name} +Completed +False +localhost +cat ")
            screen.wait_for(prompt)
            screen.type("exit\r")
            assert screen.wait_exit() == 0
        later = piped(target, b"", "--", "cat", result)
        assert later.stdout == b"event 1\r\nevent 2\r\nevent 3\r\n"
        assert piped(target, b"", "--", "rm", result, f"{result}.log").returncode == 0

    def test_size_keys_and_exit_status(self, target: str) -> None:
        with Screen([REMIT, "enter", target], size=(31, 197), prompt=PROMPT) as screen:
            screen.command("stty size", "^31 197$")
            screen.command(r"until stty size | grep '40 210'; do sleep .02; done", "")
            screen.resize(40, 210)
            screen.wait_for("^40 210$")
            screen.command(SLEEP, "^on$")
            screen.type("\x03")
            screen.wait_for(PROMPT)
            screen.type("exit 3\r")
            assert screen.wait_exit() == 3
            assert screen.modes_now() == screen.modes

    def test_commands_from_a_pipe(self, target: str) -> None:
        # An rc file that reads its stdin, as alice's does, takes what was typed before it ran.
        quiet = target.replace("ssh:alice", "ssh:quiet")
        done = piped(quiet, b"cd /; echo $((6 * 7)) in $PWD; stty size; exit 4\n")
        assert done.returncode == 4, done
        assert b"\r\n42 in /\r\n24 80\r\n" in done.stdout.replace(b"\x1b[?2004l\r", b"")


class TestTerminal:
    def test_ctrl_c_is_a_key(self) -> None:
        with Screen(
            [REMIT, "enter", "local:", "--", "sh", "-c", "echo on; exec sleep 1000"]
        ) as screen:
            screen.wait_for("^on$")
            screen.type("\x03")
            assert screen.wait_exit() == 128 + signal.SIGINT
            assert screen.modes_now() == screen.modes

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
    def test_is_put_back_when_we_are_told_to_leave(self, number: signal.Signals) -> None:
        with Screen(
            [REMIT, "enter", "local:", "--", "sh", "-c", "echo pid $$; exec sleep 1000"]
        ) as screen:
            pid = int(screen.wait_for(r"^pid (\d+)$")[1])
            assert screen.modes_now() != screen.modes
            screen.process.send_signal(number)
            assert screen.wait_exit() == 128 + number
            assert screen.modes_now() == screen.modes
        run.wait_until(lambda: find(pid) is None, "the program there to end")

    def test_is_put_back_while_we_are_stopped(self) -> None:
        """Under a shell that lets the terminal as it finds it."""
        there = "sh -c 'echo up; exec cat'"
        line = (
            f"{REMIT} enter local: -- {there}; for n in 1 2 3; do echo st''opped; read x; fg; done"
        )
        with Screen([needs.tool("dash"), "-mc", line]) as screen:
            screen.wait_for("^up$")
            ours = screen.front
            for word in ("first", "second", "third"):
                os.kill(ours, signal.SIGTSTP)
                screen.wait_for("^stopped$")
                assert screen.modes_now() == screen.modes
                screen.type("\r")
                run.wait_until(lambda: screen.modes_now() != screen.modes, "it to be raw again")
                screen.type(f"{word}\r")
                screen.wait_for(f"^{word}$\n^{word}$")
            screen.type("\x04")
            assert screen.wait_exit() == 0
            assert screen.modes_now() == screen.modes

    def test_belongs_to_the_shell_once_we_are_stopped(self) -> None:
        """Ended while another has the terminal, we leave it as that one has it."""
        line = f"{REMIT} enter local: -- sh -c 'echo up; exec cat'; stty -echo; echo st''opped; "
        line += "read x; kill %1; wait; echo ov''er; read x"
        with Screen([needs.tool("dash"), "-mc", line]) as screen:
            screen.wait_for("^up$")
            os.kill(screen.front, signal.SIGTSTP)
            screen.wait_for("^stopped$")
            theirs = screen.modes_now()
            screen.type("\r")
            screen.wait_for("^over$")
            assert screen.modes_now() == theirs
            screen.type("\r")
            screen.wait_exit()

    def test_is_put_back_when_the_link_is_lost(self) -> None:
        drawn = r"printf '\033[?1049h\033[?25l\033[31m'"
        script = f"{drawn}; echo agent $PPID; trap '' HUP; exec sleep 1000"
        with Screen([REMIT, "enter", "local:", "--", "sh", "-c", script]) as screen:
            os.kill(int(screen.wait_for(r"^agent (\d+)$")[1]), signal.SIGKILL)
            assert screen.wait_exit() == 255
            assert screen.modes_now() == screen.modes
            assert screen.text.splitlines()[-1].startswith("remit: the link to local: was lost")
            undone = screen.raw.rindex(b"\x1b[?1049l\x1b[?25h\x1b[m")
            assert undone < screen.raw.index(b"remit: the link")

    def test_a_link_that_hangs_is_left_by_a_tilde_and_a_dot(self) -> None:
        with Screen(
            [REMIT, "enter", "local:", "--", "sh", "-c", "echo agent $PPID; cat"]
        ) as screen:
            agent = int(screen.wait_for(r"^agent (\d+)$")[1])
            os.kill(agent, signal.SIGSTOP)
            try:
                screen.type("nobody takes this\r" * 1000)
                screen.type("~.")
                assert screen.wait_exit() == 255
                assert screen.modes_now() == screen.modes
                assert "was left" in screen.text.splitlines()[-1]
            finally:
                # It goes on by itself once its janitor has gone, and ends.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(agent, signal.SIGCONT)
        run.wait_until(lambda: find(agent) is None, "the agent to end")

    def test_shows_every_byte_as_it_comes(self) -> None:
        done = piped("local:", b"", "--", "printf", r"\033[31m\007\200\n")
        assert done.stdout == b"\x1b[31m\x07\x80\r\n"

    def test_program_that_cannot_be_run(self) -> None:
        done = piped("local:", b"", "--", "no-such-program")
        assert done.returncode == 127
        assert done.stderr.startswith(b"remit: no such program: no-such-program")


class TestAccountWithoutHome:
    @pytest.fixture
    def container(self, docker: Engine) -> str:
        """One whose Python every account there may run."""
        name = docker.new_python()
        run.command(["docker", "exec", name, "chmod", "755", "/root"])
        return name

    def test_has_a_terminal(self, container: str) -> None:
        target = f"command:docker exec -i -u 1234:1234 {container}"
        with Screen([REMIT, "enter", target], prompt=r"^\[docker .*[$#] $") as screen:
            screen.wait_for("^remit: `remit` cannot be used inside: .*user 1234")
            screen.command("id -u; stty size", "^1234\n24 200$")
            screen.command(SLEEP, "^on$")
            screen.type("\x03")
            screen.command("exit 3", "")
            assert screen.wait_exit() == 3

    def test_has_jobs_where_it_is_told_a_state_directory(self, container: str) -> None:
        account = "-u 1234:1234 -e REMIT_STATE_DIR=/tmp/own"
        target = f"command:docker exec -i {account} {container}"
        with Screen([REMIT, "enter", target], prompt=r"^\[docker .*[$#] $") as screen:
            screen.command("remit start --name me -- id -u; remit wait me", "  me  Completed$")
            screen.command("remit receive me", "^1234$")
            screen.command("exit 3", "")
            assert screen.wait_exit() == 3


class TestPipe:
    def test_its_end_is_the_end_of_what_is_typed(self) -> None:
        # The sleep makes the shell miss the first Ctrl-D; the last line is not a whole one.
        done = piped("local:", b"sleep 0.5\necho $((6 * 7))")
        assert done.returncode == 0
        assert b"42\r\n" in done.stdout

    def test_no_stdin_at_all(self) -> None:
        done = subprocess.run(
            [REMIT, "enter", "local:", "--", "cat"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, b"")

    def test_a_terminal_without_a_name_is_dumb(self) -> None:
        env = {key: value for key, value in os.environ.items() if key != "TERM"}
        done = subprocess.run(
            [REMIT, "enter", "local:", "--", "sh", "-c", "echo $TERM"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            timeout=60,
        )
        assert done.stdout.endswith(b"dumb\r\n")

    def test_much_output_comes_whole(self) -> None:
        done = piped("local:", b"", "--", "seq", "300000")
        lines = [line for line in done.stdout.splitlines() if line.isdigit()]
        assert lines == [b"%d" % number for number in range(1, 300001)]

    def test_nowhere_for_remit_inside_is_told_and_no_obstacle(self) -> None:
        env = {**os.environ, "XDG_RUNTIME_DIR": ""}
        done = subprocess.run(
            [REMIT, "enter", "local:?state=/proc/nowhere", "--", "echo", "on"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=env,
            timeout=60,
        )
        assert done.returncode == 0
        assert b"on\r\n" in done.stdout
        assert b"`remit` cannot be used inside" in done.stderr
