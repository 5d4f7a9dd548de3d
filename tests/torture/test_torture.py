"""A short torture, always the same scripts; ``nox -s torture`` is the long one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from torture.places import PLACES, Place
from torture.play import play
from torture.script import Script, invent

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=["local", "ssh"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with PLACES[str(request.param)]() as place:
        yield place


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_is_lost_doubled_or_left_behind(place: Place, seed: int) -> None:
    script = invent(seed, place.name, place.kinds, place.can_fill)
    verdict = play(script, place)
    assert verdict.faults, "nothing went wrong: that is no torture"
    if verdict.complaints:
        pytest.fail("\n".join([*verdict.complaints, script.to_json().decode()]), pytrace=False)


def test_a_script_survives_being_written_down(place: Place) -> None:
    script = invent(7, place.name, place.kinds, place.can_fill)
    assert Script.from_json(script.to_json()) == script
    assert invent(7, place.name, place.kinds, place.can_fill) == script
