"""What the caller is shown of a return job, and who is to hear of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from remit._agent.base.handler import Handler
from remit._wire import states

if TYPE_CHECKING:
    from typing import Any

    from remit._agent.base.channel import Channel
    from remit._agent.returned.output import Output


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
