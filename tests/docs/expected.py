"""Comparing what a page says with what was printed. Pure."""

import re
from collections.abc import Iterable
from typing import NamedTuple

ANYTHING = "…"
_JOB_ID = re.compile(r"\bj[a-z2-7]{12}\b")


class Command(NamedTuple):
    """One command of a console block. ``prompt`` ends with ``$ ``."""

    prompt: str
    words: str
    output: str


def commands(text: str) -> list[Command]:
    """The commands of a console block; lines that begin with ``> `` continue one.

    Raises ValueError where output stands before the first command.
    """
    found: list[Command] = []
    for line in text.splitlines():
        prompt, dollar, words = line.partition("$ ")
        if dollar and (not prompt or re.fullmatch(r"\[\S+\] \S*", prompt)):
            found.append(Command(prompt + dollar, words, ""))
            continue
        if not found:
            raise ValueError(f"no command before {line!r}")
        last = found[-1]
        if line.startswith("> ") and not last.output:
            found[-1] = last._replace(words=f"{last.words}\n{line[2:]}")
        else:
            found[-1] = last._replace(output=f"{last.output}{line}\n")
    return found


class Names:
    """Which real id each job id of a page stands for."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def in_words(self, words: str) -> str:
        """A command with the real ids. Raises ValueError for an id that nothing has printed."""
        for name in _JOB_ID.findall(words):
            if name not in self._real:
                raise ValueError(f"{words!r} uses {name}, which no command before it printed")
        return _JOB_ID.sub(lambda match: self._real[match[0]], words)

    def match(self, expected: str, printed: str) -> bool:
        """Whether ``printed`` is what ``expected`` says. New ids are learnt where it is."""
        pattern = "".join(self._lines(expected.splitlines()))
        plain = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
        found = re.fullmatch(pattern, plain)
        if found is None:
            return False
        learnt = {**self._real, **found.groupdict()}
        if len(set(learnt.values())) < len(learnt):
            return False  # two jobs of the page, and only one of ours
        self._real = learnt
        return True

    def _lines(self, lines: Iterable[str]) -> Iterable[str]:
        new: set[str] = set()
        for line in lines:
            if line.strip() == ANYTHING:
                yield r"(?:.*\n)*?"
            else:
                parts = re.split(f"({ANYTHING}|{_JOB_ID.pattern})", line.rstrip())
                yield "".join(self._part(part, new) for part in parts) + r"[ ]*\n"

    def _part(self, part: str, new: set[str]) -> str:
        if part == ANYTHING:
            return ".*?"
        if not _JOB_ID.fullmatch(part):
            return re.escape(part)
        if part in self._real:
            return re.escape(self._real[part])
        if part in new:
            return f"(?P={part})"
        new.add(part)
        return f"(?P<{part}>j[a-z2-7]{{12}})"
