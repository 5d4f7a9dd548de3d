"""Real shells, started as `enter` starts them: the user's own files first, then ours."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from enter.screen import Screen
from remit._agent.enter import rc_files
from testbed import needs

# A shell, and its own file.
RC_FILES = {
    "bash": ".bashrc",
    "zsh": ".zshrc",
    "dash": "own-rc",
    "busybox": "own-rc",
    "mksh": ".mkshrc",
    "tcsh": ".cshrc",
    "fish": ".config/fish/config.fish",
}
SHELLS = list(RC_FILES)
LIKE_SH = [shell for shell in SHELLS if shell not in ("tcsh", "fish")]
# What a person may have in it; it sets PATH as if nobody had a say in it.
OWN = "OWN=yes; PS1='own> '; PATH=/usr/bin:/bin; export PATH\n"
OWN_CSH = "set OWN=yes; set prompt='own> '; setenv PATH /usr/bin:/bin\n"
OWN_FISH = """\
set OWN yes
set -gx PATH /usr/bin /bin
function fish_prompt; echo 'own> '; end
"""
PROMPT = r"^\[server01\] (own|theme|elsewhere|named|<\d>)>? "
StartShell = Callable[..., Screen]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """As a control socket's directory is furnished, with a launcher that only tells that it was
    called."""
    path = tmp_path / "it's a $place!"
    path.mkdir()
    for name, text in rc_files.files(os.fsencode(path), "server01").items():
        (path / os.fsdecode(name)).write_bytes(text)
    launcher = path / "remit"
    launcher.write_text("#!/bin/sh\necho inside\n")
    launcher.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    for shell, name in RC_FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text({"tcsh": OWN_CSH, "fish": OWN_FISH}.get(shell, OWN))
    return path


@pytest.fixture
def start(directory: Path, home: Path) -> Iterator[StartShell]:
    """Starts a shell of that name; ``env`` adds to what the account would have."""
    with ExitStack() as screens:

        def start_shell(name: str, env: dict[str, str] | None = None) -> Screen:
            full = {"HOME": str(home), "PATH": "/usr/bin:/bin", **(env or {})}
            if name in ("dash", "busybox"):
                full.setdefault("ENV", "$HOME/own-rc")
            path = needs.tool(name)
            theirs = {os.fsencode(key): os.fsencode(value) for key, value in full.items()}
            how = rc_files.start(os.fsencode(path), os.fsencode(directory), theirs, "server01")
            theirs.update(how.env)
            words = [os.fsdecode(word) for word in how.words]
            if name == "busybox":
                words = ["sh", *words]
            env_there = {os.fsdecode(key): os.fsdecode(value) for key, value in theirs.items()}
            return screens.enter_context(Screen([path, *words], env=env_there, prompt=PROMPT))

        yield start_shell


@pytest.mark.parametrize("shell", SHELLS)
class TestEveryShell:
    def test_shows_the_place_before_the_own_prompt(self, start: StartShell, shell: str) -> None:
        screen = start(shell)
        screen.wait_for(r"^\[server01\] own> ")
        screen.type("echo $OWN\r")
        screen.wait_for(r"^yes$")
        screen.wait_for(r"^\[server01\] own> ")

    def test_finds_remit_whatever_the_own_files_do_to_path(
        self, start: StartShell, shell: str
    ) -> None:
        start(shell).command("remit", "^inside$")

    def test_leaves_a_shell_inside_an_ordinary_one(
        self, start: StartShell, home: Path, shell: str
    ) -> None:
        screen = start(shell)
        line = "echo $ENV:$ZDOTDIR:$REMIT_OWN:$HOME"
        screen.command(f"exec sh -c '{line}'", rf"^({re.escape('$HOME/own-rc')})?:::{home}$")

    def test_ends_with_its_last_status(self, start: StartShell, shell: str) -> None:
        screen = start(shell)
        screen.wait_for(PROMPT)
        screen.type("exit 5\r")
        assert screen.wait_exit() == 5


def test_missing_own_files_are_no_trouble(start: StartShell, home: Path) -> None:
    for name in set(RC_FILES.values()):
        (home / name).unlink()
    for shell in SHELLS:
        screen = start(shell)
        screen.wait_for(r"\[server01\] .*[$#%] ")
        assert "No such file" not in screen.text


@pytest.mark.parametrize(
    ("shell", "line"),
    [
        ("bash", "PROMPT_COMMAND='PS1=\"theme> \"'\n"),
        ("zsh", "precmd() { PROMPT='theme> ' }\n"),
    ],
)
def test_place_stays_before_a_prompt_that_is_set_each_time(
    start: StartShell, home: Path, shell: str, line: str
) -> None:
    (home / f".{shell}rc").write_text(line)
    screen = start(shell)
    screen.wait_for(r"^\[server01\] theme> ")
    screen.type("\r")
    screen.wait_for(r"^\[server01\] theme> ")


def test_bash_tells_the_status_of_the_last_command_to_the_prompt(
    start: StartShell, home: Path
) -> None:
    (home / ".bashrc").write_text("PS1='<$?> '\n")
    screen = start("bash")
    screen.wait_for(r"^\[server01\] <0> ")
    screen.type("false\r")
    screen.wait_for(r"^\[server01\] <1> ")


def test_zsh_reads_what_its_own_environment_file_says(start: StartShell, home: Path) -> None:
    elsewhere = home / "elsewhere"
    elsewhere.mkdir()
    (home / ".zshenv").write_text(f"ZDOTDIR={elsewhere}\n")
    (elsewhere / ".zshrc").write_text("PROMPT='elsewhere> '\n")
    screen = start("zsh")
    screen.command("echo $ZDOTDIR", f"^{elsewhere}$")


def test_zsh_reads_the_directory_that_the_environment_names(start: StartShell, home: Path) -> None:
    named = home / "named"
    named.mkdir()
    (named / ".zshrc").write_text("PROMPT='named> '\n")
    screen = start("zsh", env={"ZDOTDIR": str(named)})
    screen.command("sh -c 'echo $ZDOTDIR'", f"^{named}$")


def test_sh_keeps_its_own_variable(start: StartShell, home: Path) -> None:
    screen = start("dash")
    screen.command("sh -c 'echo \"$ENV\"'", r"^\$HOME/own-rc$")


# What a person may have in an rc file; the command and the place are there all the same.
SH_RC = {
    "an alias": "alias remit='echo alias'",
    "a function": "remit() { echo function; }",
    "a read-only PATH": "readonly PATH",
    "noclobber": "set -C",
    "unset variables are errors": "set -u",
    "failures are errors": "set -e",
    "no globbing, and another IFS": "set -f; IFS=:",
    "a prompt of several lines": "PS1='one\nown> '",
    "an empty prompt": "PS1=''",
    "CDPATH and a directory": "CDPATH=/tmp; cd /",
    "another PATH": "PATH=/usr/bin",
    "no PATH": "unset PATH",
    "it fails": "false",
    "it returns": "return 3",
    "it prints": "echo welcome",
    "nothing": "",
}
CSH_RC = {
    "an alias": "alias remit 'echo alias'",
    "another PATH": "set path = ( /usr/bin )",
    "a read-only path": "set -r path",
    "noclobber": "set noclobber",
    "failures are errors": "set echo_style = both; set printexitvalue",
    "no globbing": "set noglob",
    "a prompt of several lines": "set prompt = 'one\\nown> '",
    "an empty prompt": "set prompt = ''",
    "no prompt": "unset prompt",
    "a prompt of its time": "set prompt = '%{\\033[1m%}%T %m%#%{\\033[0m%} '",
    "CDPATH and a directory": "set cdpath = /tmp; cd /",
    "a prompt that is set each time": "alias precmd 'set prompt = theme'",
    "an error": "no-such-command; set x = $nowhere",
    "it exits early": "if ( ! $?NOWHERE ) exit 1",
    "no history": "set histchars = ''",
    "it prints": "echo welcome",
    "nothing": "",
}
FISH_RC = {
    "an alias": "alias remit 'echo alias'",
    "a function": "function remit; echo function; end",
    "an abbreviation": "abbr -a remit 'echo abbr'",
    "another PATH": "set -gx PATH /usr/bin",
    "no PATH": "set -e PATH",
    "a prompt of several lines": "function fish_prompt; printf 'one\\nown> '; end",
    "an empty prompt": "function fish_prompt; end",
    "a prompt on the right": "function fish_right_prompt; date; end",
    "CDPATH and a directory": "set CDPATH /tmp; cd /",
    "the keys of vi": "fish_vi_key_bindings",
    "an error": "end; no-such-command",
    "it fails": "false",
    "it returns": "return 3",
    "it prints": "echo welcome",
    "nothing": "",
}
RC = [
    pytest.param(shell, line, id=f"{shell}, {what}")
    for shell in SHELLS
    for what, line in {"tcsh": CSH_RC, "fish": FISH_RC}.get(shell, SH_RC).items()
]


@pytest.mark.parametrize(("shell", "line"), RC)
def test_any_rc_file(start: StartShell, home: Path, shell: str, line: str) -> None:
    (home / RC_FILES[shell]).write_text(line + "\n")
    screen = start(shell)
    screen.wait_for(r"\[server01\] ")
    screen.type("remit\r")
    screen.wait_for("^inside$")


@pytest.mark.parametrize("shell", ["bash", "dash", "busybox"])
def test_a_prompt_that_is_read_only_is_told_of(start: StartShell, home: Path, shell: str) -> None:
    (home / RC_FILES[shell]).write_text("PS1='own> '; readonly PS1\n")
    screen = start(shell)
    screen.wait_for("^remit: the prompt cannot show the place, it is read-only")
    screen.wait_for("own> ")
    screen.type("remit\r")
    screen.wait_for("inside$")


def test_a_login_shell_of_bash_inside_finds_remit(start: StartShell, home: Path) -> None:
    (home / ".bash_profile").write_text("PATH=/usr/bin:/bin\nPS1='login> '\n")
    screen = start("bash")
    screen.wait_for(PROMPT)
    screen.type("bash -l\r")
    screen.wait_for("^login> ")
    screen.type("remit\r")
    screen.wait_for("^inside$")


def test_a_place_becomes_nothing_but_a_word_in_a_prompt() -> None:
    assert rc_files.mark("server01") == "[server01] "
    assert rc_files.mark("[::1]") == "[[::1]] "
    assert rc_files.mark("$(reboot) `x` \\w %n !! \x1b'\"") == "[__reboot_ _x_ _w _n __ ___] "
    assert len(rc_files.mark("x" * 1000)) < 80
