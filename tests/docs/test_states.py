"""The diagram and the table of states in docs/states.md are those of the code."""

import re
from collections import defaultdict

from docs.pages import ROOT, sections
from remit._wire import states

PAGE = ROOT / "docs" / "states.md"


def diagram() -> str:
    """The moves of `states.NEXT` as a Mermaid state diagram, those between two states on one
    arrow."""
    moves = defaultdict[tuple[str, str], list[str]](list)
    for state, events in states.NEXT.items():
        for event, after in events.items():
            moves[state, after].append(event)
    lines = ["stateDiagram-v2", "    [*] --> PENDING"]
    lines += [f"    {a} --> {b}: {', '.join(events)}" for (a, b), events in moves.items()]
    lines += [f"    {state} --> [*]" for state in states.NEXT if state in states.FINISHED]
    return "\n".join(lines) + "\n"


def test_the_diagram_shows_all_moves() -> None:
    blocks = [block for section in sections(PAGE) for block in section.blocks]
    assert [block.text for block in blocks if block.language == "mermaid"] == [diagram()]


def test_every_state_is_explained() -> None:
    explained = re.findall(r"^\| `([A-Z]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(explained) == sorted(states.NEXT)
