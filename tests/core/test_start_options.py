"""The options of a start are one list: what `Session.start` takes, what is passed on as one value,
what type checkers are told, and what stands on the wire."""

from __future__ import annotations

import inspect
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import remit
from remit._jobs.options import StartSettings
from remit._jobs.request import Start
from remit._wire.requests import FUNCTION_FIELDS, JOB_FIELDS, REQUESTS, build, parse

# What no user says: groups say it, and the command line.
OWN = {"group", "unique"}
FIELDS = [field for field in attrs.fields(StartSettings) if field.name not in OWN]
OPTIONS = {field.name: field.default for field in FIELDS}
# What a start asks for that is nothing to the target, or says it in another word.
LOCAL = {"full", "buffer_limit", "max_output", "on_max"}


def test_the_session_takes_them_with_their_defaults_in_their_order() -> None:
    parameters = inspect.signature(remit.Session.start).parameters.values()
    taken = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
    assert list(taken.items()) == list(OPTIONS.items())


def test_type_checkers_are_told_of_the_same() -> None:
    told = remit.StartOptions.__annotations__
    assert list(told) == list(OPTIONS)
    types = {field.name: field.type for field in FIELDS}
    assert {name: kind.__forward_arg__ for name, kind in told.items()} == types
    signature = inspect.signature(remit.Session.start)
    assert {name: signature.parameters[name].annotation for name in told} == types


@pytest.mark.anyio
@pytest.mark.parametrize("name", OPTIONS)
async def test_each_keyword_becomes_the_option_of_its_name(
    session: remit.Session, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[StartSettings] = []

    class Asked(Exception):
        pass

    async def begin(work: object, args: object, settings: StartSettings) -> None:
        asked.append(settings)
        raise Asked

    monkeypatch.setattr(session, "_begin", begin)
    value: Any = object()
    with pytest.raises(Asked):
        await session.start(["true"], **{name: value})
    assert asked == [StartSettings(**{name: value})]


class Placement:
    api = 1

    def __init__(self, spools: bool) -> None:
        self.name = "keep" if spools else "return"
        self.spools = spools


texts = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=9)
settings = st.builds(
    StartSettings,
    lifetime=st.none() | st.just("session"),
    name=st.none() | texts.filter(str.isprintable),
    cwd=st.none() | texts,
    env=st.none() | st.dictionaries(st.sampled_from(["A", "B"]), texts),
    stdin=st.none() | st.just(b"x"),
    timeout=st.none() | st.floats(0.1, 1e9) | st.integers(1, 9),
    merge=st.booleans(),
    leftovers=st.sampled_from(["leave", "stop"]),
    max_output=st.none() | st.integers(1, 1 << 61),
)


@given(settings, st.booleans(), st.booleans())
def test_what_a_caller_asks_for_is_what_the_agent_is_asked(
    asked: StartSettings, spools: bool, here: bool
) -> None:
    start = Start.of(["a", b"\xff"], (), asked, Placement(spools), here)  # type: ignore[arg-type]
    sent = start.arguments()
    assert list(sent) != []
    assert set(sent) == {field.name for field in JOB_FIELDS}
    taken = parse(*build("start", sent))  # type: ignore[arg-type]
    assert {name: taken[name] for name in sent} == sent
    for name in set(OPTIONS) - LOCAL - {"placement", "lifetime", "cwd", "env", "id", "stdin"}:
        if name in sent:
            assert sent[name] == getattr(asked, name)


def test_the_wire_has_what_is_for_the_target() -> None:
    wire = {field.name for field in REQUESTS["start"]}
    # How a line is run is part of the command.
    assert set(OPTIONS) - wire - {"login"} == LOCAL
    assert {field.name for field in FUNCTION_FIELDS} <= wire
