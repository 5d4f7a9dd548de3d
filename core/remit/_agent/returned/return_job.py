"""Return jobs: what they print goes to the caller as it is printed, and nothing stays here.

What can happen to one, and what it does then, is a table: `remit._agent.returned.phases`. What runs
in it is its root, a program or a function.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.channel import Handler
from remit._agent.base.loop import nothing
from remit._agent.base.spawn import SpawnError
from remit._agent.returned import phases
from remit._agent.returned.jobs import GRACE, ReturnJobs
from remit._agent.returned.output import Output
from remit._agent.returned.program import close_all
from remit._agent.returned.record import Ending, Record, outcome_map
from remit._agent.returned.stdin import Stdin
from remit._wire import states
from remit._wire.refusal import Refused
from remit._wire.requests import STOP_GRACE
from remit._wire.streams import STDERR, TASK

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.channel import Channel
    from remit._agent.base.helpers import Done
    from remit._agent.base.loop import Timer
    from remit._agent.base.process_tree import Steps
    from remit._agent.base.services import Session
    from remit._agent.returned.program import Root
    from remit._agent.returned.record import Wanted
    from remit._wire.conversation import Piece


class Work:
    def __init__(self, session: Session, after: Callable[[], object]) -> None:
        """``after`` is called after each."""
        self.helpers = 0  # how many are at work
        self._session = session
        self._after = after
        self._timers: dict[str, Timer] = {}

    def help(self, steps: Steps[Any], done: Done) -> None:
        """As `services.Helpers.take`."""
        self.helpers += 1

        def helped(*answer: Any) -> None:
            self.helpers -= 1
            done(*answer)
            self._after()

        self._session.take(steps, helped)

    def later(self, name: str, seconds: float, callback: Callable[[], object]) -> None:
        """Calls it then, unless there is one of that name already."""
        if name not in self._timers:

            def due() -> None:
                del self._timers[name]
                callback()
                self._after()

            self._timers[name] = self._session.loop.call_later(seconds, due)

    def cancel(self, *names: str) -> None:
        """Quiet where there is none."""
        for name in names:
            timer = self._timers.pop(name, None)
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """The job is over: nothing of that is to come. Twice is quiet."""
        self.cancel(*self._timers)
        # The job holds this; the other way as well would leave both to Python's collector.
        self._after = nothing


# How long output may be held open by others once the first process has ended.
DRAIN = 2.0
# Readable for this long without credit: the job is told to be held up.
HELD_UP = 1.0
# Seconds after which the janitor is told of the first process, beside the id.
TELL_ROOT = 1.0


class ReturnJob:
    def __init__(self, channel: Channel, wanted: Wanted, root: Root) -> None:
        """Starts nothing."""
        self.id = wanted.id
        self.phase = phases.STARTING
        self.root = root
        self.returned = channel.link.session.only(ReturnJobs)
        self.work = Work(channel.link.session, self.settle)
        self.output = Output(channel, root.streams, self.settle, self._stuck)
        self.output.spotter = root.spotter
        self.record = Record(channel, wanted.facts, self.output)
        self._ending = Ending(wanted.takes_all)
        self._channel = channel
        self._wanted = wanted
        self._stdin: Stdin | None = None

    @property
    def is_over(self) -> bool:
        return self.phase == phases.OVER

    @property
    def is_ending(self) -> bool:
        """Whether its end is a matter of news that are on their way."""
        return self.work.helpers > 0 or self.phase in phases.OPEN

    def _go(self, event: str) -> str:
        """Moves by the table; the phase before."""
        before, self.phase = self.phase, phases.move(self.phase, event)
        return before

    # -- the beginning

    def begin(self) -> None:
        """Starts it and answers, now or later. Raises OSError and Refused where there is no room
        for another, and then leaves nothing behind."""
        session = self._channel.link.session
        theirs: list[int] = []
        try:
            if self._wanted.stdin:
                stdin_fd, feed_fd = os.pipe()
                theirs.append(stdin_fd)
                self._stdin = Stdin(self._channel, feed_fd)
            else:
                theirs.append(os.open(os.devnull, os.O_RDONLY))
            for stream in self.root.streams:
                merged = stream == STDERR and self._wanted.merge
                theirs.append(os.dup(theirs[-1]) if merged else self.output.open(stream))
            session.news.job(self.id, True)
            has_begun = self.root.start(theirs, self)
        except SpawnError as exc:
            self.never_ran(exc.message)
            return
        except (OSError, Refused):
            close_all(theirs)
            self._let_go()
            session.news.job(self.id, False)
            raise
        self._channel.handle(JobHandler(self, self._stdin))
        if self.root.is_timed:
            self._limit_time()
        if has_begun:
            self.begun()

    def begun(self) -> None:
        """Its first process runs what it is to run."""
        self._go(phases.BEGUN)
        self.work.later("tell root", TELL_ROOT, self.root.report)
        self._limit_time()
        self.record.pid = self.root.pid
        try:
            self.record.begin()
            if self._stdin is not None:
                self._stdin.accepted()
            self.output.read_on()
        finally:
            self.root.watch(self)  # which may tell at once that it has ended

    def _limit_time(self) -> None:
        timeout = self._wanted.timeout
        if timeout is not None:
            self.work.later("timeout", timeout, lambda: self.stop("timeout", STOP_GRACE))

    def never_ran(self, error: str) -> None:
        self._go(phases.FAILED)
        self._over(outcome_map("start-failed", error=error))

    # -- the end

    def ended(self, status: int | None) -> None:
        """Its first process. ``status``: as waitpid tells it; None where nobody can tell."""
        if self._go(phases.ENDED) not in phases.OPEN:
            return  # it had been given up
        self.record.pid = None
        self._ending.status = status
        if status is None:
            self._ending.reason = self._ending.reason or "supervisor-lost"
            self._ending.note = "its end is not known: the interpreter that forked it was killed"
        self.work.cancel("timeout")
        # Most often all there is to come is in the pipes by now, and this is the end.
        self.output.read_out()
        if self.phase == phases.CLEARED:
            self._cut_output()
        elif self.output.is_open:
            self.work.later("drain", DRAIN, self._waited)
        self.settle()

    def _waited(self) -> None:
        self._go(phases.WAITED)
        self._cut_output()

    def _cut_output(self) -> None:
        """No more is waited for."""
        self.work.cancel("drain")
        inodes = self.output.cut()
        if inodes:
            looking = process_tree.looking(process_tree.holders, inodes)
            self.work.help(looking, self._ending.found_holders)

    def settle(self) -> None:
        """Goes on to what follows as soon as nothing is waited for any more."""
        while phases.IDLE in phases.NEXT[self.phase]:
            if self.work.helpers or self.output.is_open:
                break
            self.work.cancel("drain")
            self._go(phases.IDLE)
            if self.is_over:
                self._over(self.root.judge(self._ending.outcome()))
            elif self.root.may_have_left:
                self._sweep()
        # Output that waits for credit does not keep the answer: the caller may read it only then.
        if self.phase not in phases.OPEN or self._ending.left:
            self.record.answer_stops(self._ending.left)

    def _sweep(self) -> None:
        """Ends what it left behind, or has it named."""

        def found(left: list[str] | None, error: Refused | None) -> None:
            if self.record.state != states.STOPPING:  # else it is found by whoever ends them
                self._ending.left = left or []

        if self._ending.takes_all:
            self.work.help(process_tree.ending(self.root.search(), GRACE), found)
        else:
            self.work.help(process_tree.looking(process_tree.named, self.root.search()), found)

    def _over(self, outcome: dict[str, Any]) -> None:
        self.record.finish(outcome)
        self.root.over(self._ending.takes_all)
        self._let_go()
        self.record.end()
        self._wanted.forget()
        self.returned.over(self)

    def _let_go(self) -> None:
        self.root.give_up()
        self.work.close()
        self.output.close()
        if self._stdin is not None:
            self._stdin.close()

    # -- stopping

    def stop(self, reason: str, grace: float, told: Channel | None = None) -> None:
        """Has all its processes ended; ``told`` is answered once that is done."""

        def done(survivors: list[str] | None, error: Refused | None) -> None:
            self.stopped(survivors or [])
            if told is not None and error is not None:
                told.fail(error)
            elif told is not None:
                self.record.stop_done(told)

        if self.is_to_end(reason):
            self.work.help(self.root.ending(grace), done)
            return
        if told is not None:
            self.record.stop_done(told)
        self.settle()

    def is_to_end(self, reason: str) -> bool:
        """Notes that its processes are about to be ended; whether there may be any. Of one whose
        process is not known yet nothing has run: that is over."""
        self.root.look()
        if self._go(phases.STOP) == phases.STARTING:
            self._over(outcome_map(reason))
        if self.is_over:
            return False
        if self.phase in phases.OPEN:
            self._ending.reason = self._ending.reason or reason
        self.record.is_to_stop()
        return True

    def stopped(self, survivors: list[str]) -> None:
        """Its processes have been ended, but for those."""
        self._ending.left = survivors
        if self.phase in phases.OPEN and survivors and self._ending.reason == "timeout":
            # What another account runs (sudo) may go on for ever. Nobody is kept waiting for that.
            self._go(phases.GIVEN_UP)
            self._ending.note = "could not be ended: " + ", ".join(survivors)
        else:
            self._go(phases.STOP_DONE)
        if self.phase not in phases.OPEN:
            self._cut_output()

    def _stuck(self) -> None:
        self.work.later("held up", HELD_UP, self.record.is_held_up)


class JobHandler(Handler):
    """What comes on the channel of a return job."""

    def __init__(self, job: ReturnJob, stdin: Stdin | None) -> None:
        self._job = job
        self._stdin = stdin

    def on_data(self, piece: Piece) -> None:
        if piece.stream == TASK:
            self._job.root.take(piece.data)
        elif self._stdin is not None:
            self._stdin.take(piece.data)

    def on_end(self, body: object) -> None:
        if self._stdin is not None:
            self._stdin.end()

    def on_credit(self) -> None:
        self._job.work.cancel("held up")
        self._job.record.is_read_on()
        self._job.output.read_on()

    def on_room(self) -> None:
        self._job.output.read_on()

    def on_close(self) -> None:
        self._job.output.drop()
        self._job.returned.forget(self._job)
        self._job.stop("stopped", STOP_GRACE)
