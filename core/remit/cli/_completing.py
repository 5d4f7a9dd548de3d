"""What a shell offers when somebody presses Tab: ``remit completion bash|zsh|fish``."""

from __future__ import annotations

import re

import click
from click.shell_completion import CompletionItem, get_completion_class, shell_complete

from remit import RemitError
from remit.cli import _known, _local, _where
from remit.cli._report import UsageError

SHELLS = ("bash", "zsh", "fish")
# By this variable the scripts ask: what it holds is the shell and what is to be done.
VARIABLE = "_REMIT_COMPLETE"
# What a shell would take apart, or a terminal for an order, is typed by hand.
_PLAIN = re.compile(r"[\w.@:%+/\[\]-]+")


def script(shell: str, group: click.Group) -> str:
    """What that shell reads at its start. Raises UsageError."""
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise UsageError(f"no completion for {shell!r}", hint="bash, zsh or fish")
    completion = kind(group, {}, "remit", VARIABLE)
    return completion.source_template % completion.source_vars()


def answer(group: click.Group, instruction: str) -> int:
    """Tells the script that asks what may follow. Returns the exit status."""
    return shell_complete(group, {}, "remit", VARIABLE, instruction)


def targets(begun: str) -> list[CompletionItem[str]]:
    """Targets that were used from here, and those that transports know of."""
    from remit._plugins import plugins
    from remit.abc import KnowsAddresses, TakesBareWords

    found = {note.target: "" for note in _notes()}
    for scheme, transport in sorted(plugins().transports.items()):
        found.setdefault(f"{scheme}:", "")
        if isinstance(transport, KnowsAddresses):
            bare = isinstance(transport, TakesBareWords) and transport.bare_words
            for address in transport.addresses():
                found.setdefault(address if bare else f"{scheme}:{address}", "")
    return _items(found, begun)


def jobs(begun: str) -> list[CompletionItem[str]]:
    """Names and ids of the jobs that are known here."""
    found: dict[str, str] = {}
    try:
        known = [(job.id, job.name, job.command) for job in _local.jobs()]
    except (RemitError, OSError):
        known = []
    known += [(note.id, note.name, note.command) for note in _notes()]
    for job_id, name, command in known:
        words = command if isinstance(command, str) else " ".join(command)
        for word in filter(None, (name, job_id)):
            found.setdefault(word, " ".join(re.findall(r"[ -~]+", words))[:60])
    found[_where.LAST] = "the job that was started last"
    return _items(found, begun)


def _notes() -> list[_known.Note]:
    try:
        return _known.read()
    except (RemitError, OSError):
        return []


def _items(found: dict[str, str], begun: str) -> list[CompletionItem[str]]:
    return [
        CompletionItem(word, help=words or None)
        for word, words in found.items()
        if word.startswith(begun) and _PLAIN.fullmatch(word)
    ]
