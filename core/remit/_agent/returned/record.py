"""What is known of a return job: what was asked for, how it ended, what its caller is shown of it,
and who is to hear of that."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remit._agent.base import oom
from remit._agent.base.channel import Handler
from remit._wire import states
from remit._wire.ended import of_status

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.channel import Channel
    from remit._agent.returned.output import Output
    from remit._wire.refusal import Refused


class Record:
    """The job map of docs/wire.md, and the channels that are told when it changes."""

    def __init__(self, channel: Channel, facts: dict[str, Any], output: Output) -> None:
        """``facts`` are those that this leaves as they are."""
        self.state = states.PENDING
        self._channel = channel
        self._facts = facts
        self._output = output
        self.pid: int | None = None  # of its first process, while it runs
        self._started: float | None = None
        self._finished: float | None = None
        self._outcome: dict[str, Any] | None = None
        self._watchers: set[Channel] = set()
        self._stops: list[Channel] = []  # whose stop has done its work

    def view(self) -> dict[str, object]:
        sizes = self._output.named_sizes()
        return {
            **self._facts,
            "state": self.state,
            "pid": self.pid,
            "started": self._started,
            "finished": self._finished,
            "outcome": self._outcome,
            "has_more": self._finished is None,
            "sizes": sizes,
            "used": sizes,  # sent is used up: what came of it is the caller's to know
            "problem": None,
        }

    # -- what happens to it

    def begin(self) -> None:
        self._started = time.time()
        self.state = states.move(self.state, states.STARTED)
        self._channel.accept(self.view())

    def move(self, event: str) -> None:
        """By the table of `states`; all who watch are told."""
        self.state = states.move(self.state, event)
        for channel in (self._channel, *self._watchers):
            channel.event("job", **self.view())

    def is_held_up(self) -> None:
        if self.state == states.RUNNING:
            self.move(states.HELD_UP)

    def is_read_on(self) -> None:
        if self.state == states.BLOCKED:
            self.move(states.READ_ON)

    def is_to_stop(self) -> None:
        if self.state != states.STOPPING:
            self.move(states.ASKED_TO_STOP)

    def finish(self, outcome: dict[str, Any]) -> None:
        """The last of its moves; `end` tells of it."""
        self._outcome = outcome
        event = states.ended(outcome["exit_status"], outcome["signal"], str(outcome["reason"]))
        self.state = states.move(self.state, event)
        self._finished = time.time()
        if self._started is None:
            self._channel.accept(self.view())

    def end(self) -> None:
        answer = {"job": self.view()}
        for channel in (self._channel, *self._watchers):
            channel.end(answer)
        self._watchers.clear()

    # -- who asks

    def watch(self, channel: Channel) -> None:
        channel.accept(self.view())
        if self._finished is not None:
            channel.end({"job": self.view()})
        else:
            self._watchers.add(channel)
            channel.handle(_Watcher(self._watchers, channel))

    def stop_done(self, channel: Channel) -> None:
        self._stops.append(channel)

    def answer_stops(self, survivors: list[str]) -> None:
        while self._stops:
            self._stops.pop().reply({"survivors": survivors, "job": self.view()})


class _Watcher(Handler):
    """The handler of a channel that only gets news."""

    def __init__(self, watchers: set[Channel], channel: Channel) -> None:
        self._watchers = watchers
        self._channel = channel

    def on_close(self) -> None:
        self._watchers.discard(self._channel)


# How much is kept of the command of a job that is over, in bytes, and what a word takes beside its
# own.
REMEMBERED_COMMAND = 1024
_WORD_SIZE = 40


class Wanted:
    def __init__(self, args: dict[str, Any]) -> None:
        """``args`` are the fields of the request."""
        self.id: str = args["id"]
        # Of the job map of docs/wire.md: what stays as it is.
        self.facts: dict[str, Any] = {
            "id": args["id"],
            "name": args["name"],
            "group": args["group"],
            "placement": args["placement"],
            "lifetime": args["lifetime"],
            "location": None,
            "command": args["command"],
            "cwd": args["cwd"],
            "created": time.time(),
        }
        self.env: dict[bytes, bytes] = args["env"]
        self.timeout: float | None = args["timeout"]
        self.takes_all = args["leftovers"] == "stop"  # what it leaves behind ends with it
        self.merge: bool = args["merge"]
        self.stdin: bool = args["stdin"]

    @property
    def command(self) -> dict[str, Any]:
        command: dict[str, Any] = self.facts["command"]
        return command

    @property
    def cwd(self) -> bytes | None:
        cwd: bytes | None = self.facts["cwd"]
        return cwd

    def forget(self) -> None:
        """Keeps of a job that is over what a request that crossed its end may ask for."""
        self.env = {}
        self.facts["command"] = _shortened(self.command)


def _shortened(command: dict[str, Any]) -> dict[str, Any]:
    """The beginning of a command that takes much memory."""
    if "argv" not in command:
        return {kind: words[:REMEMBERED_COMMAND] for kind, words in command.items()}
    left, argv = REMEMBERED_COMMAND, []
    for word in command["argv"]:
        argv.append(word[:left])
        left -= len(word) + _WORD_SIZE
        if left <= 0:
            break
    return {"argv": argv}


class Ending:
    """Gathers it until the job is over."""

    def __init__(self, leftovers_stop: bool) -> None:
        self._leftovers_stop = leftovers_stop
        self.status: int | None = None  # the first process's, as waitpid tells it
        self.reason: str | None = None  # why we end it, where we do
        self.note: str | None = None
        self.left: list[str] = []

    @property
    def takes_all(self) -> bool:
        """Whether what it left behind ends with it: not where it ended by itself, unless asked."""
        return self.reason is not None or self._leftovers_stop

    def found_holders(self, names: list[str] | None, error: Refused | None) -> None:
        """Of pipes that were not waited for."""
        who = ", ".join(names) if names else "a process that cannot be seen from here"
        self.note = self.note or "output held open by " + who

    def outcome(self) -> dict[str, Any]:
        exit_status, killed_by, _ = of_status(self.status)
        if killed_by == "SIGKILL" and self.reason is None and oom.look():
            self.note = self.note or oom.NOTE
        if self.left and self.note is None and not self.takes_all:
            self.note = "left running: " + ", ".join(self.left)
        reason = self.reason or ("exited" if killed_by is None else "signalled")
        return outcome_map(reason, exit_status, killed_by, self.note, self.left)


def outcome_map(
    reason: str,
    exit_status: int | None = None,
    signal: str | None = None,
    note: str | None = None,
    left: list[str] | None = None,
    error: str | None = None,
) -> dict[str, Any]:
    """An outcome map of docs/wire.md."""
    return {
        "exit_status": exit_status,
        "signal": signal,
        "reason": reason,
        "error": error,
        "note": note,
        "left_behind": left or [],
    }
