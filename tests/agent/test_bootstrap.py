"""How an agent comes up: the words that start it, what stands in their way, and what is sent."""

from __future__ import annotations

import ast
import os
import select
import shlex
import shutil
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._link import agent_payload
from remit._link.agent_payload import strip
from remit._wire.conversation import CALLER, Conversation
from remit._wire.frames import HELLO
from remit._wire.msgpack import pack, unpack
from testbed import pythons


def opening(hello_body: bytes) -> bytes:
    """All that the caller writes once it has seen the sentinel, its hello frame included."""
    conversation = Conversation(CALLER)
    conversation.hello(hello_body)
    return agent_payload.bring_up() + conversation.data_to_send()


# Each takes `-c LINE`, as the program does that a login asks to run something.
SHELLS = [
    name for name in ("sh", "dash", "bash", "zsh", "csh", "tcsh", "fish") if shutil.which(name)
]


class Started:
    """A process whose stdin and stdout are ours; killed at the end."""

    def __init__(self, argv: list[str], env: dict[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=env,
        )
        self.received = b""

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)

    def hang_up(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def read_on(self, deadline: float = 10.0) -> bool:
        """Takes more; False at the end."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        assert select.select([fd], [], [], deadline)[0], f"nothing came after {self.received!r}"
        data = os.read(fd, 1 << 16)
        self.received += data
        return bool(data)

    def sentinel(self, nonce: str) -> agent_payload.Sentinel:
        while (found := agent_payload.find_sentinel(nonce, self.received)) is None:
            assert self.read_on(), self.errors()
        return found

    def hello(self, nonce: str) -> dict[str, object]:
        """Brings the agent up and takes its hello."""
        found = self.sentinel(nonce)
        self.write(opening(pack({"protocol": 1})))
        conversation = Conversation(CALLER)
        events = conversation.receive(self.received[found.end :])
        while not events:
            self.received = b""
            assert self.read_on(), self.errors()
            events = conversation.receive(self.received)
        assert events[0].kind == HELLO
        return unpack(events[0].body)  # type: ignore[return-value]

    def errors(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read().decode(errors="replace")

    def close(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


Start = Callable[..., Started]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Started] = []

    def begin(argv: list[str], env: dict[str, str] | None = None) -> Started:
        started.append(Started(argv, env))
        return started[-1]

    yield begin
    for one in started:
        one.close()


@pytest.fixture
def nonce() -> str:
    return agent_payload.new_nonce()


def test_stage0_holds_nothing_that_a_login_shell_would_touch() -> None:
    assert not set(agent_payload.STAGE0) & set("'\"`!\\\n\r$")
    assert agent_payload.STAGE0.isascii()


@pytest.mark.parametrize("shell", SHELLS)
def test_it_survives_the_login_shell(start: Start, nonce: str, shell: str) -> None:
    line = shlex.join(agent_payload.stage0_argv(str(pythons.SYSTEM), nonce))
    assert start([shell, "-c", line]).hello(nonce)["protocol"] == 1


@pytest.mark.parametrize("shell", SHELLS)
def test_so_does_the_search_for_an_interpreter(start: Start, nonce: str, shell: str) -> None:
    line = shlex.join(agent_payload.fallback_argv(nonce))
    assert start([shell, "-c", line]).hello(nonce)["protocol"] == 1


def test_the_sentinel_tells_the_version(
    start: Start, nonce: str, python: pythons.Interpreter
) -> None:
    found = start(agent_payload.stage0_argv(str(python.path), nonce)).sentinel(nonce)
    assert found.version == (3, python.minor)
    assert not found.too_old


def test_noise_before_the_sentinel_is_skipped(start: Start, nonce: str) -> None:
    argv = agent_payload.stage0_argv(str(pythons.SYSTEM), nonce)
    # The command line itself, as `set -x` shows it, and bytes that are no text.
    command = shlex.join(argv)
    noise = f"echo Welcome; printf '\\377\\000\\n'; echo {shlex.quote(command)}"
    assert start(["/bin/sh", "-c", f"{noise}; exec {command}"]).hello(nonce)["protocol"] == 1


def test_a_login_script_that_reads_a_line_gets_one(start: Start, nonce: str) -> None:
    argv = agent_payload.stage0_argv(str(pythons.SYSTEM), nonce)
    started = start(["/bin/sh", "-c", f"echo Name?; read -r name; exec {shlex.join(argv)}"])
    started.write(b"\n\n\n")
    assert started.hello(nonce)["protocol"] == 1


def test_a_link_that_ends_before_the_payload_ends_the_process(start: Start, nonce: str) -> None:
    for sent in (b"", b"\n", agent_payload.bring_up()[:2000]):
        started = start(agent_payload.stage0_argv(str(pythons.SYSTEM), nonce))
        started.sentinel(nonce)
        started.write(sent)
        started.hang_up()
        assert started.process.wait(10) == 1


def test_an_agent_that_hears_no_more_than_the_payload_ends_with_the_link(
    start: Start, nonce: str
) -> None:
    started = start(agent_payload.stage0_argv(str(pythons.SYSTEM), nonce))
    started.sentinel(nonce)
    started.write(agent_payload.bring_up())
    started.hang_up()
    assert started.process.wait(10) == 0
    assert started.errors() == ""


def test_a_caller_of_another_protocol_is_told_so(start: Start, nonce: str) -> None:
    started = start(agent_payload.stage0_argv(str(pythons.SYSTEM), nonce))
    found = started.sentinel(nonce)
    started.write(opening(pack({"protocol": 99})))
    while started.read_on():
        pass
    events = Conversation(CALLER).receive(started.received[found.end :])
    assert unpack(events[0].body)["protocol"] == 1  # type: ignore[index]
    assert unpack(events[1].body)["reason"] == "this agent speaks protocol 1"  # type: ignore[index]


class TestSearch:
    @pytest.fixture
    def bin(self, tmp_path: Path) -> Path:
        path = tmp_path / "bin"
        path.mkdir()
        return path

    @staticmethod
    def too_old(path: Path) -> None:
        """A python that is older than 3.6, as far as our question goes."""
        path.write_text('#!/bin/sh\necho "Unknown option: -I" >&2; exit 2\n')
        path.chmod(0o755)

    def test_one_that_is_too_old_is_passed_by(self, start: Start, nonce: str, bin: Path) -> None:
        self.too_old(bin / "python3")
        (bin / "python3.9").symlink_to(pythons.SYSTEM)
        started = start(agent_payload.fallback_argv(nonce), {"PATH": str(bin)})
        assert started.hello(nonce)["protocol"] == 1

    def test_a_python_2_is_too_old_and_says_so(self, start: Start, nonce: str, bin: Path) -> None:
        python2 = pythons.pyenv_versions() / "2.7.18/bin/python2.7"
        if not python2.exists():
            self.too_old(bin / "python2.7")
            assert not agent_payload.Sentinel(0x020712F0, 0).version >= (3, 6)
            return
        argv = agent_payload.stage0_argv(str(python2), nonce)
        del argv[1:3]  # -I and -S: it does not know the first
        assert start(argv).sentinel(nonce).too_old
        (bin / "python").symlink_to(python2)
        assert start(agent_payload.fallback_argv(nonce), {"PATH": str(bin)}).process.wait(10) == 127

    def test_where_there_is_none_the_status_is_127(
        self, start: Start, nonce: str, bin: Path
    ) -> None:
        started = start(agent_payload.fallback_argv(nonce), {"PATH": str(bin)})
        assert started.process.wait(10) == 127
        assert started.errors() == "no Python 3.6 or later is on the PATH\n"

    def test_a_missing_interpreter_is_the_shells_127(self, start: Start, nonce: str) -> None:
        line = shlex.join(agent_payload.stage0_argv("no-such-python", nonce))
        assert start(["/bin/sh", "-c", line]).process.wait(10) == 127


class TestSentinel:
    @given(before=st.binary(max_size=60), after=st.binary(max_size=10))
    def test_it_is_found_in_any_noise(self, before: bytes, after: bytes) -> None:
        answer = agent_payload.sentinel("0123456789abcdef") + b"50659056\n"
        found = agent_payload.find_sentinel("0123456789abcdef", before + answer + after)
        assert found == (50659056, len(before + answer))

    def test_it_is_none_until_it_is_whole(self) -> None:
        answer = agent_payload.sentinel("0123456789abcdef") + b"50659056\n"
        for end in range(len(answer)):
            assert agent_payload.find_sentinel("0123456789abcdef", answer[:end]) is None

    def test_an_echo_of_the_command_line_is_none(self) -> None:
        echo = shlex.join(agent_payload.stage0_argv("python3", "0123456789abcdef")).encode() + b"\n"
        assert agent_payload.find_sentinel("0123456789abcdef", echo) is None

    def test_a_terminal_may_add_a_carriage_return(self) -> None:
        answer = agent_payload.sentinel("0123456789abcdef") + b"50659056\r\nx"
        assert agent_payload.find_sentinel("0123456789abcdef", answer) == (
            50659056,
            len(answer) - 1,
        )


class TestStrip:
    @pytest.mark.parametrize(
        ("source", "stripped"),
        [
            ("def f(a: int, *b: str, c: x = 3) -> y:\n    pass\n", "def f(a, *b, c = 3): pass"),
            (
                "def f(\n    a: list[\n        int\n    ],\n) -> dict[\n    str, int\n]: pass\n",
                "def f(a): pass",
            ),
            ("x: int | None = None\n", "x = None"),
            ("x: dict[\n    str, int\n] = {}\n", "x = {}"),
            ("class A:\n    x: int\n", "class A:\n    0\n"),
            ("self.x: int = 3\n", "self.x = 3"),
            ("from __future__ import annotations\nx = 1\n", "x = 1"),
            ("from typing import (\n    Any,\n    Callable,\n)\nx = 1\n", "x = 1"),
            ("if TYPE_CHECKING:\n    from a import b\n\n    c = d\nx = 1\n", "x = 1"),
            ("s = 'é'; y: int = 1\n", "s = 'é'; y = 1"),
        ],
    )
    def test_only_what_type_checkers_read_goes(self, source: str, stripped: str) -> None:
        got = strip(source)
        assert ast.dump(ast.parse(got)) == ast.dump(ast.parse(stripped))
        assert got.count("\n") == source.count("\n")

    def test_what_python_36_does_not_take_is_refused(self) -> None:
        with pytest.raises(SyntaxError):
            strip("while x := f():\n    pass\n")

    @pytest.mark.parametrize("name", sorted(agent_payload.modules()))
    def test_each_module_keeps_its_lines_and_parses_as_python_36(self, name: str) -> None:
        source = agent_payload.modules()[name]
        stripped = strip(source)
        ast.parse(stripped, feature_version=(3, 6))
        assert stripped.count("\n") == source.count("\n")
        names = {node.id for node in ast.walk(ast.parse(stripped)) if isinstance(node, ast.Name)}
        assert not names & {"TYPE_CHECKING", "Any", "Callable", "NoReturn"}

    def test_what_is_for_type_checkers_alone_is_not_sent(self) -> None:
        lazily = agent_payload.preparation((3, 7))
        for name, source in agent_payload.modules().items():
            sent = lazily(source)
            assert "TYPE_CHECKING" not in sent, name
            assert sent.count("\n") == source.count("\n")

    def test_the_modules_are_the_shared_ones_and_the_agents(self) -> None:
        names = set(agent_payload.modules())
        assert {"remit._wire", "remit._wire.frames", "remit._wire.states"} < names
        assert {"remit._jobdir", "remit._jobdir.files"} < names
        assert {"remit._agent", "remit._agent.main", "remit._agent.base.loop"} < names


@pytest.mark.parametrize("lazy_annotations", [True, False])
def test_the_payload_is_small(lazy_annotations: bool) -> None:
    # With kept jobs, leases and pruning. Each session waits for it: 0.08 s at 8 Mbit/s.
    assert len(agent_payload.payload(lazy_annotations)) < 90_000


@pytest.mark.parametrize("python", ["3.6.15", "3.13.0"])
def test_each_module_is_sent_at_first_or_with_a_verb_that_needs_it(python: str) -> None:
    payload = zlib.decompress(agent_payload.payload(python != "3.6.15")).decode()
    names = payload.split("\0")[1::2]
    for verb in agent_payload.VERBS_WITH_MODULES:
        sources: Any = unpack(zlib.decompress(agent_payload.with_verb(verb, python)))
        names += sources
    assert sorted(names) == sorted(["remit", *agent_payload.modules()])


@pytest.mark.parametrize("python", ["", "?", "3.13", "99999.1.0", "3.x.0"])
def test_modules_are_for_any_python_where_its_version_makes_no_sense(python: str) -> None:
    assert agent_payload.with_verb("enter", python) == agent_payload.with_verb("enter", "3.6.15")


@pytest.mark.parametrize("name", sorted(agent_payload.modules()))
def test_what_is_sent_is_what_is_written_but_for_its_words(name: str) -> None:
    written = agent_payload.modules()[name]
    bare = agent_payload.outdented(agent_payload.bare(written))
    assert bare.count("\n") == written.count("\n")
    if name != "remit._agent.enter.rc_files":  # comments in its shell scripts go as well
        assert ast.dump(_without_docstrings(bare)) == ast.dump(_without_docstrings(written))


def _without_docstrings(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            first = node.body[0] if node.body else None
            if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
                first.value.value = ""
    return tree
