"""A minute of torture, always the same scripts; ``nox -s torture`` is the long one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from torture.places import PLACES, Place
from torture.play import play
from torture.script import EVERYWHERE, Script, invent

# Of short scripts those with the most kinds of faults; in two the state directory fills up.
SCRIPTS = [("local", 1021), ("local", 3771), ("local", 2649), ("ssh", 3343), ("ssh", 2859)]

HASTE = 2.0


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES[str(request.param)]() as place:
        yield place


@pytest.mark.real
@pytest.mark.parametrize(("place", "seed"), SCRIPTS, indirect=["place"])
def test_nothing_is_lost_doubled_or_left_behind(place: Place, seed: int) -> None:
    script = invent(seed, place.name, place.kinds, place.can_fill, HASTE)
    verdict = play(script, place)
    assert verdict.faults, "nothing went wrong: that is no torture"
    if verdict.complaints:
        pytest.fail("\n".join([*verdict.complaints, script.to_json().decode()]), pytrace=False)


def test_a_script_is_its_seed_s_and_can_be_written_down() -> None:
    script = invent(7, "local", EVERYWHERE, True)
    assert invent(7, "local", EVERYWHERE, True) == script
    assert invent(8, "local", EVERYWHERE, True) != script
    assert Script.from_json(script.to_json()) == script
