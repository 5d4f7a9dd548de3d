"""What callers ask of return jobs."""

from __future__ import annotations

import signal as signals
from typing import TYPE_CHECKING

from remit._agent.base import process_tree
from remit._agent.base.channel import Channel
from remit._agent.functions import known
from remit._agent.returned import phases
from remit._agent.returned.jobs import ReturnJobs
from remit._agent.returned.program import Program
from remit._agent.returned.record import Wanted
from remit._agent.returned.return_job import ReturnJob
from remit._wire import states
from remit._wire.refusal import Refused
from remit._wire.requests import STOP_GRACE

if TYPE_CHECKING:
    from typing import Any, Callable

    from remit._agent.base.link import Link
    from remit._agent.returned.program import Root

# What signals that nobody can refuse make of a job.
_EVENTS: dict[int, str] = {signals.SIGSTOP: states.PAUSED, signals.SIGCONT: states.CONTINUED}


def start(link: Link, number: int, args: dict[str, Any]) -> None:
    """The verb, for ``spool: false``."""
    job_id = args["id"]
    returned = link.session.only(ReturnJobs)
    if job_id in returned:
        raise Refused("state", "there is a job %s in this session already" % job_id)
    if link.session.ending:
        raise Refused("state", "the session is about to end")
    wanted, channel = Wanted(args), Channel(link, number)
    if "function" in args["command"]:
        known.of(link.session, args["python"])
        from remit._agent.returned.function_job import Function  # came with the interpreter

        root: Root = Function(channel, wanted, args)
    else:
        root = Program(link.session, wanted)
    job = ReturnJob(channel, wanted, root)
    try:
        job.begin()
    except OSError as exc:
        raise Refused("start-failed", "no job can be started: %s" % exc.strerror) from exc
    returned.add(job)


# The others. Each is ``request(job, channel, args)``, on whatever link it came.


def stop(job: ReturnJob, channel: Channel, args: dict[str, Any]) -> None:
    job.stop("stopped", args["grace"], channel)


def suspend(job: ReturnJob, channel: Channel, args: dict[str, Any]) -> None:
    _hold(job, channel, "suspended", process_tree.pause, states.PAUSED)


def resume(job: ReturnJob, channel: Channel, args: dict[str, Any]) -> None:
    _hold(job, channel, "resumed", process_tree.unpause, states.CONTINUED)


def signal(job: ReturnJob, channel: Channel, args: dict[str, Any]) -> None:
    if job.phase != phases.RUNS:
        raise _in_no_state(job, "signalled: its first process is none that runs")
    # At once, so that several reach it in their order.
    number = process_tree.signal_group(job.root.places[0], args["signal"])
    if number in _EVENTS:
        _move(job, _EVENTS[number])
    channel.reply(job.record.view())


def _hold(
    job: ReturnJob, channel: Channel, what: str, send: Callable[..., object], event: str
) -> None:
    if job.record.state not in (states.RUNNING, states.BLOCKED, states.SUSPENDED):
        raise _in_no_state(job, what)

    def done(_: object, error: Refused | None) -> None:
        if error is not None:
            channel.fail(error)
            return
        _move(job, event)
        channel.reply(job.record.view())

    job.work.help(process_tree.looking(send, job.root.search()), done)


def _move(job: ReturnJob, event: str) -> None:
    """Where that is a change."""
    if event in states.NEXT[job.record.state]:
        job.record.move(event)
        if event == states.CONTINUED:
            job.output.read_on()  # so that it shows if it is held up


def remove(job: ReturnJob, channel: Channel, args: dict[str, Any]) -> None:
    if not (job.is_over or args["force"]):
        raise _in_no_state(job, "removed: it runs")
    job.returned.forget(job)
    job.stop("stopped", STOP_GRACE)
    channel.reply({})


def watch(job: ReturnJob, channel: Channel, args: dict[str, Any]) -> None:
    job.record.watch(channel)


def _in_no_state(job: ReturnJob, what: str) -> Refused:
    words = "job %s is %s and cannot be %s" % (job.id, job.record.state, what)
    return Refused("state", words)
