"""What a shell offers when somebody presses Tab: ``remit completion bash|zsh|fish``."""

from __future__ import annotations

import os
import re

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    add_completion_class,
    get_completion_class,
    shell_complete,
    split_arg_string,
)

from remit import RemitError
from remit.cli import _known, _local, _where
from remit.cli._report import UsageError

SHELLS = ("bash", "zsh", "fish")
# By this variable the scripts ask: what it holds is the shell and what is to be done.
VARIABLE = "_REMIT_COMPLETE"
# What a shell would take apart, or a terminal for an order, is typed by hand.
_PLAIN = re.compile(r"[\w.@:%+/\[\]-]+")


# Bash takes a word apart at each of COMP_WORDBREAKS, ``:`` among them, and has only what follows
# the last one replaced, with that where it is ``@``. So it is asked for the line, and told that.
_BASH = r"""
%(complete_func)s() {
    local IFS=$'\n' line=${COMP_LINE:0:COMP_POINT} word before type value
    word=${line##*[[:space:]]}
    before=${word%%"${word##*["$COMP_WORDBREAKS"]}"}
    before=${before%%@}
    COMPREPLY=()
    while IFS=, read -r type value; do
        COMPREPLY+=("${value#"$before"}")
    done < <(COMP_WORDS=$line %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class _Bash(BashComplete):
    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """What was typed before the word at the cursor, and that as far as it goes."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        begun = "" if line[-1:].isspace() or not words else words.pop()
        while words and re.match(r"\w+=", words[0]):
            del words[0]  # a variable of the command's
        return words[1:], begun


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
    typed, colon, _ = begun.partition(":")
    for scheme, transport in sorted(plugins().transports.items()):
        found.setdefault(f"{scheme}:", "")
        if isinstance(transport, KnowsAddresses) and (not colon or typed == scheme):
            bare = isinstance(transport, TakesBareWords) and transport.bare_words and not colon
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
