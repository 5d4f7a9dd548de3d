"""``remit`` inside an entered shell: the jobs of that session, as a person asks for them there.

It runs in a process of its own, started by the launcher script
(`remit._agent.enter.control_socket`), and is a caller of the agent over its unix socket. Standard
library only, Python 3.6.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from remit._agent.base import manner
from remit._agent.base.environment import given
from remit._agent.enter import printing
from remit._agent.enter.client import Client, Refusal, SessionOver
from remit._agent.enter.printing import text
from remit._wire.credit import charge
from remit._wire.frames import DATA, END, EVENT
from remit._wire.msgpack import unpack
from remit._wire.names import NAME_WORDS, id_of, is_name
from remit._wire.requests import LEFTOVERS
from remit._wire.states import COMPLETED, FAILED, FINISHED
from remit._wire.streams import NAMES

if TYPE_CHECKING:
    import socket
    from typing import Any, Callable, NoReturn

    from remit._wire.conversation import Event

    Verb = Callable[[Client, argparse.Namespace], int]

OK = 0
WENT_WRONG = 1
USAGE = 2
LINK = 255  # the session is over
BROKEN_PIPE = 141

# What asks us to end, and then ends us with 128 and its number.
_INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_WINDOW = 1 << 18
_PAGE = 500
# Options of `start` that are followed by a word of their own.
_WITH_VALUE = ("--name", "--timeout", "--leftovers")
_PATIENCE = 3.0  # seconds for an answer while somebody wants us to end
_GRACE = 5.0  # seconds between TERM and KILL


class _Problem(Exception):
    """What is said on stderr, and ends with status 1."""


class _Interrupted(KeyboardInterrupt):
    """Somebody wants us to end: ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Parser(argparse.ArgumentParser):
    """One that can say what it says into any stdout, and exits with 2 for wrong words."""

    def print_help(self, file: object = None) -> None:
        printing.write(1, self.format_help().encode("utf-8", "backslashreplace"))

    def error(self, message: str) -> NoReturn:
        printing.complain_as_it_is("%s%s: error: %s\n" % (self.format_usage(), self.prog, message))
        sys.exit(USAGE)


def main(connection: socket.socket, words: list[str]) -> int:
    """The exit status of ``remit WORDS``; ``connection`` is the socket to the agent."""
    client = Client(connection)
    try:
        # Until now, and afterwards, an interrupt just ends us: there is nothing to be undone.
        for number in _INTERRUPTS:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _interrupt)
        status = _act(client, words)
        _end_by_interrupts()
    except _Interrupted as exc:
        # What was not answered is taken back once the connection is over.
        connection.close()
        return 128 + exc.number
    client.leave()
    return status


def _interrupt(number: int, _frame: object) -> NoReturn:
    _end_by_interrupts()  # a second one waits for nothing
    raise _Interrupted(number)


def _end_by_interrupts() -> None:
    for number in _INTERRUPTS:
        if signal.getsignal(number) == _interrupt:
            signal.signal(number, signal.SIG_DFL)


def _act(client: Client, words: list[str]) -> int:
    """Does what the words say; what cannot be done is told, and the status says so."""
    try:
        options = _parse(words)
        status: int = options.act(client, options)
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else OK
    except _Problem as exc:
        status = printing.complain(str(exc))
    except printing.Unwritable as exc:
        status = printing.complain("cannot write to stdout: %s" % exc.strerror)
    except Refusal as exc:
        status = printing.complain(printing.explain(exc.facts))
    except SessionOver:
        printing.complain("this session is over: its agent does not answer any more")
        status = LINK
    except BrokenPipeError:
        status = BROKEN_PIPE
    return status


# -- words


def _parse(words: list[str]) -> argparse.Namespace:
    """Exits with status 2 where they can never be right."""
    # argparse changed its mind about what a "--" before the rest means, so it never sees one.
    at = _command_at(words)
    parser = _parser()
    options = parser.parse_args(words[:at])
    tail = words[at:][words[at : at + 1] == ["--"] :]
    if options.verb == "start":
        options.command = tail
        if not options.command:
            parser.error("start: no command; remit start [--name NAME] -- COMMAND…")
        if options.name is not None and not is_name(options.name):
            parser.error("start: " + NAME_WORDS % (options.name,))
        if options.shell and len(options.command) > 1:
            parser.error("start: --shell takes one word, a line for /bin/sh")
    elif tail:
        parser.error("%s takes no command" % options.verb)
    return options


def _command_at(words: list[str]) -> int:
    """Where the options end: at the command of `start`, or a ``--`` in front of the rest."""
    if words[:1] != ["start"]:
        return words.index("--") if "--" in words else len(words)
    at = 1
    while at < len(words) and words[at].startswith("-") and words[at] != "--":
        at += 2 if words[at] in _WITH_VALUE else 1
    return min(at, len(words))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="remit", description="The jobs of this session, on this computer.", allow_abbrev=False
    )
    verbs = parser.add_subparsers(metavar="COMMAND", dest="verb")
    verbs.required = True

    def verb(name: str, act: Verb, what: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=what, description=what, allow_abbrev=False)
        sub.set_defaults(act=act)
        return sub

    start = verb("start", _start, "Start a job that ends with this session; prints its id.")
    start.add_argument("--name", help="a name for the job")
    start.add_argument("--timeout", type=_seconds, metavar="S", help="stop it after S seconds")
    start.add_argument("--leftovers", choices=LEFTOVERS, default="leave", help="what outlives it")
    start.add_argument("--shell", action="store_true", help="the command is a line for /bin/sh")
    start.usage = "remit start [OPTIONS] [--] COMMAND…"

    jobs = verb("jobs", _jobs, "List the jobs of this session, and those that are kept here.")
    jobs.add_argument("--json", action="store_true", help="as an array of objects")

    receive = verb("receive", _receive, "Print what a job has produced, until it ends.")
    receive.add_argument("job", metavar="JOB")
    receive.add_argument("--keep", action="store_true", help="do not use it up")
    receive.add_argument("--from-start", action="store_true", help="what is used up too")
    receive.add_argument("--no-wait", action="store_true", help="only what there is now")
    receive.add_argument("--stream", choices=["stdout", "stderr"], help="only this one")

    wait = verb("wait", _wait, "Wait until jobs are finished.")
    wait.add_argument("jobs", metavar="JOB", nargs="+")
    wait.add_argument("--any", action="store_true", help="until one of them is")
    wait.add_argument("--timeout", type=_seconds, metavar="S", help="at most S seconds")

    stop = verb("stop", _stop, "Stop jobs, and all their processes.")
    stop.add_argument("jobs", metavar="JOB", nargs="+")

    remove = verb("rm", _remove, "Forget jobs and what they produced.")
    remove.add_argument("jobs", metavar="JOB", nargs="+")
    remove.add_argument("--force", action="store_true", help="stop them first where they run")

    save = verb("save", _save, "Write a job's stdout to a file here.")
    save.add_argument("job", metavar="JOB")
    save.add_argument("path", metavar="PATH")
    return parser


def _seconds(word: str) -> float:
    value = float(word)
    if not 0 <= value < float("inf"):
        raise ValueError(word)
    return value


# -- verbs


def _start(client: Client, options: argparse.Namespace) -> int:
    job_id = id_of(os.urandom(12))
    try:
        job = _started(client, options, job_id)
        printing.print_line(job_id)
    except (KeyboardInterrupt, BrokenPipeError, printing.Unwritable):
        _take_back(client, job_id)
        raise
    outcome = job["outcome"] or {}
    if job["state"] == FAILED and outcome.get("error"):
        raise _Problem(outcome["error"])
    return OK


def _take_back(client: Client, job_id: str) -> None:
    """Nobody knows of that job: it is taken back before it is answered, and removed afterwards. An
    agent that says nothing does so without us watching."""
    try:
        client.take_back()
        deadline = time.monotonic() + _PATIENCE
        client.ask("remove", {"job": job_id, "force": True}, deadline)
    except (Refusal, SessionOver, TimeoutError):
        pass


def _started(client: Client, options: argparse.Namespace, job_id: str) -> Any:
    """The job map. Raises Refusal."""
    words = [os.fsencode(word) for word in options.command]
    environment = given()
    environment.pop(b"_", None)  # the shell's note of what it ran: this launcher
    _, job = client.open(
        "start",
        {
            "id": job_id,
            "command": {"line": words[0]} if options.shell else {"argv": words},
            "cwd": _here(),
            "env": environment,
            "manner": manner.own(),
            "name": None if options.name is None else text(os.fsencode(options.name)),
            "group": None,
            "placement": "keep",
            "spool": True,
            "lifetime": "session",
            "timeout": options.timeout,
            "merge": False,
            "leftovers": options.leftovers,
            "stdin": False,
            "limits": {},
        },
    )
    return job


def _jobs(client: Client, options: argparse.Namespace) -> int:
    jobs = []
    after = None
    while True:
        page = client.ask("jobs", {"after": after, "limit": _PAGE})
        jobs += page["jobs"]
        after = page["next"]
        if after is None:
            break
    jobs.sort(key=lambda job: (job["created"] or 0.0, job["id"]))
    if options.json:
        from remit._jobdir import json

        printing.write(1, json.dumps([printing.as_info(job) for job in jobs]))
        return OK
    for line in printing.table(jobs, printing.width_of(1)):
        printing.print_line(line)
    return OK


def _receive(client: Client, options: argparse.Namespace) -> int:
    job_id = _find(client, options.job)
    number, answer = client.open(
        "read",
        {
            "job": job_id,
            "position": dict.fromkeys(NAMES.values(), 0) if options.from_start else None,
            "follow": not options.no_wait,
            "consume": not options.keep,
        },
        credit=_WINDOW,
    )
    used = dict(answer["position"])
    outputs = {"stdout": printing.Output(1), "stderr": printing.Output(2)}
    left_out = False
    while True:
        event = client.next_event()
        if event.kind == DATA:
            piece = event.body
            stream = NAMES[piece.stream]
            if stream not in outputs:
                left_out = True  # values: to read those takes more than is here
            elif options.stream in (None, stream):
                outputs[stream].write(piece.data)
            used[stream] = piece.offset + len(piece.data)
            if not options.keep:
                client.tell(number, "used", {"position": used})
            client.grant(number, charge(len(piece.data)))
        elif event.kind == EVENT and _body(event)[0] == "superseded":
            raise _Problem("another reader receives %s now" % job_id)
        elif event.kind == END:
            break
    for output in outputs.values():
        output.finish()
    if left_out and options.stream is None:
        words = "%s is a function: what it returned and logged can be received from outside,"
        printing.complain(words % job_id + " with --from-start --on TARGET")
    return OK


def _wait(client: Client, options: argparse.Namespace) -> int:
    deadline = None if options.timeout is None else time.monotonic() + options.timeout
    jobs = {}  # by the channel on which news of them come
    for word in options.jobs:
        number, job = client.open("watch", {"job": _find(client, word)})
        jobs[number] = job
    waiting = dict(jobs)
    while True:
        for number, job in list(waiting.items()):
            if job["state"] in FINISHED:
                printing.print_line(printing.ending(job))
                del waiting[number]
        if not waiting or (options.any and len(waiting) < len(jobs)):
            break
        try:
            event = client.next_event(deadline)
        except TimeoutError:
            for job in waiting.values():
                printing.print_line(printing.ending(job))
            words = "%g s are over, %d not finished" % (options.timeout, len(waiting))
            raise _Problem(words) from None
        news = _job_in(event)
        if news is not None:
            jobs[event.channel] = news
            if event.channel in waiting:
                waiting[event.channel] = news
    states = [job["state"] for number, job in jobs.items() if number not in waiting]
    return OK if all(state == COMPLETED for state in states) else WENT_WRONG


def _stop(client: Client, options: argparse.Namespace) -> int:
    status = OK
    for word in options.jobs:
        job_id = _find(client, word)
        for process in client.ask("stop", {"job": job_id, "grace": _GRACE})["survivors"]:
            status = printing.complain("%s: still there: %s" % (job_id, process))
    return status


def _remove(client: Client, options: argparse.Namespace) -> int:
    for word in options.jobs:
        client.ask("remove", {"job": _find(client, word), "force": options.force})
    return OK


def _save(client: Client, options: argparse.Namespace) -> int:
    saved = client.ask(
        "save",
        {
            "job": _find(client, options.job),
            "path": os.fsencode(options.path),
            "cwd": None if os.path.isabs(options.path) else _here(),
            "stream": "stdout",
        },
    )
    printing.print_line(text(saved["path"]))
    return OK


def _here() -> bytes:
    try:
        return os.getcwdb()
    except OSError as exc:
        raise _Problem("the current directory cannot be used: %s" % exc.strerror) from None


def _find(client: Client, word: str) -> str:
    """The full id of the job that ``word`` means."""
    jobs = client.ask("find", {"name": text(os.fsencode(word))})["jobs"]
    if not jobs:
        raise _Problem("no job %r here; `remit jobs` lists them" % word)
    if len(jobs) > 1:
        ids = ", ".join(job["id"] for job in jobs)
        raise _Problem("%r matches several jobs: %s" % (word, ids))
    return str(jobs[0]["id"])


def _job_in(event: Event) -> Any:
    """The job map that a `watch` channel's event brings, or None."""
    if event.kind == END:
        return _body(event)["job"]
    if event.kind == EVENT:
        name, arguments = _body(event)
        return arguments if name == "job" else None
    return None


def _body(event: Event) -> Any:
    return unpack(event.body)


def run(connection: socket.socket, words: list[str]) -> NoReturn:
    """`main` as the end of the process."""
    sys.exit(main(connection, words))
