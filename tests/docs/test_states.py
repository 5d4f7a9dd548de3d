"""The diagrams and the tables of states in docs/states.md are those of the code."""

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import TypeVar

from docs.pages import ROOT, sections
from remit._session import states as session_states
from remit._wire import states

_S = TypeVar("_S", bound=str)
PAGE = ROOT / "docs" / "states.md"


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


def test_the_diagrams_show_all_moves() -> None:
    blocks = [block for section in sections(PAGE) for block in section.blocks]
    assert [block.text for block in blocks if block.language == "mermaid"] == [
        diagram(states.NEXT),
        diagram(session_states.NEXT),
    ]


def test_every_state_is_explained() -> None:
    explained = re.findall(r"^\| `([A-Z]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(explained) == sorted([*states.NEXT, *session_states.NEXT])
