"""Every verb inside, whatever its descriptors, its terminal and its directory are, and under every
signal at every stage: what its status is then, and what it says last."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import pytest

from enter.entered import Entered, inside
from enter.entered import control_dir as the_control_dir
from remit._agent.base.importer import Importer
from remit._agent.enter import control_socket
from remit._link import agent_payload
from remit._wire.conversation import AGENT, PROTOCOL, Conversation, Event
from remit._wire.credit import LEAST_CHARGE
from remit._wire.frames import GOODBYE, REQUEST
from remit._wire.msgpack import pack, unpack
from testbed import pythons, run
from testbed.surroundings import foreign_terminal, full, unread

# What is asked, and what it prints where.
VERBS = {
    "start -- true": "stdout",
    "jobs": "stdout",
    "receive --keep --from-start printed": "stdout",
    "receive --keep --from-start complaining": "stderr",
    "wait printed": "stdout",
    "wait --timeout 0 long": "stdout",
    "stop printed": "",
    "save printed saved": "stdout",
    "rm OTHER": "",
    "wait nobody": "a problem",
    "nonsense": "usage",
    "--help": "stdout",
}
# Those that are tried where it is not stdout that is odd.
SOME = ["start -- true", "jobs", "receive --keep --from-start complaining", "wait nobody"]
NO_JOB = "remit: no job 'nobody' here; `remit jobs` lists them"


def _gone_terminal() -> None:
    """Hung up on: what is written there fails."""
    ours, terminal = os.openpty()
    for fd in (0, 1):
        os.dup2(terminal, fd)
    os.close(ours)


def _gone_directory() -> None:
    gone = tempfile.mkdtemp()
    os.chdir(gone)
    os.rmdir(gone)


def _closed() -> None:
    for fd in (0, 1, 2):
        os.close(fd)


UNWRITABLE = "remit: cannot write to stdout: "
NO_DIRECTORY = "remit: the current directory cannot be used: No such file or directory"
# What is odd; the status and the last line of what prints on stdout; whether stderr takes words.
ODD: dict[str, tuple[Callable[[], object], tuple[int, str], bool]] = {
    "nothing": (int, (0, ""), True),
    "stdin closed": (lambda: os.close(0), (0, ""), True),
    "stdin a directory": (lambda: os.dup2(os.open("/", os.O_RDONLY), 0), (0, ""), True),
    "stdout closed": (lambda: os.close(1), (1, UNWRITABLE + "Bad file descriptor"), True),
    "stderr closed": (lambda: os.close(2), (0, ""), False),
    "all closed": (_closed, (1, ""), False),
    "stdout full": (lambda: full(1), (1, UNWRITABLE + "No space left on device"), True),
    "stderr full": (lambda: full(2), (0, ""), False),
    "both full": (lambda: full(1, 2), (1, ""), False),
    "stdout unread": (unread, (141, ""), True),
    "a foreign terminal": (foreign_terminal, (0, ""), True),
    "a terminal that is gone": (_gone_terminal, (1, UNWRITABLE + "Input/output error"), True),
    "a directory that is gone": (_gone_directory, (0, ""), True),
}


def expected(verb: str, odd: str) -> tuple[int, str]:
    _, printed, heard = ODD[odd]
    status, last = {
        "stdout": printed,
        "stderr": (0 if heard or "closed" in odd else 1, "err"),
        "": (0, ""),
        "a problem": (1, NO_JOB),
        "usage": (2, "remit: error: "),
    }[VERBS[verb]]
    if verb.startswith("wait --timeout") and not status:
        status, last = 1, "remit: 0 s are over, 1 not finished"
    if odd == "a directory that is gone" and verb.split()[0] in ("start", "save"):
        status, last = 1, NO_DIRECTORY
    return status, last if heard else ""


@pytest.fixture
def python() -> pythons.Interpreter:
    return min(pythons.found(), key=lambda one: one.minor)


def remit(line: str, odd: str, cwd: Path) -> tuple[int, str]:
    done = subprocess.run(
        [the_control_dir() / "remit", *line.split()],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=60,
        preexec_fn=ODD[odd][0],
        check=False,
    )
    assert "Traceback" not in done.stderr, done
    # The launcher's own shell may say that it is nowhere.
    said = [line for line in done.stderr.splitlines() if "getcwd()" not in line]
    return done.returncode, said[-1] if said else ""


def test_odd_surroundings(enter: Callable[..., Entered], tmp_path: Path) -> None:
    enter("sleep", "1000")
    inside("start", "--name", "printed", "--", "echo", "out")
    inside("start", "--name", "complaining", "--shell", "--", "echo err >&2")
    inside("start", "--name", "long", "--", "sleep", "1000")
    inside("wait", "printed", "complaining")
    others = [inside("start", "--", "true").stdout.strip() for _ in ODD]
    inside("wait", *others)

    def one(verb: str, odd: str) -> str:
        line = verb.replace("OTHER", others[list(ODD).index(odd)])
        status, last = remit(line, odd, tmp_path)
        wanted, words = expected(verb, odd)
        right = status == wanted and (last == words or (words and last.startswith(words)))
        return "" if right else f"{verb}, {odd}: {status} {last!r}, not {wanted} {words!r}"

    rows = [
        (verb, odd)
        for odd, (_, printed, _) in ODD.items()
        for verb in (VERBS if printed[0] or "directory that" in odd else SOME)
    ]
    with ThreadPoolExecutor(4) as threads:
        wrong = list(filter(None, threads.map(lambda row: one(*row), rows)))
    assert wrong == []
    # What was started and could not be told is taken back.
    told = [odd for odd in ODD if expected("start -- true", odd)[0] == 0]
    left = [other for other in others if other in inside("jobs").stdout]
    assert len(inside("jobs").stdout.splitlines()) == 1 + 3 + len(told) + len(left)


IMPORTER = "remit._agent.base.importer"
ASKING: dict[str, str] = {
    "start": "start -- true",
    "jobs": "jobs",
    "receive": "receive it",
    "wait": "wait it",
    "stop": "stop it",
    "save": "save it saved",
    "rm": "rm it",
}
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
STAGES: dict[str, list[str]] = {
    "connecting": list(ASKING),
    "asked": list(ASKING),
    "running": ["receive", "wait"],
    "leaving": list(ASKING),
}
# What is answered where they may come as far as leaving, and what is told by then.
JOB: dict[str, object] = {"id": "jaaa", "name": None, "state": "COMPLETED", "outcome": {}}
ANSWERS: dict[str, dict[str, object]] = {
    "find": {"jobs": [JOB]},
    "start": JOB,
    "jobs": {"jobs": [], "next": None},
    "watch": JOB,
    "stop": {"survivors": []},
    "save": {"path": b"/saved"},
    "remove": {},
}
TOLD = {"start": "j", "jobs": "ID", "wait": "jaaa", "save": "/saved"}
# Stays where it has said goodbye, and waits for ever to have a job taken back.
HELD = """
import time
from remit._agent.enter import client, launcher
launcher._PATIENCE = 1e6
leave = client.Client.leave
client.Client.leave = lambda self: (leave(self), time.sleep(1e6))
"""


def held_code() -> bytes:
    text = zlib.decompress(control_socket.launch_code()[8:]).decode()
    assert text.endswith(control_socket._LAUNCH)
    packed = zlib.compress(
        f"{text[: -len(control_socket._LAUNCH)]}{HELD}{control_socket._LAUNCH}".encode()
    )
    return b"%08d" % len(packed) + packed


@attrs.define
class Silent:
    """An agent that is heard of no more at a stage; ``reached`` are those that came so far."""

    stage: str
    door: control_socket.ControlSocket
    code: bytes = attrs.field(factory=held_code)
    reached: threading.Semaphore = attrs.field(factory=lambda: threading.Semaphore(0))
    callers: list[socket.socket] = attrs.field(factory=list)

    def serve(self, count: int) -> None:
        for _ in range(count):
            run.wait_until(self._admit, "somebody to come", timeout=30.0)

    def leave(self) -> None:
        for caller in self.callers:
            with contextlib.suppress(OSError):  # it left first
                caller.shutdown(socket.SHUT_RDWR)  # whoever reads from it
            caller.close()

    def _admit(self) -> bool:
        fd = self.door.admit()
        if fd is not None:
            self.callers.append(socket.socket(fileno=fd))
            threading.Thread(target=self._serve, args=self.callers[-1:], daemon=True).start()
        return fd is not None

    def _serve(self, caller: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was ended
            self._answer(caller)

    def _answer(self, caller: socket.socket) -> None:
        if self.stage == "connecting":
            self.reached.release()
            return
        caller.sendall(self.code)
        conversation = Conversation(AGENT, LEAST_CHARGE)
        conversation.hello(pack({"protocol": PROTOCOL, "features": []}))
        while data := caller.recv(1 << 16):
            for event in conversation.receive(data):
                assert event.kind != GOODBYE or self.stage == "leaving"
                if event.kind == GOODBYE or (
                    event.kind == REQUEST and not self._goes_on(conversation, event)
                ):
                    self.reached.release()
            caller.sendall(conversation.data_to_send())

    def _goes_on(self, conversation: Conversation, request: Event) -> bool:
        """Answers as far as the stage is not reached; whether more is to come before it is."""
        verb: str = unpack(request.body)[0]  # type: ignore[index]
        if self.stage in ("asked", "taking back"):
            return False
        if verb == "find":
            conversation.reply(request.channel, pack(ANSWERS[verb]))
            return True
        if self.stage == "running":
            answer = {"position": {}, "state": "RUNNING"}
            conversation.accept(request.channel, pack(answer))
            return False
        if verb in ("read", "watch"):
            conversation.accept(request.channel, pack(ANSWERS.get(verb, {"position": {}})))
            conversation.end(request.channel, pack({"job": JOB}))
        else:
            conversation.reply(request.channel, pack(ANSWERS[verb]))
        return True


@pytest.fixture
def silent(
    tmp_path: Path, python: pythons.Interpreter, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Silent]]:
    monkeypatch.setattr("sys.executable", str(python.path))
    sent = agent_payload.modules()
    sources = {
        name: agent_payload.strip(sent.get(name, ""))
        for name in [*control_socket._MODULES, IMPORTER]
    }
    monkeypatch.setattr(control_socket, "__loader__", Importer(sources))
    tmp_path.chmod(0o700)
    with contextlib.ExitStack() as doors:

        def make(stage: str) -> Silent:
            path = os.fsencode(tmp_path)
            door = control_socket.open_in_first([lambda: path], "here", lambda _: None)
            doors.callback(door.close)
            return Silent(stage, door)

        yield make


def _asking(agent: Silent, verb: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [os.fsdecode(agent.door.path) + "/remit", *ASKING[verb].split()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_like_a_shell,
    )


@pytest.mark.parametrize("stage", STAGES)
def test_a_signal_ends_it_at_any_stage(silent: Callable[[str], Silent], stage: str) -> None:
    agent = silent(stage)
    rows = [(verb, number) for verb in STAGES[stage] for number in SIGNALS]
    asking = [_asking(agent, verb) for verb, _ in rows]
    try:
        agent.serve(len(rows))
        for _ in rows:
            assert agent.reached.acquire(timeout=30)
        for process, (_, number) in zip(asking, rows, strict=True):
            process.send_signal(number)
        wrong = []
        pairs = zip(asking, rows, strict=True)
        for process, (verb, number) in sorted(pairs, key=lambda pair: pair[1][0] == "start"):
            if verb == "start":
                # It asks for its job to be removed, and would wait for the answer for a while.
                agent.leave()
            said = process.communicate(timeout=30)
            told = TOLD.get(verb, "") if stage == "leaving" else ""
            right = said[0].startswith(told) if told else not said[0]
            if not right or said[1] or process.returncode not in (-number, 128 + number):
                wrong.append((verb, number, process.returncode, said))
        assert wrong == []
    finally:
        for process in asking:
            process.kill()
        agent.leave()


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_does_not_wait_for_a_job_to_be_taken_back(
    silent: Callable[[str], Silent], first: signal.Signals
) -> None:
    agent = silent("taking back")
    asking = [_asking(agent, "start") for _ in SIGNALS]
    try:
        agent.serve(len(asking))
        for numbers in ([first] * len(asking), SIGNALS):
            for _ in asking:
                assert agent.reached.acquire(timeout=30)
            for process, number in zip(asking, numbers, strict=True):
                process.send_signal(number)
        said = [process.communicate(timeout=30) for process in asking]
        assert [process.returncode for process in asking] == [-number for number in SIGNALS]
        assert said == [("", "")] * len(asking)
    finally:
        for process in asking:
            process.kill()
        agent.leave()


def _like_a_shell() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
