"""The last lines of kept output are found from its end: whatever was written how, no line of them
is missing, and little else is given."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.harness import Refused, Wire, new_id
from kept.test_reading import kept
from remit import Record
from remit._agent.kept import tailing
from remit._jobdir import files as jobdir
from remit._jobdir.cursor import Cursor
from remit._types import STREAMS
from remit._wire import records
from remit.cli._shown import Tail

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
texts = st.text("ab\n", max_size=9).map(str.encode)
outputs = st.sampled_from(["stdout", "stderr"])


class Directory:
    """Of a job, as a supervisor writes it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        for name in ("index", "stdout", "stderr"):
            (path / name).touch()

    def write(self, stream: str, data: bytes, *, indexed: bool = True) -> None:
        with (self.path / stream).open("ab") as file:
            offset = file.tell()
            file.write(data)
        if indexed:
            with (self.path / "index").open("ab") as file:
                file.write(jobdir.pack_line(1.0, stream.encode(), offset, len(data)))

    def tail(self, lines: int, stream: str | None) -> dict[str, int]:
        with self.cursor({}) as cursor:
            freed = jobdir.read_freed(cursor._dir_fd).index // jobdir.LINE_SIZE
            return tailing._Tail(cursor, freed, stream).position(lines)

    def cursor(self, position: dict[str, int]) -> _Open:
        return _Open(self.path, {**dict.fromkeys(jobdir.STREAMS, 0), **position})

    def read(self, position: dict[str, int], stream: str | None = None) -> list[Record]:
        with self.cursor(position) as cursor:
            pieces = list(iter(lambda: cursor.next(1 << 16), None))
            pieces += iter(lambda: cursor.rest(1 << 16, 1.0), None)
        made = [
            Record(STREAMS[each.stream], bytes(each.data), each.offset, 0, NOON, "j", "here")
            for each in pieces
        ]
        return [record for record in made if stream in (None, record.stream)]


class _Open:
    def __init__(self, path: Path, position: dict[str, int]) -> None:
        self._path = path
        self._position = position

    def __enter__(self) -> Cursor:
        self._fd = os.open(self._path, os.O_RDONLY)
        self._cursor = Cursor(self._fd, self._position)
        return self._cursor

    def __exit__(self, *_: object) -> None:
        self._cursor.close()
        os.close(self._fd)


def shown(read: list[Record], count: int) -> list[tuple[str, int, bytes]]:
    tail = Tail(count)
    for record in read:
        tail.add(record)
    return [
        (record.stream, record.offset + at, record.data[at : at + 1])
        for record in tail.records()
        for at in range(len(record.data))
    ]


@settings(max_examples=50)
@given(
    pieces=st.lists(st.tuples(outputs, texts.filter(bool)), max_size=12),
    rest=st.tuples(texts, texts),
    count=st.integers(1, 6),
    stream=st.sampled_from([None, "stdout", "stderr"]),
    batch=st.integers(1, 3),
)
def test_a_tail_from_its_place_is_that_of_everything(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[tuple[str, bytes]],
    rest: tuple[bytes, bytes],
    count: int,
    stream: str | None,
    batch: int,
) -> None:
    directory = Directory(tmp_path_factory.mktemp("job"))
    for name, data in pieces:
        directory.write(name, data)
    for name, data in zip(("stdout", "stderr"), rest, strict=True):
        directory.write(name, data, indexed=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tailing, "_BATCH", batch * jobdir.LINE_SIZE)
        position = directory.tail(count, stream)
    everything = directory.read({}, stream)
    given_out = directory.read(position, stream)
    shutil.rmtree(directory.path)
    assert shown(given_out, count) == shown(everything, count)
    lines = sum(record.data.count(b"\n") for record in given_out)
    assert lines <= count + 1 + sum(data.count(b"\n") for data in rest)


def test_a_line_longer_than_what_is_read_at_once_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tailing, "_BATCH", jobdir.LINE_SIZE)
    directory = Directory(tmp_path / "job")
    for data in (b"first\n", b"a" * 1000, b"b" * 1000, b"c" * 999 + b"\n", b"last"):
        directory.write("stdout", data)
    assert directory.tail(1, None)["stdout"] == 5
    assert directory.tail(2, None)["stdout"] == 0
    assert directory.read(directory.tail(1, None))[-1].data == b"last"


def test_what_was_freed_is_told_of_where_lines_are_missing(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "job")
    for number in range(10):
        directory.write("stdout", b"%d\n" % number)
    (directory.path / "freed.json").write_text(
        f'{{"index": {5 * jobdir.LINE_SIZE}, "stdout": 10, "stderr": 0}}'
    )
    assert directory.tail(3, None)["stdout"] == 13
    assert directory.tail(7, None)["stdout"] == 0


def test_records_of_a_function_are_begun_at_one(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "job")
    (directory.path / "records").touch()
    begins = [0]
    for number in range(10):
        kind = records.LOG if number % 2 else records.ITEM
        record = records.HEAD.pack(kind, number, 1.0, 100_000) + bytes(100_000)
        directory.write("records", record[:50_000])
        directory.write("stdout", b"line\n")
        directory.write("records", record[50_000:])
        begins.append(begins[-1] + len(record))
    directory.write("records", records.HEAD.pack(records.DONE, 0, 1.0, 0))
    directory.write("records", b"torn")
    assert directory.tail(3, None)["records"] == begins[7]
    assert directory.tail(2, "log")["records"] == begins[7]
    assert directory.tail(2, "value")["records"] == begins[6]
    assert directory.tail(99, "value")["records"] == 0
    end = begins[10] + records.HEAD.size
    assert directory.tail(2, "stdout") == {"records": end, "stdout": 39, "stderr": 0}


def test_a_stream_that_was_silent_for_long_is_passed_over(tmp_path: Path) -> None:
    directory = Directory(tmp_path / "job")
    directory.write("stderr", b"early\n" * 10)
    with (directory.path / "index").open("ab") as index:
        for at in range(50_000):
            index.write(jobdir.pack_line(1.0, b"stdout", at * 1000, 1000))
    os.truncate(directory.path / "stdout", 50_000_000)
    directory.write("stdout", b"1\n2\n3\n")
    assert directory.tail(2, None) == {"stdout": 50_000_001, "stderr": 60}
    assert directory.tail(1, "stderr") == {"stdout": 50_000_006, "stderr": 53}


def test_the_verb_answers_and_knows_no_job_that_is_not_there(wire: Wire) -> None:
    job_id = kept(wire, "printf 'a\\nb\\nc\\n'")
    assert wire.call("tail", job=job_id, lines=1)["position"]["stdout"] == 3
    assert wire.call("tail", job=job_id, lines=9)["position"]["stdout"] == 0
    with pytest.raises(Refused) as refused:
        wire.call("tail", job=new_id(), lines=1)
    assert refused.value.facts["code"] == "not-found"
