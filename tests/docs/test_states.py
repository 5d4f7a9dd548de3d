"""The states, their moves and the reasons in docs/states.md are those of the code."""

import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import pytest

import remit
from docs.pages import ROOT, sections
from remit import JobState, Outcome
from remit._session import states as session_states
from remit._wire import states
from remit.cli import _endings

_S = TypeVar("_S", bound=str)
PAGE = ROOT / "docs" / "states.md"
_TEXT = PAGE.read_text(encoding="utf-8")
_ROW = re.compile(r"^\| `([a-z-]+)` \| ([A-Z, ]+) \| (.*?) \| (.+?) \|", re.MULTILINE)
REASONS = {name: (state, status) for name, state, status, _ in _ROW.findall(_TEXT)}
# How a reason is given in the code.
_GIVEN = re.compile(
    r"""reason="([a-z-]+)"|"reason"\]?(?:: | = )"([a-z-]+)"|_reason = "([a-z-]+)"|"""
    r"""_(?:stop|lost|give_up|over_before_it_ran)\("([a-z-]+)"|Verdict\(f?"[^"]*", "([a-z-]+)"\)"""
)
_END = re.compile("succeeded|went wrong|ended by us|vanished|link down")


def diagram(table: Mapping[_S, Mapping[str, _S]]) -> str:
    """The moves of a table of states as a Mermaid state diagram, those between two states on one
    arrow. What the table names first is where it begins; what nothing follows is where it ends."""
    moves = defaultdict[tuple[_S, _S], list[str]](list)
    for state, events in table.items():
        for event, after in events.items():
            moves[state, after].append(event)
    lines = ["stateDiagram-v2", f"    [*] --> {next(iter(table))}"]
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in moves.items()]
    lines += [f"    {state} --> [*]" for state, events in table.items() if not events]
    return "\n".join(lines) + "\n"


def moves() -> str:
    """The same as a table, without the moves that every unfinished state has."""
    rows = []
    for state, events in states.NEXT.items():
        further = [after for event, after in events.items() if not _END.fullmatch(event)]
        different = [after for after in dict.fromkeys(further) if after != state]
        if state not in states.FINISHED:
            rows.append(f"| `{state}` | {', '.join(different) or 'nothing else'} |\n")
    return "".join(rows)


def test_the_diagrams_show_all_moves() -> None:
    blocks = [block for section in sections(PAGE) for block in section.blocks]
    assert [block.text for block in blocks if block.language == "mermaid"] == [
        diagram(states.NEXT),
        diagram(session_states.NEXT),
    ]


def test_the_table_beside_it_says_the_same() -> None:
    assert moves() in _TEXT, moves()


def test_every_state_is_explained() -> None:
    others = re.sub("^## Moves$.*?^## Reasons$", "", _TEXT, flags=re.MULTILINE | re.DOTALL)
    explained = re.findall(r"^\| `([A-Z]+)` \|", others, re.MULTILINE)
    assert sorted(explained) == sorted([*states.NEXT, *session_states.NEXT])


def _given() -> list[str]:
    found = set[str]()
    for path in Path(remit.__file__).parent.rglob("*.py"):
        for groups in _GIVEN.findall(path.read_text(encoding="utf-8")):
            found.update(filter(None, groups))
    return sorted(found)


@pytest.mark.parametrize("reason", _given())
def test_every_reason_of_the_code_is_explained(reason: str) -> None:
    assert reason in REASONS


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_has_the_state_and_the_status_that_the_page_says(reason: str) -> None:
    said, status = REASONS[reason]
    if reason in ("exited", "removed", "connect-failed"):  # not by the reason alone
        return
    exit_status = 1 if status == "its own" else None
    ended_by = "SIGTERM" if reason == "signalled" else None
    after = states.move(states.RUNNING, states.ended(exit_status, ended_by, reason))
    assert after == said
    outcome = Outcome(exit_status, ended_by, reason)
    expected = {"its own": 1, "128 + signal": 128 + 15}.get(status) or int(status)
    assert _endings.exit_status(JobState(after), outcome) == expected
