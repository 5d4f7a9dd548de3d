"""The agent's JSON says what everybody's says, with the C scanner under it and without."""

from __future__ import annotations

import json as reference
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._jobdir import json

texts = st.text(st.characters())  # lone surrogates too
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5),
    max_leaves=20,
)


@pytest.fixture(params=["C", "Python"], scope="module")
def loads(request: pytest.FixtureRequest) -> Iterator[Callable[[bytes], Any]]:
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "Python":
            patch.setattr(json, "_scan", json._scan_here)
        yield json.loads


@given(value=values)
def test_what_is_written_is_read_back(loads: Callable[[bytes], Any], value: object) -> None:
    assert loads(json.dumps(value)) == value


@given(value=values)
def test_others_read_what_is_written(value: object) -> None:
    assert reference.loads(json.dumps(value)) == value


@given(value=values, ascii_only=st.booleans(), indent=st.none() | st.integers(0, 2))
def test_what_others_write_is_read(
    loads: Callable[[bytes], Any], value: object, ascii_only: bool, indent: int | None
) -> None:
    text = reference.dumps(value, ensure_ascii=ascii_only, indent=indent)
    try:
        data = text.encode()
    except UnicodeEncodeError:
        data = reference.dumps(value, indent=indent).encode()
    assert loads(data) == value


@given(value=values, cut=st.integers(0, 200), junk=st.binary(max_size=3))
def test_garbage_is_refused_or_read_as_others_read_it(
    loads: Callable[[bytes], Any], value: object, cut: int, junk: bytes
) -> None:
    data = reference.dumps(value).encode()
    data = data[:cut] + junk + data[cut + 1 :]
    try:
        expected = reference.loads(data.decode(), parse_constant=_no_constant)
    except (ValueError, UnicodeDecodeError):
        with pytest.raises(json.JSONError):
            loads(data)
    else:
        assert loads(data) == expected


def _no_constant(name: str) -> None:
    raise ValueError(name)


@pytest.mark.parametrize(
    "data",
    [
        b"", b" ", b"nul", b"01", b"+1", b"1.", b".5", b"-", b"1e", b"NaN", b"Infinity", b'"\x01"',
        b'"\\x"', b'"\\u12"', b'"\\u 123"', b"[1,]", b"[1 2]", b'{"a"}', b'{"a":1,}', b"{1:2}",
        b'"open', b"[", b"{", b"1 2", b"\xff", b"[" * 100_000, b'{"a":' * 100_000,
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_no_json_is_refused(loads: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(json.JSONError):
        loads(data)


@given(data=st.binary(max_size=50))
def test_bytes_survive_as_text_or_base64(data: bytes) -> None:
    written = json.from_bytes(data)
    assert json.to_bytes(json.loads(json.dumps(written))) == data
    if isinstance(written, dict):
        with pytest.raises(UnicodeDecodeError):
            data.decode()


@given(value=texts)
def test_no_control_character_reaches_a_terminal(value: str) -> None:
    shown = json.dumps({"text": value}).decode()
    assert not any(c != "\n" and (c < " " or "\x7f" <= c < "\xa0") for c in shown)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"x", {1: 2}, {"a": object()}])
def test_what_json_cannot_say_is_an_error(value: object) -> None:
    with pytest.raises(TypeError):
        json.dumps(value)
