"""The agent's MessagePack against msgspec's, both ways, and against hostile bytes."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._wire.msgpack import MAX_DEPTH, UnpackError, pack, unpack

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.binary() | st.integers(0, 9), inner)
    ),
    max_leaves=20,
)


@given(values)
def test_what_the_agent_packs_msgspec_reads(value: object) -> None:
    assert msgspec.msgpack.decode(pack(value), strict=True) == value


@given(values)
def test_what_msgspec_packs_the_agent_reads(value: object) -> None:
    assert unpack(msgspec.msgpack.encode(value)) == value


@pytest.mark.parametrize("size", [0, 31, 32, 255, 256, 65535, 65536])
@pytest.mark.parametrize("kind", ["str", "bytes", "list", "dict"])
def test_every_width_of_a_size(kind: str, size: int) -> None:
    value: object = {
        "str": "x" * size,
        "bytes": b"x" * size,
        "list": [1] * size,
        "dict": dict.fromkeys(range(size), 1),
    }[kind]
    assert pack(value) == msgspec.msgpack.encode(value)
    assert unpack(pack(value)) == value


@given(st.binary(max_size=200))
def test_garbage_gives_a_value_or_an_unpack_error(data: bytes) -> None:
    with contextlib.suppress(UnpackError):
        unpack(data)


@given(values, st.data())
def test_a_value_cut_short_is_an_unpack_error(value: object, data: st.DataObject) -> None:
    packed = pack(value)
    with pytest.raises(UnpackError):
        unpack(packed[: data.draw(st.integers(0, len(packed) - 1))])


@given(values)
def test_bytes_after_the_value_are_an_unpack_error(value: object) -> None:
    with pytest.raises(UnpackError, match="after the value"):
        unpack(pack(value) + b"\xc0")


@pytest.mark.parametrize(
    "data",
    [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xdb\x7f\xff\xff\xff",
    ],
)
def test_a_large_size_costs_nothing_before_its_bytes_are_there(data: bytes) -> None:
    with pytest.raises(UnpackError, match="announced"):
        unpack(data)


def test_depth_is_limited() -> None:
    nested: object = None
    for _ in range(MAX_DEPTH):
        nested = [nested]
    assert unpack(pack(nested)) == nested
    with pytest.raises(UnpackError, match="nested deeper"):
        unpack(pack([nested]))
    with pytest.raises(UnpackError):
        unpack(b"\x91" * 100_000)


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, object(), 1j, {1, 2}])
def test_what_messagepack_cannot_say_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="no MessagePack for"):
        pack(value)


def test_text_that_is_no_unicode_is_escaped_and_not_refused() -> None:
    assert unpack(pack("a\udcffb")) == "a\\udcffb"
