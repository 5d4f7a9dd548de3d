"""Frames: any cutting of the stream gives the same ones, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._wire.frames import HEADER, MAX_PAYLOAD, Decoder, Frame, FrameError, encode

frames = st.builds(Frame, st.integers(0, 255), st.integers(0, 2**32 - 1), st.binary(max_size=40))


def decoded(decoder: Decoder) -> list[Frame]:
    return list(iter(decoder.next_frame, None))


@given(sent=st.lists(frames), step=st.integers(1, 50))
def test_frames_survive_any_cutting_of_the_stream(sent: list[Frame], step: int) -> None:
    wire = b"".join(encode(*frame) for frame in sent)
    decoder, got = Decoder(), list[Frame]()
    for start in range(0, len(wire), step):
        decoder.feed(wire[start : start + step])
        got += decoded(decoder)
    assert got == sent
    assert decoder.empty


@given(frame=frames, data=st.data())
def test_a_cut_frame_is_none_and_is_known_to_be_cut(frame: Frame, data: st.DataObject) -> None:
    wire = encode(*frame)
    cut = data.draw(st.integers(1, len(wire) - 1))
    decoder = Decoder()
    decoder.feed(wire[:cut])
    assert decoder.next_frame() is None
    assert not decoder.empty


def test_the_largest_frame_passes() -> None:
    decoder = Decoder()
    decoder.feed(encode(7, 1, bytes(MAX_PAYLOAD)))
    assert decoder.next_frame() == Frame(7, 1, bytes(MAX_PAYLOAD))


def test_a_larger_one_is_not_sent() -> None:
    with pytest.raises(FrameError, match="the most is 1048576"):
        encode(7, 1, bytes(MAX_PAYLOAD + 1))


def test_a_larger_one_is_refused_before_it_has_come() -> None:
    decoder = Decoder()
    decoder.feed(HEADER.pack(7, 1, MAX_PAYLOAD + 1))
    with pytest.raises(FrameError, match="1048577 bytes was announced"):
        decoder.next_frame()


def test_the_layout_is_the_one_in_the_documentation() -> None:
    assert encode(5, 0x01020304, b"hi") == bytes([5, 1, 2, 3, 4, 0, 0, 0, 2]) + b"hi"


@given(buffer=st.sampled_from([bytes, bytearray, memoryview]), frame=frames)
def test_any_buffer_may_be_fed(buffer: type, frame: Frame) -> None:
    decoder = Decoder()
    decoder.feed(buffer(encode(*frame)))
    assert decoded(decoder) == [frame]
