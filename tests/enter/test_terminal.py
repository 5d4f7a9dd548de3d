"""The verb `enter`: what a program in a terminal may rely on, and how the terminal ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.harness import Refused, Wire, wait_until_ended
from enter.entered import SILENCE, Entered, control_dir, control_dirs
from enter.versions import every_python
from remit._wire.credit import LEAST_CHARGE
from testbed import run
from testbed.processes import find, kill
from testbed.pythons import Interpreter
from testbed.surroundings import python_without_ctypes

Enter = Callable[..., Entered]
BringUp = Callable[..., Wire]
HEEDS_NOTHING = "trap '' HUP TERM INT; echo pid $$; while :; do sleep 1; done"


def pid_shown(entered: Entered) -> int:
    return int(entered.wait_for(rb"pid (\d+)\r\n")[1])


def is_stopped(pid: int) -> bool:
    return "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


def leave(entered: Entered, how: str) -> None:
    match how:
        case "close":
            entered.wire.close_channel(entered.channel)
        case "goodbye":
            entered.wire.goodbye()
        case "hang_up":
            entered.wire.hang_up()
        case "kill":
            entered.wire.kill()


class TestProgram:
    @every_python
    def test_has_a_terminal_of_the_size_asked_for(self, enter: Enter) -> None:
        entered = enter("stty", "size", rows=31, columns=97)
        assert entered.end() == {"exit_status": 0, "signal": None}
        assert entered.shown == b"31 97\r\n"

    def test_sees_a_resize(self, enter: Enter) -> None:
        entered = enter(
            "sh", "-c", "trap 'stty size; exit' WINCH; echo on; while :; do sleep .02; done"
        )
        entered.wait_for(b"on\r\n")
        entered.wire.event(entered.channel, "resize", rows=40, columns=132)
        entered.end()
        assert entered.shown == b"on\r\n40 132\r\n"

    @every_python
    def test_is_controlled_by_its_terminal(self, enter: Enter) -> None:
        entered = enter("sh", "-c", "tty; echo mine > /dev/tty")
        entered.end()
        assert entered.shown.startswith(b"/dev/pts/")
        assert entered.shown.endswith(b"\r\nmine\r\n")

    def test_knows_the_kind_of_terminal_and_not_the_size_of_another(
        self, bring_up: BringUp
    ) -> None:
        wire = bring_up(env={"TERM": "other", "LINES": "7", "COLUMNS": "8"})
        entered = Entered(
            wire, "sh", "-c", 'echo "$TERM ${LINES-} ${COLUMNS-} $MORE"', env={b"MORE": b"more"}
        )
        entered.end()
        assert entered.shown == b"xterm   more\r\n"

    @every_python
    def test_is_ended_by_ctrl_c(self, enter: Enter) -> None:
        entered = enter("sh", "-c", "echo on; exec sleep 1000")
        entered.wait_for(b"on")
        entered.type(b"\x03")
        assert entered.end() == {"exit_status": None, "signal": "SIGINT"}

    def test_exit_status_comes_back(self, enter: Enter) -> None:
        assert enter("sh", "-c", "exit 3").end() == {"exit_status": 3, "signal": None}

    @every_python
    def test_missing_program_is_refused_in_words(self, enter: Enter) -> None:
        with pytest.raises(Refused, match="no such program") as caught:
            enter("no-such-program")
        assert caught.value.code == "start-failed"
        assert caught.value.facts["message"] == "no such program: no-such-program"
        assert control_dirs() == []

    def test_impossible_size_is_refused(self, enter: Enter) -> None:
        with pytest.raises(Refused, match="a terminal cannot have") as caught:
            enter("true", rows=70000)
        assert caught.value.code == "bad-request"

    @every_python
    def test_inherits_no_descriptor_of_the_agent(self, enter: Enter) -> None:
        script = (
            "for n in $(seq 3 200); do [ ! -e /proc/self/fd/$n ] || echo fd $n; done; echo over"
        )
        entered = enter("sh", "-c", script)
        entered.end()
        assert entered.shown == b"over\r\n"


class TestBytes:
    @every_python
    def test_what_is_typed_arrives_and_what_is_shown_comes_back(self, enter: Enter) -> None:
        lines = b"".join(b"line %06d\n" % number for number in range(20000))
        entered = enter("sh", "-c", "stty -echo -opost; echo on; cat; echo over", credit=1 << 26)
        entered.wait_for(b"on\n")
        entered.type(lines + b"\x04")
        entered.end(30)
        assert entered.shown == b"on\n" + lines + b"over\n"

    def test_output_waits_for_credit(self, enter: Enter) -> None:
        script = "stty -opost; head -c 300000 /dev/zero; printf over"
        entered = enter("sh", "-c", script, credit=1000)
        while len(entered.shown) < 300004:
            size = len(entered.wire.piece(entered.channel).data)
            assert size <= 1000
            entered.shown += bytes(size)
            entered.wire.grant(entered.channel, max(size, LEAST_CHARGE))
        entered.end()

    def test_ctrl_c_gets_through_while_output_waits(self, enter: Enter) -> None:
        entered = enter("yes", credit=5000)
        assert entered.wire.piece(entered.channel).data
        entered.type(b"\x03")
        entered.wire.grant(entered.channel, 1 << 22)
        assert entered.end()["signal"] == "SIGINT"


class TestEnd:
    def test_does_not_wait_for_what_holds_the_terminal(self, enter: Enter) -> None:
        entered = enter("sh", "-c", "trap '' HUP; sleep 1000 & echo pid $!")
        end = entered.end()
        pid = pid_shown(entered)
        assert end == {"exit_status": 0, "signal": None, "left_behind": [f"pid {pid} (sleep)"]}
        entered.wire.goodbye()
        entered.wire.wait_ended()
        assert find(pid)
        kill([pid])

    @pytest.mark.parametrize("how", ["close", "goodbye", "hang_up", "kill"])
    def test_shell_and_directory_go_however_the_caller_leaves(
        self, enter: Enter, how: str, tmp_path: Path
    ) -> None:
        # An interactive bash heeds no TERM; killed, or hung up on twice, it bids no farewell.
        farewell, entered = tmp_path / "farewell", enter("bash", "--norc", "-i")
        entered.type(b"trap ': > %s' EXIT; echo pi''d $$\n" % os.fsencode(farewell))
        pid, directory = pid_shown(entered), control_dir()
        assert directory.is_dir()
        leave(entered, how)
        wait_until_ended(pid)
        assert farewell.exists()
        run.wait_until(lambda: not directory.exists(), "the directory to go")

    def test_program_that_is_stopped_hears_of_it(self, enter: Enter, tmp_path: Path) -> None:
        farewell = tmp_path / "farewell"
        script = f"trap ': > {farewell}; exit' HUP; echo pid $$; kill -STOP $$"
        entered = enter("bash", "-c", script)
        pid = pid_shown(entered)
        run.wait_until(lambda: is_stopped(pid), "it to stop")
        entered.wire.goodbye()
        wait_until_ended(pid)
        assert farewell.exists()

    @pytest.mark.parametrize("how", ["goodbye", "kill"])  # the agent sees to it, or the janitor
    def test_program_that_heeds_nothing_is_killed(self, enter: Enter, how: str) -> None:
        entered = enter("sh", "-c", HEEDS_NOTHING)
        pid, directory = pid_shown(entered), control_dir()
        leave(entered, how)
        wait_until_ended(pid)
        run.wait_until(lambda: not directory.exists(), "the directory to go")

    def test_killed_too_where_no_orphans_are_adopted(
        self, python: Interpreter, state_dir: Path, tmp_path: Path
    ) -> None:
        # The janitor does not become the program's parent.
        without_ctypes = python_without_ctypes(str(python.path), tmp_path)
        with Wire(without_ctypes, state=state_dir, silence=SILENCE) as wire:
            entered = Entered(wire, "sh", "-c", HEEDS_NOTHING)
            pid = pid_shown(entered)
            wire.kill()
            wait_until_ended(pid)

    def test_program_that_heeds_no_hang_up_is_asked_to_end(
        self, enter: Enter, tmp_path: Path
    ) -> None:
        farewell = tmp_path / "farewell"
        script = f"trap '' HUP; trap ': > {farewell}; exit' TERM; echo pid $$"
        entered = enter("sh", "-c", f"{script}; while :; do sleep .02; done")
        pid = pid_shown(entered)
        entered.wire.close_channel(entered.channel)
        wait_until_ended(pid)
        assert farewell.exists()

    def test_directory_goes_with_the_program(self, enter: Enter) -> None:
        entered = enter("true")
        entered.end()
        assert control_dirs() == []

    def test_agent_serves_on(self, enter: Enter) -> None:
        entered = enter("true")
        entered.end()
        assert entered.wire.run("echo", "more").stdout == b"more\n"
        again = Entered(entered.wire, "echo", "again")
        again.end()
        assert again.shown == b"again\r\n"


class TestDirectory:
    @every_python
    def test_is_for_this_account_alone(self, enter: Enter) -> None:
        enter("sleep", "1000")
        directory = control_dir()
        modes = {path.name: path.lstat().st_mode & 0o777 for path in directory.iterdir()}
        assert directory.stat().st_mode & 0o777 == 0o700
        assert modes == {
            "remit": 0o700,
            "socket": 0o600,
            "bashrc": 0o600,
            ".zshenv": 0o600,
            ".zshrc": 0o600,
            "shrc": 0o600,
            ".cshrc": 0o600,
            "csh-prompt": 0o600,
        }

    def test_is_in_the_state_directory_where_there_is_no_other(
        self, bring_up: BringUp, state_dir: Path
    ) -> None:
        wire = bring_up(env={"XDG_RUNTIME_DIR": ""}, state=state_dir)
        assert Entered(wire, "sleep", "1000").answer["problem"] is None
        assert control_dir(state_dir).is_dir()

    def test_is_not_where_others_can_write(self, bring_up: BringUp, state_dir: Path) -> None:
        Path(os.environ["XDG_RUNTIME_DIR"]).chmod(0o777)
        Entered(bring_up(state=state_dir), "sleep", "1000")
        assert control_dirs() == []
        assert control_dir(state_dir).is_dir()

    def test_may_be_deeper_than_the_name_of_a_socket_is_long(
        self, bring_up: BringUp, state_dir: Path
    ) -> None:
        deep = state_dir / ("d" * 200) / "it's here"
        entered = Entered(
            bring_up(env={"XDG_RUNTIME_DIR": ""}, state=deep), "sh", "-c", "remit jobs"
        )
        assert entered.end()["exit_status"] == 0
        assert entered.shown.startswith(b"ID ")

    def test_without_a_place_there_is_a_terminal_all_the_same(self, bring_up: BringUp) -> None:
        wire = bring_up(env={"XDG_RUNTIME_DIR": ""}, state=Path("/proc/nowhere"))
        entered = Entered(wire, "echo", "here")
        assert "`remit` cannot be used inside" in entered.answer["problem"]
        assert "/proc/nowhere" in entered.answer["problem"]
        entered.end()
        assert entered.shown == b"here\r\n"


def test_a_shell_that_goes_another_way_is_told_of(bring_up: BringUp, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("exec sh -c 'echo up; exec cat'\n")
    entered = Entered(bring_up(env={"HOME": str(tmp_path)}, silence=SILENCE))
    entered.wait_for(rb"up\r\n")
    entered.wait_for(rb"prompt does not show where it is; `remit` is \S+/remit here")
