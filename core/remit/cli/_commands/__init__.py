"""The words of the command line: which commands there are, and what each takes.

A module here is imported once one of its commands is called, and what a command does only then:
`remit --help` waits for none of it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import click

_STARTING = "remit.cli._commands.starting"
_JOBS = "remit.cli._commands.jobs"
_TARGETS = "remit.cli._commands.targets"

# Each command: the module that has it, and what it does in a line.
COMMANDS = {
    "run": (_STARTING, "Run a command there as if it were here."),
    "start": (_STARTING, "Start a command and print its job's id."),
    "jobs": (_JOBS, "List the jobs that are known here, or those kept on TARGET."),
    "receive": (_JOBS, "Print what a job produced and was not yet received."),
    "logs": (_JOBS, "Print what a job produced, and use up nothing."),
    "wait": (_JOBS, "Wait until jobs have ended."),
    "stop": (_JOBS, "Stop jobs with all their processes."),
    "rm": (_JOBS, "Remove jobs with their results."),
    "save": (_JOBS, "Write a job's results to a file on the computer where they are."),
    "suspend": (_JOBS, "Suspend jobs."),
    "resume": (_JOBS, "Resume suspended jobs."),
    "signal": (_JOBS, "Send a signal to a job."),
    "prune": (_TARGETS, "Remove jobs kept on TARGET that are over: the old ones, or the oldest."),
    "enter": (_TARGETS, "Open a terminal there."),
    "login": (_TARGETS, "Open a connection to TARGET for the commands that come after."),
    "transports": (_TARGETS, "List the ways to reach a target, and faulty plugins."),
    "doctor": (_TARGETS, "Look step by step at what works on TARGET."),
    "completion": (_TARGETS, "Print what bash, zsh or fish reads so that Tab completes."),
    "demo": (_TARGETS, "Walk through the three workflows with real jobs."),
}


def load(name: str) -> click.Command:
    """One of those."""
    module = importlib.import_module(COMMANDS[name][0])
    command: click.Command = getattr(module, f"{name}_command")
    return command


def commands() -> dict[str, click.Command]:
    """All of them, by name."""
    return {name: load(name) for name in COMMANDS}
