"""The table of requests: what the agent makes of any request, what a caller may send, and the page
that tells others of it."""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remit._agent.verbs import VERBS
from remit._link import agent_payload
from remit._wire import requests
from remit._wire.msgpack import pack, unpack
from remit._wire.refusal import Refused
from remit._wire.requests import EVENTS, FUNCTION, LIMITS, REQUESTS, REQUIRED, Field
from testbed import pythons

PAGE = Path(__file__).parents[2] / "docs" / "wire.md"
SAID = {**REQUESTS, **EVENTS}
JOB = "jk3q7m2xv4pab"


# -- the page


def words_of(field: Field) -> str:
    """A field as docs/wire.md has it."""
    default = field.default
    if default is REQUIRED:
        after = ""
    elif default is None:
        after = " or nil"
    elif default is dict:
        after = " = {}"
    else:
        word = default.decode() if isinstance(default, bytes) else default
        after = f' = "{word}"' if isinstance(word, str) else f" = {str(word).lower()}"
    return f"{field.name}: {field.kind.words}{after}"


def words(fields: tuple[Field, ...]) -> str:
    return ", ".join(map(words_of, fields))


def test_the_page_has_every_request_and_event_with_its_arguments() -> None:
    rows = re.findall(r"^\| (`[a-z`, ]+`) \| `(.*?)` \|", PAGE.read_text(), re.MULTILINE)
    told = {name: cell for names, cell in rows for name in re.findall("[a-z]+", names)}
    assert told == {name: words(fields) for name, fields in SAID.items()}


@pytest.mark.parametrize("fields", [LIMITS, FUNCTION], ids=["limits", "function"])
def test_the_page_has_the_arguments_within_one(fields: tuple[Field, ...]) -> None:
    assert f"`{{{words(fields)}}}`" in PAGE.read_text()


def test_the_page_explains_every_kind() -> None:
    explained = set(re.findall(r"^\| ([a-z ]+) \|", PAGE.read_text(), re.MULTILINE))
    kinds = {field.kind.words for fields in SAID.values() for field in fields}
    plain = {"str", "int", "bool", "bin", "0 to 65535", "[float, str]"}
    assert {word for word in kinds if '"' not in word} <= explained | plain


def test_the_agent_has_every_request_and_no_other() -> None:
    assert set(VERBS) == set(REQUESTS)


# -- what the agent makes of anything

texts = st.text(max_size=6) | st.sampled_from(
    [JOB, "session", "lease", "stop", "stdout", "a" * 201]
)
numbers = (
    st.integers(-(1 << 63), (1 << 64) - 1)
    | st.sampled_from([0, 1, -1, 65535, 65536, 1 << 62, (1 << 63) - 1])
    | st.floats()
)
raw = st.binary(max_size=6) | st.sampled_from([b"", b"\0", b"/tmp", b"A=B"])
leaves = st.none() | st.booleans() | numbers | texts | raw
keys = texts | raw | st.sampled_from(["argv", "line", "function", "lease", "max_output", "on_max"])
anything: st.SearchStrategy[Any] = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
sound: dict[str, st.SearchStrategy[Any]] = {
    "str": st.text(max_size=20),
    "int": st.integers(-(1 << 63), (1 << 64) - 1),
    "bool": st.booleans(),
    "bin": st.binary(max_size=20),
    "job id": st.text("abcxyz234567", min_size=12, max_size=12).map("j".__add__),
    "name": st.text(min_size=1, max_size=200).filter(str.isprintable),
    "seconds": st.floats(0, 9e9) | st.integers(0, 10**9),
    "path": st.binary(min_size=1, max_size=9).filter(lambda path: b"\0" not in path),
    "env": st.dictionaries(st.sampled_from([b"A", b"B"]), st.just(b"\xff=")),
    "command": st.sampled_from([{"argv": [b"a", b""]}, {"line": b"a"}, {"function": "f"}]),
    "position": st.dictionaries(st.sampled_from(["stdout", "records"]), st.integers(0, 1 << 40)),
    "limits": st.sampled_from([{}, {"lease": 1.0}, {"max_output": 5, "on_max": "truncate"}]),
    "function": st.just({"kind": "source", "program": 3, "arguments": 0, "trust": True}),
    "manner": st.sampled_from([{}, {"whole": True, "umask": 63, "limits": {"RLIMIT_X": [1, 2]}}]),
    "0 to 65535": st.integers(0, 65535),
    "[float, str]": st.tuples(st.floats(), st.text()).map(list),
}


def of_kind(field: Field) -> st.SearchStrategy[Any]:
    if '"' in field.kind.words:
        return st.sampled_from([word.strip('"') for word in field.kind.words.split("/")])
    return sound[field.kind.words]


def requests_of(verb: str) -> st.SearchStrategy[dict[str, Any]]:
    """Sound ones, and those in which something or all is not."""
    fields = REQUESTS[verb]
    whole = {field.name: of_kind(field) for field in fields}
    required = {field.name for field in fields if field.default is REQUIRED}
    good = st.fixed_dictionaries(
        {name: whole[name] for name in required},
        optional={name: whole[name] for name in whole if name not in required},
    )
    spoilt = st.builds(
        lambda request, name, value: {**request, name: value},
        good,
        st.sampled_from(sorted(whole)),
        anything,
    )
    return good | spoilt | st.fixed_dictionaries({}, optional=dict.fromkeys(whole, anything))


asked = st.sampled_from(sorted(REQUESTS)).flatmap(lambda v: st.tuples(st.just(v), requests_of(v)))


def judged(verb: str, args: Mapping[str, Any]) -> dict[str, Any] | Refused:
    try:
        return requests.parse(verb, args)
    except Refused as exc:
        return exc


def within_bounds(verb: str, fields: Mapping[str, Any]) -> bool:
    """By rules that are written down anew."""
    checks: dict[str, Callable[[Any], object]] = {
        "job id": lambda v: re.fullmatch("j[a-z2-7]{12}", v),
        "name": lambda v: 1 <= len(v) <= 200 and v.isprintable(),
        "seconds": lambda v: type(v) is float and 0 <= v < 1e10,
        "path": lambda v: type(v) is bytes and re.fullmatch(rb"[^\0]+", v, re.DOTALL),
        "0 to 65535": lambda v: 0 <= v <= 65535,
        "position": lambda v: (
            list(v) == ["stdout", "stderr", "records"]
            and all(0 <= at < 1 << 63 for at in v.values())
        ),
        "command": lambda v: len(v) == 1,
        "env": lambda v: all(re.fullmatch(rb"[^\0=]+", name, re.DOTALL) for name in v),
    }
    for field in REQUESTS[verb]:
        value = fields[field.name]
        if value is None:
            assert field.default in (None, REQUIRED)
        elif value != field.default:
            assert isinstance(value, field.kind.types)
            assert checks.get(field.kind.words, lambda v: True)(value), (field.name, value)
    return list(fields) == [field.name for field in REQUESTS[verb]]


@settings(max_examples=60)
@given(asked)
def test_any_request_is_within_bounds_or_refused_by_verb_and_argument(
    sent: tuple[str, dict[str, Any]],
) -> None:
    verb, args = sent
    fields = judged(verb, args)
    if isinstance(fields, Refused):
        assert fields.code == "bad-request"
        assert fields.facts["verb"] == verb
        names = {field.name for field in (*REQUESTS[verb], *LIMITS, *FUNCTION)}
        assert verb in ("start", "prune") or fields.facts["argument"] in names
        pack([fields.message, fields.facts])  # it can be told
        return
    assert within_bounds(verb, fields)
    # What was taken is what a caller may send, and is taken again as it is.
    again, args = arrived(requests.build(verb, fields))
    assert pack(requests.parse(again, args)) == pack(fields)


def arrived(value: object) -> Any:
    return unpack(pack(value))


@pytest.mark.parametrize("verb", sorted(REQUESTS))
def test_each_argument_alone_is_named_where_it_is_wrong(verb: str) -> None:
    good = {"job": JOB, "id": JOB, "command": {"line": b"x"}, "spool": True, "name": "n"} | {
        "path": b"/x",
        "packages": 1,
        "rows": 1,
        "columns": 1,
        "term": "x",
        "older_than": 1.0,
        "signal": "SIGINT",
        "lines": 1,
        "modules": b"",
    }
    args = {field.name: good[field.name] for field in REQUESTS[verb] if field.name in good}
    requests.parse(verb, args)
    for field in REQUESTS[verb]:
        with pytest.raises(Refused, match=re.escape(field.name)) as refused:
            requests.parse(verb, {**args, field.name: object()})
        assert refused.value.facts == {"verb": verb, "argument": field.name}


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"spool": False}, "the argument placement is missing"),
        ({"spool": False, "placement": "return"}, "the argument lifetime is missing"),
        ({"spool": False, "placement": "x", "lifetime": "lease"}, "lives as long as its session"),
        ({"command": {"function": "f"}}, "the argument function is missing"),
        ({"lifetime": "lease"}, "needs a limit of that name"),
        ({"limits": {"lease": 1.0}}, "needs a limit of that name"),
        ({"limits": {"on_max": "stop"}}, "on_max is stop or truncate, with max_output"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_together(wrong: dict[str, Any], words: str) -> None:
    args = {"id": JOB, "command": {"line": b"x"}, "spool": True}
    requests.parse("start", args)
    with pytest.raises(Refused, match=words):
        requests.parse("start", args | wrong)


def test_a_prune_of_everything_is_not_meant() -> None:
    with pytest.raises(Refused, match="neither older_than nor max_total was given"):
        requests.parse("prune", {"dry_run": True})


@settings(max_examples=40)
@given(st.sampled_from([*EVENTS]), st.dictionaries(keys, anything))
def test_any_event(name: str, args: dict[str, Any]) -> None:
    names = [field.name for field in EVENTS[name]]
    try:
        assert list(requests.parse_event(name, args) or ()) == names
    except Refused as exc:
        wrong = exc.facts["argument"]
    else:
        return
    assert wrong in names


def test_an_event_of_a_later_version() -> None:
    assert requests.parse_event("of a later version", {}) is None


# -- what a caller may send


@pytest.mark.parametrize("verb", sorted(REQUESTS))
def test_a_caller_sends_no_field_of_another_verb_and_all_that_are_needed(verb: str) -> None:
    needed = {field.name: None for field in REQUESTS[verb] if field.default is REQUIRED}
    assert requests.build(verb, needed) == [verb, needed]
    for field in REQUESTS[verb]:
        requests.build(verb, {**needed, field.name: 1})
    with pytest.raises(TypeError, match=f"the request {verb} has no field nonsense"):
        requests.build(verb, {**needed, "nonsense": 1})
    for name in needed:
        with pytest.raises(TypeError, match=f"the request {verb} needs a field {name}"):
            requests.build(verb, {other: None for other in needed if other != name})


# -- on another Python

RUN = """
import sys
sys.path.insert(0, %r)
from remit._wire.msgpack import pack, unpack
from remit._wire.refusal import Refused
from remit._wire.requests import parse
answers = []
for verb, args in unpack(sys.stdin.buffer.read()):
    try:
        answers.append(parse(verb, args))
    except Refused as exc:
        answers.append([exc.code, exc.message, exc.facts])
sys.stdout.buffer.write(pack(answers))
"""


PLAIN: list[object] = [
    *(None, True, 0, -1, 7, 1 << 62, 1.5, float("inf"), "", "x", JOB, b"", b"x", b"A"),
    *("argv", "line", "function", "stdout", "lease", "on_max", "session", "stop"),
]


def _random_value(seed: random.Random, depth: int = 0) -> object:
    kind, size = seed.randrange(8), seed.randrange(3)
    if depth < 3 and kind == 0:
        return [_random_value(seed, depth + 1) for _ in range(size)]
    if depth < 3 and kind == 1:
        return {seed.choice(PLAIN): _random_value(seed, depth + 1) for _ in range(size)}
    return seed.choice(PLAIN)


def _many(count: int) -> list[list[Any]]:
    seed, made = random.Random(7), []
    for _ in range(count):
        verb = seed.choice(sorted(REQUESTS))
        args = {field.name: _random_value(seed) for field in REQUESTS[verb] if seed.random() < 0.7}
        for field in REQUESTS[verb]:
            if field.name in ("id", "job") and seed.random() < 0.9:
                args[field.name] = JOB
            elif field.name == "command" and seed.random() < 0.9:
                args[field.name] = {"line": b"x"}
            elif seed.random() < 0.5 and field.default is not REQUIRED:
                args.pop(field.name, None)
        made.append([verb, args])
    return made


@pytest.mark.parametrize(
    "python",
    [
        pytest.param(found, id=found.version, marks=pytest.mark.real)
        for found in pythons.found()
        if found.minor == pythons.OLDEST
    ],
)
def test_another_python_judges_alike(python: pythons.Interpreter, tmp_path: Path) -> None:
    prepare = agent_payload.preparation((3, python.minor))
    (tmp_path / "remit" / "_wire").mkdir(parents=True)
    for name, text in agent_payload.sources_of("_wire").items():
        if not name.endswith("_wire"):
            (tmp_path / (name.replace(".", "/") + ".py")).write_text(prepare(text))
    many = _many(1500)
    done = subprocess.run(
        [python.path, "-IS", "-c", RUN % str(tmp_path)],
        input=pack(many),
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    here = [judged(verb, args) for verb, args in arrived(many)]
    assert arrived([a if isinstance(a, dict) else told(a) for a in here]) == unpack(done.stdout)
    assert sum(isinstance(answer, dict) for answer in here) > 100


def told(refused: Refused) -> list[object]:
    return [refused.code, refused.message, refused.facts]
