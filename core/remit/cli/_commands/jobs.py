"""What the commands take that are for jobs which are there: ``remit jobs``, ``receive``, ``wait``,
``stop`` …"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from remit.cli._commands import options
from remit.cli._commands.options import option
from remit.cli._group import Command
from remit.cli._report import UsageError

if TYPE_CHECKING:
    from remit import JobInfo


@click.command(
    "jobs",
    cls=Command,
    examples=("remit jobs", "remit jobs server01", "remit jobs --json | jq '.[].id'"),
)
@options.perhaps_target
@options.as_json
def jobs_command(target: str | None, as_json: bool) -> None:
    """List the jobs that are known here, or those kept on TARGET."""
    from remit.cli import _render, _state

    listing = _render.JobArray() if as_json else _render.JobTable(options.width())

    def show(jobs: Sequence[JobInfo]) -> None:
        options.show(listing.part(jobs) + listing.end())

    if target is not None:
        from remit.cli import _jobs

        options.run_async(_jobs.show_kept, target, listing)
    elif _state.names("jobs") or _state.names("known"):
        from remit.cli import _jobs

        options.run_async(_jobs.show_known, show)
    else:
        show(())


@click.command(
    "receive",
    cls=Command,
    examples=("remit receive build", "remit receive --on server01 --keep --no-wait build"),
)
@options.job
@options.on
@option("--keep", is_flag=True, help="Use nothing up.")
@option("--from-start", is_flag=True, help="All of it again.")
@option("--no-wait", is_flag=True, help="What there is now.")
@option("--stream", metavar="S", help="Show only this one; all is used up.")
@option("--tail", metavar="N", help="The last lines of what there is, and what comes.")
@option("--timestamps", is_flag=True, help="The time in front of each line.")
@options.records
@options.raw
@option("--since", metavar="OFFSET", help="All from that byte of each stream on.")
def receive_command(
    job: str, on: str | None, keep: bool, from_start: bool, no_wait: bool, **words: Any
) -> None:
    """Print what a job produced and was not yet received; follow it until the job ends."""
    view = options.view(**words)
    from remit.cli._receive import receive

    again = from_start or view.since is not None
    options.exit_with(receive, job, on, view, keep=keep, wait=not no_wait, from_start=again)


@click.command("logs", cls=Command, examples=("remit logs build", "remit logs -f -n 20 build"))
@options.job
@options.on
@option("-f", "--follow", is_flag=True, help="Until the job ends.")
@option("-n", "--tail", metavar="N", help="The last lines alone.")
@option("--stream", metavar="S", help="Show only this one.")
@option("--timestamps", is_flag=True, help="The time in front of each line.")
@options.records
@options.raw
def logs_command(job: str, on: str | None, follow: bool, **words: Any) -> None:
    """Print what a job produced, and use up nothing."""
    view = options.view(since=None, **words)
    from remit.cli._receive import receive

    options.exit_with(receive, job, on, view, keep=True, wait=follow, from_start=True)


@click.command(
    "wait",
    cls=Command,
    examples=("remit wait build", "remit wait --any --timeout 1h a b c"),
    exits="0 all Completed; 1 some are not; 124 the time was over; 2; 255 the link failed.",
)
@options.jobs
@options.on
@option("--any", "any_", is_flag=True, help="Until the first has ended.")
@option("--timeout", metavar="TIME", help="At most so long: 90s, 15m, 2h30m.")
@option("--status", is_flag=True, help="End with the exit status of the one job.")
def wait_command(
    jobs: tuple[str, ...], on: str | None, any_: bool, timeout: str | None, status: bool
) -> None:
    """Wait until jobs have ended."""
    if status and len(jobs) != 1:
        raise UsageError("--status is for one job", hint="remit wait --status JOB")
    from remit.cli import _amounts

    limit = None if timeout is None else _amounts.seconds("--timeout", timeout)
    from remit.cli import _manage

    options.exit_with(_manage.wait, jobs, on, any_=any_, timeout=limit, status=status)


@click.command("stop", cls=Command, examples=("remit stop build", "remit stop --grace 1m build"))
@options.jobs
@options.on
@option(
    "--grace", metavar="TIME", default="5s", help="From TERM to KILL: 5s by default, at most 1h."
)
def stop_command(jobs: tuple[str, ...], on: str | None, grace: str) -> None:
    """Stop jobs with all their processes."""
    from remit.cli import _amounts

    limit = _amounts.seconds("--grace", grace, most=3600)
    from remit.cli import _manage

    options.exit_with(_manage.stop, jobs, on, grace=limit)


@click.command("rm", cls=Command, examples=("remit rm build", "remit rm --finished"))
@options.perhaps_jobs
@options.on
@option("--force", is_flag=True, help="Stop those that run.")
@option("--finished", is_flag=True, help="All that have ended, here or on the target.")
def rm_command(jobs: tuple[str, ...], on: str | None, force: bool, finished: bool) -> None:
    """Remove jobs with their results."""
    if finished == bool(jobs):
        raise UsageError("JOB… or --finished", hint="remit rm JOB, remit rm --finished")
    from remit.cli import _manage

    if finished:
        options.exit_with(_manage.remove_finished, on)

    options.exit_with(_manage.remove, jobs, on, force=force)


@click.command("save", cls=Command, examples=("remit save build /tmp/build.log",))
@options.job
@options.argument("path", "PATH")
@options.on
@option("--stream", metavar="S", default="stdout", help="stdout (default) or stderr.")
def save_command(job: str, path: str, on: str | None, stream: str) -> None:
    """Write a job's results to a file on the computer where they are."""
    options.check_stream(stream, options.OUTPUTS)
    from remit.cli import _manage

    options.exit_with(_manage.save, job, on, path, stream=stream)


@click.command("suspend", cls=Command, examples=("remit suspend build",))
@options.jobs
@options.on
def suspend_command(jobs: tuple[str, ...], on: str | None) -> None:
    """Suspend jobs."""
    from remit.cli import _manage

    options.exit_with(_manage.suspend, jobs, on)


@click.command("resume", cls=Command, examples=("remit resume build",))
@options.jobs
@options.on
def resume_command(jobs: tuple[str, ...], on: str | None) -> None:
    """Resume suspended jobs."""
    from remit.cli import _manage

    options.exit_with(_manage.resume, jobs, on)


@click.command("signal", cls=Command, examples=("remit signal build INT", "remit signal build 10"))
@options.job
@options.argument("name", "NAME")
@options.on
def signal_command(job: str, name: str, on: str | None) -> None:
    """Send a signal to a job: NAME is INT, SIGUSR1, or a number as its target has it.

    It goes to the process group of the job's first process, as Ctrl-C at a terminal does.
    """
    from remit._jobs.signals import signal_word
    from remit.cli._report import usage

    with usage():
        word = signal_word(name)
    from remit.cli import _manage

    options.exit_with(_manage.signal, job, on, word)
