"""The files of a job directory, as others find them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit._jobdir import files, liveness
from remit._wire.names import is_job_id


@pytest.fixture
def dir_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@given(
    time=st.floats(0, 4e9),
    stream=st.sampled_from([b"stdout", b"stderr", b"progress"]),
    offset=st.integers(0, 2**63 - 1),
    size=st.integers(0, 1 << 30),
)
def test_a_line_of_the_index_has_a_fixed_width(
    time: float, stream: bytes, offset: int, size: int
) -> None:
    packed = files.pack_line(time, stream, offset, size)
    assert len(packed) == files.LINE_SIZE
    line = files.parse_line(packed)
    assert line[1:] == (stream.decode(), offset, size)
    assert line.time == pytest.approx(time, abs=1e-6)


@pytest.mark.parametrize("line", [b"", b"\n", b"1 stdout 2\n", b"x stdout 0 1\n", b"1 stdout -1 1"])
def test_a_line_that_makes_no_sense_is_unreadable(line: bytes) -> None:
    with pytest.raises(files.Unreadable):
        files.parse_line(line)


def test_the_outcome_takes_the_space_that_was_held(tmp_path: Path, dir_fd: int) -> None:
    files.prepare(dir_fd)
    held = tmp_path / ".outcome"
    assert held.stat().st_size == files.RESERVED
    inode = held.stat().st_ino
    files.write_outcome(dir_fd, {"exit_status": 0})
    assert not held.exists()
    assert (tmp_path / "outcome.json").stat().st_ino == inode
    assert files.read_json(dir_fd, files.OUTCOME) == {"exit_status": 0}


def test_an_outcome_of_any_length_fits_into_that_space(tmp_path: Path, dir_fd: int) -> None:
    files.prepare(dir_fd)
    noise = "\x00\x9b" * 100_000
    left = [noise] * 10_000
    files.write_outcome(dir_fd, {"error": noise, "note": noise, "left_behind": left})
    assert (tmp_path / "outcome.json").stat().st_size <= files.RESERVED
    named = files.read_json(dir_fd, files.OUTCOME)["left_behind"]
    assert named[-1].startswith("and ")


def test_marks_that_cannot_be_read_count_as_nothing_used(tmp_path: Path, dir_fd: int) -> None:
    files.write_marks(dir_fd, files.Marks({"stdout": 5, "stderr": 6, "records": 0}, "abc"))
    assert files.read_marks(dir_fd) == ({"stdout": 5, "stderr": 6, "records": 0}, "abc")
    for text in ("{", "[]", '{"stdout": -1, "stderr": "x", "reader": 3}', '{"stdout": true}'):
        (tmp_path / "marks.json").write_text(text)
        assert files.read_marks(dir_fd) == (dict.fromkeys(files.STREAMS, 0), None)


@pytest.mark.parametrize("kind", ["fifo", "directory", "link", "huge"])
def test_a_file_of_another_kind_is_unreadable(tmp_path: Path, dir_fd: int, kind: str) -> None:
    path = tmp_path / "job.json"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "link":
        (tmp_path / "other").write_text("{}")
        path.symlink_to("other")
    else:
        path.touch()
        os.truncate(path, 1 << 40)
    with pytest.raises(files.Unreadable):
        files.read_json(dir_fd, files.JOB)


def test_the_lock_tells_of_a_living_holder_and_asking_does_not_take_it(
    tmp_path: Path, dir_fd: int
) -> None:
    files.prepare(dir_fd)
    assert not liveness.held(dir_fd)
    release, hold = os.pipe()
    ready, told = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(hold)
            liveness.take(dir_fd)
            os.write(told, b"+")
            os.read(release, 1)
        finally:
            os._exit(0)
    os.read(ready, 1)
    assert liveness.held(dir_fd)
    assert liveness.held(dir_fd)
    os.close(hold)
    os.waitpid(pid, 0)
    assert not liveness.held(dir_fd)
    for fd in (release, ready, told):
        os.close(fd)


@pytest.mark.parametrize(
    "text",
    ["", "j", "jaaaaaaaaaaa", "jaaaaaaaaaaaaa", "gaaaaaaaaaaaa", "jaaaaaaaaaaa1", "jaaaaaaaaaaa/",
     "../aaaaaaaaaa", "jAAAAAAAAAAAA"],
)  # fmt: skip
def test_nothing_but_an_id_is_an_id(text: str) -> None:
    assert not is_job_id(text)
    assert is_job_id("jk3q7m2xv4pab")
